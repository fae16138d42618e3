"""Who is in the middle of being counted.

A webhook may write a row in one transaction and the counter in a second one. Whoever has a row
younger than `REFERRALS_SETTLE_SECONDS` by the server's clock is put off, so that the counter is
not set to what the second transaction will add once more.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals.options import options
from maintenance_pipelines.systems.referrals.schema import commission, member, refund
from maintenance_pipelines.systems.referrals.subjects import Subject

newcomer = member.alias("newcomer")


def settle_seconds(scope: Scope) -> float:
    """How long a row has to be there before its counter can be relied on."""
    return options(scope).settle_seconds


def unsettled(subject: Subject, scope: Scope, among: sa.FromClause) -> sa.Select[Any]:
    """The `id` of those among the given ones who have a row that is too young."""
    if options(scope).settle_seconds == 0:
        return sa.select(among.c.id).where(sa.false())
    # The time of the statement, not of this very instant: only then an index can be used.
    now = sa.func.timezone("UTC", sa.func.statement_timestamp())
    settle = sa.func.make_interval(0, 0, 0, 0, 0, 0, options(scope).settle_seconds)
    return sa.select(among.c.id).where(counted_since(subject, scope, now - settle, among.c.id))


def counted_since(
    subject: Subject, scope: Scope, since: sa.ColumnElement[Any], id: sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """Whether the one with that id has a commission, refund or new referral created since.

    New referrals are counted for members only.
    """
    whose = commission.c.memberId if subject.is_member else commission.c.creatorId
    recent = [sa.select(whose).where(commission.c.createdAt >= since)]
    if not options(scope).ignore_refunds:
        taken_back = refund.join(commission, commission.c.id == refund.c.commissionId)
        recent.append(sa.select(whose).select_from(taken_back).where(refund.c.createdAt >= since))
    if subject.is_member:
        referrer = member.join(newcomer, newcomer.c.referredBy == member.c.referralCode)
        referred = sa.select(member.c.id).select_from(referrer)
        recent.append(referred.where(newcomer.c.createdAt >= since))
    return id.in_(sa.union_all(*recent))
