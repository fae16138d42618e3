"""What the app says of a month, member by member, to be held against the records.

Of the running month the counters say it, of a past month its snapshots do.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals.options import month_asked, running_month
from maintenance_pipelines.systems.referrals.schema import member, monthly_snapshot


def claims(scope: Scope) -> sa.Select[Any]:
    """Every member's `referrals` and `earnings` of the month as the app has them.

    Columns: `id`, `code`, `total` (referred in all), `referrals`, `earnings`. The last two are
    NULL where a past month has no snapshot of the member: nothing is claimed.
    """
    month = month_asked(scope)
    columns = (
        member.c.id,
        member.c.referralCode.label("code"),
        member.c.totalReferred.label("total"),
    )
    if month == running_month(scope):
        return sa.select(
            *columns,
            member.c.monthlyReferred.label("referrals"),
            member.c.monthlyEarnings.label("earnings"),
        )
    of_month = sa.and_(
        monthly_snapshot.c.memberId == member.c.id, monthly_snapshot.c.month == str(month)
    )
    return sa.select(
        *columns,
        monthly_snapshot.c.monthlyReferrals.label("referrals"),
        monthly_snapshot.c.monthlyEarnings.label("earnings"),
    ).select_from(member.outerjoin(monthly_snapshot, of_month))
