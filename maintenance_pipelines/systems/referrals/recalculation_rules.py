"""What must hold after a recalculation: whoever was changed is as the records say."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Rule, Scope
from maintenance_pipelines.systems.referrals import proving, truth
from maintenance_pipelines.systems.referrals.drift import is_running
from maintenance_pipelines.systems.referrals.options import options
from maintenance_pipelines.systems.referrals.proving import Offenders
from maintenance_pipelines.systems.referrals.schema import member
from maintenance_pipelines.systems.referrals.subjects import Subject


def rules(subject: Subject) -> tuple[Rule, ...]:
    """The rules for members, or for creators."""

    def off(scope: Scope, applied: sa.FromClause) -> Offenders:
        if is_running(scope):
            return proving.counted_wrongly(subject, scope, applied)
        return proving.archived_wrongly(subject, scope, applied, "")

    equal = Rule(
        f"{subject.name}_values_equal_records",
        f"Every recalculated value of {subject.says} is what the records say of the month",
        off,
    )
    within = Rule(
        "records_within_total",
        "Nobody was left alone because the records have more referrals than there are in all",
        beyond_total,
        "warning",
    )
    return (equal, within) if subject.is_member else (equal,)


def beyond_total(scope: Scope, applied: sa.FromClause) -> Offenders:
    """Members with more referrals in the month, by the records, than in all, by the app."""
    ignore = options(scope).ignore_refunds
    records = truth.members(scope.month, ignore_refunds=ignore).subquery("records")
    return (
        sa.select(member.c.id)
        .select_from(member.join(records, records.c.id == member.c.id))
        .where(records.c.referrals > member.c.totalReferred)
    )
