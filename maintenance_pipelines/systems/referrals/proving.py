"""What must hold of those whom a job has changed, read anew from the tables.

Rules are judged as of the plan. What the app has added since is not held against a run: a
difference of somebody whom the app has written to since is the hourly check's to report.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.drift import drifted
from maintenance_pipelines.systems.referrals.options import options, running_month
from maintenance_pipelines.systems.referrals.schema import monthly_snapshot
from maintenance_pipelines.systems.referrals.settling import counted_since
from maintenance_pipelines.systems.referrals.subjects import Element, Subject, archived_in

Offenders = sa.Select[Any]

snapshot = monthly_snapshot.alias("snapshot")


def written_at(scope: Scope, was: Element) -> Element:
    """What `updatedAt` was set to: the job's now, but never back."""
    return sa.func.greatest(was, truth.moment(scope.naive_as_of))


def unarchived(subject: Subject, scope: Scope, units: sa.FromClause) -> Offenders:
    """Units that are still there and have no snapshot of the scope's month."""
    table = subject.table
    both = units.join(table, table.c.id == units.c.id)
    return sa.select(units.c.id).select_from(both).where(~archived_in(subject, scope.month))


def archived_twice(scope: Scope) -> Offenders:
    """Creators with more than one snapshot of the scope's month."""
    columns = snapshot.c
    of_month = sa.select(columns.creatorId.label("id")).where(
        columns.month == str(scope.month), columns.memberId.is_(None)
    )
    return of_month.group_by(columns.creatorId).having(sa.func.count() > 1)


def archived_wrongly(
    subject: Subject, scope: Scope, units: sa.FromClause, prefix: str
) -> Offenders:
    """Units whose snapshot is neither what the records said when it was written (the facts named
    with the prefix) nor what they say now: a late record makes it differ from the latter only.
    """
    table, facts = subject.table, units.c
    other = [c.differs(snapshot.c[c.archived], facts[prefix + c.fact]) for c in subject.archived]
    kept = units.join(table, table.c.id == facts.id).join(snapshot, subject.has(snapshot))
    numbers = [snapshot.c[c.archived] for c in subject.archived]
    of_month = sa.and_(snapshot.c.month == str(scope.month), sa.or_(*other))
    suspects = sa.select(facts.id, *numbers).select_from(kept).where(of_month).cte("suspects")
    records = _truth_of(subject, scope, suspects)
    wrong = [c.differs(suspects.c[c.archived], records.c[c.fact]) for c in subject.archived]
    return (
        sa.select(suspects.c.id)
        .select_from(suspects.join(records, records.c.id == suspects.c.id))
        .where(sa.or_(*wrong))
    )


def snapshots_off_the_records(subject: Subject, scope: Scope) -> Offenders:
    """Everybody whose snapshot of the scope's month, whoever wrote it, is not as the records."""
    off = _drifted(subject, scope)
    return sa.select(off.c.id).where(off.c.snapshotId.is_not(None))


def counted_wrongly(subject: Subject, scope: Scope, units: sa.FromClause) -> Offenders:
    """Units whose counters are not what the records of the running month say.

    Left out is whom the app has counted since, or may be about to: the row has been written
    again, or a record is younger than the plan, less the time that webhooks are given to settle.
    """
    table = subject.table
    off = _drifted(subject, replace(scope, partition=str(running_month(scope))))
    both = off.join(units, units.c.id == off.c.id).join(table, table.c.id == off.c.id)
    ours = table.c.updatedAt == written_at(scope, units.c.was_updatedAt)
    wrong = sa.select(off.c.id).select_from(both).where(ours).cte("wrong")
    since = truth.moment(scope.naive_as_of - timedelta(seconds=options(scope).settle_seconds))
    return sa.select(wrong.c.id).where(~counted_since(subject, scope, since, wrong.c.id))


def _drifted(subject: Subject, scope: Scope) -> sa.Subquery:
    """Whoever is not as the records say; as `drifted` says it, evaluated by itself.

    Conditions on it would else be mixed with its own, of which the planner knows too little: it
    expects one row where there are all, and joins that with everything row by row.
    """
    return drifted(subject)(scope, None).offset(sa.literal_column("0")).subquery("drifted")


def _truth_of(subject: Subject, scope: Scope, among: sa.FromClause | None) -> sa.Subquery:
    ignore = options(scope).ignore_refunds
    return subject.truth(scope.month, ignore_refunds=ignore, among=among).subquery("records")
