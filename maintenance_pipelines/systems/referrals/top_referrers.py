"""The table that users look at: who has referred the most.

Answered from an index, in order, so that only the rows shown are read: over all communities by
`WANTED`, for one creator by the app's own (`"creatorId"`, `"totalReferred"`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.tables import table
from maintenance_pipelines.systems.referrals.schema import member

WANTED = ("totalReferred", "monthlyReferred")
"""The index on `"Member"` that the question over all communities wants, and the app lacks."""


def top_referrers(limit: int = 10, creator_id: str | None = None) -> sa.Select[Any]:
    """`id`, `name`, `total`, `this month` and `tier`, by total, then month.

    Over all communities, or for one creator. *This month* is the counter.
    """
    found = sa.select(
        member.c.id,
        member.c.username.label("name"),
        member.c.totalReferred.label("total"),
        member.c.monthlyReferred.label("this month"),
        member.c.currentTier.label("tier"),
    )
    if creator_id is not None:
        found = found.where(member.c.creatorId == creator_id)
    # Whoever ties comes by id, so that the table is the same each time.
    return found.order_by(
        member.c.totalReferred.desc(), member.c.monthlyReferred.desc(), member.c.id
    ).limit(limit)


def markdown(connection: sa.Connection, limit: int = 10, creator_id: str | None = None) -> str:
    """The table, with ranks and without ids."""
    rows = connection.execute(top_referrers(limit, creator_id)).all()
    ranked = [(rank, *row[1:]) for rank, row in enumerate(rows, 1)]
    return table("Top referrers", ["", "name", "total referred", "this month", "tier"], ranked)
