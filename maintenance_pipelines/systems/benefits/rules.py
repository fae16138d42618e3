"""What must hold after a backfill, of the app's data itself."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Rule, Scope
from maintenance_pipelines.systems.benefits import cycles, overlaps
from maintenance_pipelines.systems.benefits.schema import benefit_status


def overlapping(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
    """Ids of applied statuses that share a period with another of their benefit and user.

    Sharing is more than 24 hours in common, or the same period at another hour (both ends
    within 24 hours). Only statuses that existed at `as_of` are held against the plan.
    """
    start, end = applied.c.new_cycleStartDate, applied.c.new_cycleEndDate
    another = sa.exists().where(
        benefit_status.c.benefitId == applied.c.new_benefitId,
        benefit_status.c.userId == applied.c.new_userId,
        benefit_status.c.occurrenceIndex == applied.c.new_occurrenceIndex,
        benefit_status.c.id != applied.c.new_id,
        benefit_status.c.createdAt <= cycles.moment(scope.naive_as_of),
        overlaps.could_meet(scope.month),
        sa.or_(overlaps.same_at_another_hour(start, end), overlaps.shares_a_day(start, end)),
    )
    return sa.select(applied.c.new_id).where(another)


no_overlapping_cycle = Rule(
    name="no_overlapping_cycle",
    says="No new status shares more than 24 hours with another of the same benefit, user and"
    " occurrence, nor is it the same cycle at another hour",
    offenders=overlapping,
)
