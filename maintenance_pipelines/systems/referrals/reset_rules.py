"""What must hold after a reset: all archived, once and truly; counters of the running month."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Rule, Scope
from maintenance_pipelines.systems.referrals import proving
from maintenance_pipelines.systems.referrals.open_months import ARCHIVED
from maintenance_pipelines.systems.referrals.proving import Offenders
from maintenance_pipelines.systems.referrals.subjects import Subject


def rules(subject: Subject) -> tuple[Rule, ...]:
    """The rules for members, or for creators."""
    who, says = subject.name, subject.says

    def unarchived(scope: Scope, applied: sa.FromClause) -> Offenders:
        return proving.unarchived(subject, scope, _archived(applied))

    def untrue(scope: Scope, applied: sa.FromClause) -> Offenders:
        return proving.archived_wrongly(subject, scope, _archived(applied), ARCHIVED)

    def off_the_records(scope: Scope, applied: sa.FromClause) -> Offenders:
        return proving.snapshots_off_the_records(subject, scope)

    def miscounted(scope: Scope, applied: sa.FromClause) -> Offenders:
        renewed = sa.select(applied).where(applied.c.renew).subquery("renewed")
        return proving.counted_wrongly(subject, scope, renewed)

    always = (
        Rule(
            f"every_{who}_archived",
            f"All {says} who were to be archived have a snapshot of the month",
            unarchived,
        ),
        Rule(
            f"{who}_snapshots_equal_records",
            f"The new snapshots of {says} are what the records say of the month",
            untrue,
        ),
        Rule(
            f"{who}_counters_equal_records",
            f"The counters of {says} are what the records say of the running month",
            miscounted,
        ),
        Rule(
            f"{who}_archive_equals_records",
            f"All snapshots of {says}, older ones too, are what the records say of the month now",
            off_the_records,
            "warning",
        ),
    )
    return always if subject.is_member else (*always, *_only_once())


def _only_once() -> tuple[Rule, ...]:
    """The app's unique key lets a creator's snapshots double, since they belong to no member."""

    def ours(scope: Scope, applied: sa.FromClause) -> Offenders:
        twice, archived = proving.archived_twice(scope).subquery("twice"), _archived(applied)
        return sa.select(twice.c.id).where(twice.c.id.in_(sa.select(archived.c.id)))

    def anybodys(scope: Scope, applied: sa.FromClause) -> Offenders:
        return proving.archived_twice(scope)

    return (
        Rule("creators_archived_once", "Nobody archived by this run has two snapshots", ours),
        Rule(
            "creators_archived_once_by_all",
            "No creator has two snapshots of the month, older ones included",
            anybodys,
            "warning",
        ),
    )


def _archived(applied: sa.FromClause) -> sa.FromClause:
    return sa.select(applied).where(applied.c.archive).subquery("archived")
