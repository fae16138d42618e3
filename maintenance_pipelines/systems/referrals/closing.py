"""When a month may be closed, and which months never were."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines.systems.referrals.options import FIRST_MONTH, running_month
from maintenance_pipelines.systems.referrals.schema import creator, member, monthly_snapshot

# What began before the end may still commit a row of the month. Of other users' transactions a
# role sees the beginning only with `pg_read_all_stats`; what it does not see is not there.
STILL_OPEN = sa.text(
    """
    SELECT count(*) AS transactions, min(began) AT TIME ZONE 'UTC' AS oldest
      FROM (SELECT xact_start AS began FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND backend_type = 'client backend'
             UNION ALL
            SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()) AS t
     WHERE began < CAST(:end AS timestamp) AT TIME ZONE 'UTC'
    """
)


def demand_closable(connection: sa.Connection, scope: Scope) -> None:
    """Refuses a month that is not over (`BadInput`), and one of which a transaction that began
    before its end is still open (`Guarded`), where this role may see that.
    """
    month = scope.month
    if month.end > scope.naive_as_of:
        raise BadInput(
            f"Month {month} is not over, it ends at {month.end:%Y-%m-%d %H:%M} UTC; "
            "only a month that is over can be archived."
        )
    found = connection.execute(STILL_OPEN, {"end": month.end}).one()
    if found.transactions:
        raise Guarded(
            f"Month {month} cannot be closed yet: {found.transactions} transactions that began "
            f"before its end are still open, the oldest since {found.oldest:%Y-%m-%d %H:%M:%S} "
            "UTC, and may still write to it; run it again once they have ended."
        )


def months_never_reset(connection: sa.Connection, scope: Scope) -> list[Month]:
    """The months that are over and have no snapshot at all, the earliest first.

    Begins with the month of the first member or creator, at the earliest with the jobs' first
    partition. Costs a look at an index for each month, not a reading of the tables.
    """
    firsts = [sa.select(sa.func.min(table.c.createdAt)) for table in (member, creator)]
    earliest = sa.select(sa.func.least(*(first.scalar_subquery() for first in firsts)))
    first = connection.execute(earliest).scalar_one()
    if first is None:
        return []
    month = max(Month.of(first), Month.parse(FIRST_MONTH))
    months = []
    while month < running_month(scope):
        of_month = sa.exists().where(monthly_snapshot.c.month == str(month))
        if not connection.execute(sa.select(of_month)).scalar_one():
            months.append(month)
        month = month.plus(1)
    return months
