"""The job: counters, or a past month's snapshots, are again what the records say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import AssetNames, Job, Outcome, Scope
from maintenance_pipelines.engine.months import Months
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows, UpdateRows
from maintenance_pipelines.systems.referrals import proving, recalculation_rules
from maintenance_pipelines.systems.referrals.archiving import new_snapshots
from maintenance_pipelines.systems.referrals.auditing import Change, audited, undoing
from maintenance_pipelines.systems.referrals.drift import WAS, compared, drifted, is_running
from maintenance_pipelines.systems.referrals.options import FIRST_MONTH, ReferralsOptions, adapted
from maintenance_pipelines.systems.referrals.schema import TABLES, monthly_snapshot
from maintenance_pipelines.systems.referrals.settling import settle_seconds, unsettled
from maintenance_pipelines.systems.referrals.subjects import CREATORS, MEMBERS, Subject

RESET_SINCE = "reset_since"


def rebuild(subject: Subject) -> Part:
    """The numbers of each member, or of each creator, with their audit rows: one unit.

    Counters in the running month; of a past one the snapshot, which is made where it is missing.
    """
    table = subject.table

    def counters(work: Work) -> sa.Select[Any]:
        facts = work.units.c
        before = facts[f"{WAS}updatedAt"]
        return sa.select(
            facts.position,
            facts.id,
            *(facts[WAS + c.fact].label(f"old_{c.column}") for c in subject.counters),
            *(
                c.settled(facts[WAS + c.fact], facts[c.fact]).label(f"new_{c.column}")
                for c in subject.counters
            ),
            before.label("old_updatedAt"),
            proving.written_at(work.scope, before).label("new_updatedAt"),
        ).where(_only(is_running(work.scope)))

    def missing(work: Work) -> sa.Select[Any]:
        when = sa.and_(_only(not is_running(work.scope)), work.units.c.snapshotId.is_(None))
        return new_snapshots(subject, work, "", when)

    def snapshots(work: Work) -> sa.Select[Any]:
        facts = work.units.c
        return sa.select(
            facts.position,
            facts.snapshotId.label("id"),
            *(facts[WAS + c.fact].label(f"old_{c.archived}") for c in subject.archived),
            *(
                c.settled(facts[WAS + c.fact], facts[c.fact]).label(f"new_{c.archived}")
                for c in subject.archived
            ),
        ).where(_only(not is_running(work.scope)), facts.snapshotId.is_not(None))

    def changes(work: Work) -> Iterator[Change]:
        facts = work.units.c
        for c in compared(subject, work.scope):
            was, real = facts[WAS + c.fact], facts[c.fact]
            if is_running(work.scope):
                yield Change(table, facts.id, c.column, c, was, c.value(real), c.differs(was, real))
            else:
                when = sa.and_(facts.snapshotId.is_not(None), c.differs(was, real))
                snapshot, id = monthly_snapshot, facts.snapshotId
                yield Change(snapshot, id, c.archived, c, was, c.value(real), when)

    def busy(scope: Scope, among: sa.FromClause) -> sa.Select[Any]:
        # No webhook adds to a snapshot.
        return unsettled(subject, scope, among).where(_only(is_running(scope)))

    def reset_since(work: Work) -> sa.Select[Any]:
        """Counters that belong to another month by now: the difference is none of theirs."""
        facts = work.units.c
        reset = table.c.lastMonthReset.is_distinct_from(facts[f"{WAS}lastMonthReset"])
        return (
            sa.select(facts.position, sa.literal(RESET_SINCE).label("reason"))
            .select_from(work.units.join(table, table.c.id == facts.id))
            .where(_only(is_running(work.scope)), reset)
        )

    return Part(
        name=subject.name,
        says=subject.says,
        key="id",
        due=drifted(subject),
        writes=(
            UpdateRows(table, counters, kept=("updatedAt",), additive=undoing(subject.counters)),
            InsertRows(monthly_snapshot, missing),
            UpdateRows(monthly_snapshot, snapshots),
            audited(changes, lambda work: "recalculation"),
        ),
        # As for the reset: commissions that are being inserted have to be waited for.
        locks=(Lock(table, "id", "update"),),
        recomputed=True,
        busy=busy,
        settle_s=lambda scope: settle_seconds(scope) if is_running(scope) else 0.0,
        stays=reset_since,
        rules=recalculation_rules.rules(subject),
    )


def result(outcome: Outcome) -> Mapping[str, Any]:
    """What the log's last line says beside the engine's counts."""
    counts = {f"{name}s": count for name, count in outcome.applied.items()}
    return {"month": outcome.scope.partition, **counts}


def _only(condition: bool) -> sa.ColumnElement[bool]:
    return sa.true() if condition else sa.false()


monthly_stats_recalculation = Job(
    name="monthly_stats_recalculation",
    system="referrals",
    says="Counters, or a past month's snapshots, are what the records say",
    assets=AssetNames(
        detected="drifted_monthly_stats",
        materialized="recalculated_monthly_stats",
        verified="verified_monthly_stats",
    ),
    partitions=Months(since=FIRST_MONTH),
    options=ReferralsOptions,
    relies_on=TABLES,
    change=Units(parts=(rebuild(MEMBERS), rebuild(CREATORS))),
    adapt=adapted,
    result=result,
)
