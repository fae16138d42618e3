"""Prune: old plans are dropped; with them goes the way back, and what a run did stays known."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, plans, runs
from maintenance_pipelines.engine.database import Database


def prune(database: Database, days: int) -> list[str]:
    """Drops the plan tables of runs that ended, or were planned and left, more than `days` ago.

    Returns the ids of the runs that can no longer be rolled back. Runs under way are kept.
    """
    ended = sa.func.coalesce(ledger.run.c.finished_at, ledger.run.c.created_at)
    old = sa.select(ledger.run.c.id).where(
        ledger.run.c.pruned_at.is_(None),
        ledger.run.c.state.in_(runs.SETTLED | {"planned"}),
        ended < sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, days),
    )
    with database.transaction() as connection:
        if not ledger.is_current(connection):
            return []
        pruned = list(connection.scalars(old.order_by(ledger.run.c.created_at)))
        for run_id in pruned:
            plans.drop(connection, run_id)
        gone = ledger.granule.delete().where(ledger.granule.c.run_id.in_(pruned))
        connection.execute(gone)
        mark = ledger.run.update().where(ledger.run.c.id.in_(pruned))
        connection.execute(mark.values(pruned_at=sa.func.clock_timestamp()))
        return pruned
