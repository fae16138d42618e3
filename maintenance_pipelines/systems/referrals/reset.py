"""The job: on the 1st each month is archived, and the counters are the new one's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import AssetNames, Job, Outcome, Scope
from maintenance_pipelines.engine.months import Months
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows, UpdateRows
from maintenance_pipelines.systems.referrals import reset_rules, truth
from maintenance_pipelines.systems.referrals.archiving import new_snapshots
from maintenance_pipelines.systems.referrals.auditing import Change, audited, by_whom, undoing
from maintenance_pipelines.systems.referrals.closing import demand_closable
from maintenance_pipelines.systems.referrals.open_months import (
    ALREADY_RESET,
    ARCHIVED,
    RUNNING,
    WAS,
    open_month,
    renewable,
)
from maintenance_pipelines.systems.referrals.options import FIRST_MONTH, ReferralsOptions, adapted
from maintenance_pipelines.systems.referrals.reset_summaries import summaries
from maintenance_pipelines.systems.referrals.schema import TABLES, monthly_snapshot
from maintenance_pipelines.systems.referrals.settling import settle_seconds, unsettled
from maintenance_pipelines.systems.referrals.subjects import CREATORS, MEMBERS, Subject


def archive_and_renew(subject: Subject) -> Part:
    """Snapshot, counters and audit rows of each member, or of each creator: one unit."""
    table = subject.table

    def snapshots(work: Work) -> sa.Select[Any]:
        return new_snapshots(subject, work, ARCHIVED, work.units.c.archive)

    def counters(work: Work) -> sa.Select[Any]:
        facts, now = work.units.c, truth.moment(work.scope.naive_as_of)
        new = {
            c.column: c.settled(facts[WAS + c.column], facts[RUNNING + c.fact])
            for c in subject.counters
        }
        new["lastMonthReset"] = now
        new["updatedAt"] = sa.func.greatest(facts[WAS + "updatedAt"], now)
        return sa.select(
            facts.position,
            facts.id,
            *(facts[WAS + name].label(f"old_{name}") for name in new),
            *(value.label(f"new_{name}") for name, value in new.items()),
        ).where(facts.renew)

    def changes(work: Work) -> Iterator[Change]:
        facts = work.units.c
        for c in subject.counters:
            was, real = facts[WAS + c.column], facts[RUNNING + c.fact]
            when = sa.and_(facts.renew, c.differs(was, real))
            yield Change(table, facts.id, c.column, c, was, c.value(real), when)

    def busy(scope: Scope, among: sa.FromClause) -> sa.Select[Any]:
        # Who only gets a snapshot has nothing that a webhook would add to.
        open_ones = sa.select(table.c.id).where(renewable(subject, scope.month))
        return unsettled(subject, scope, among).where(among.c.id.in_(open_ones))

    return Part(
        name=subject.name,
        says=subject.says,
        key="id",
        due=open_month(subject),
        writes=(
            InsertRows(monthly_snapshot, snapshots),
            UpdateRows(table, counters, kept=("updatedAt",), additive=undoing(subject.counters)),
            audited(changes, by_whom),
        ),
        # A weaker lock would not wait for commissions that are being inserted: their foreign key
        # holds the member, and then the creator, by KEY SHARE.
        locks=(Lock(table, "id", "update"),),
        recomputed=True,
        done=frozenset({ALREADY_RESET}),
        busy=busy,
        settle_s=settle_seconds,
        rules=reset_rules.rules(subject),
        summaries=summaries(subject),
    )


def result(outcome: Outcome) -> Mapping[str, Any]:
    """What the log's last line says beside the engine's counts."""
    counts = {f"{name}s": count for name, count in outcome.applied.items()}
    return {"month": outcome.scope.partition, **counts}


monthly_stats_reset = Job(
    name="monthly_stats_reset",
    system="referrals",
    says="The month is archived for everybody, and the counters are those of the running month",
    assets=AssetNames(
        detected="open_months",
        materialized="closed_months",
        verified="verified_closed_months",
    ),
    partitions=Months(since=FIRST_MONTH),
    # Past the settle time, so that rows stamped before midnight have been committed.
    schedule="5 0 1 * *",
    schedule_lag=1,
    options=ReferralsOptions,
    relies_on=TABLES,
    change=Units(parts=(archive_and_renew(MEMBERS), archive_and_renew(CREATORS))),
    adapt=adapted,
    admit=demand_closable,
    result=result,
)
