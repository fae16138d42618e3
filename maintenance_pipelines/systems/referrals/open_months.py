"""Whose month is still open: the statement behind `monthly_stats_reset`.

A month is closed for a member or creator once there is a snapshot of it and the counters belong
to a later month. Both are compared in one statement, with the records of the month that is
archived and of the running one beside them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Candidates, Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.archiving import snapshots_of
from maintenance_pipelines.systems.referrals.options import options, running_month
from maintenance_pipelines.systems.referrals.statements import built_once
from maintenance_pipelines.systems.referrals.subjects import Subject

CREATED_AFTER, ALREADY_RESET = "created_after_month", "already_reset"
WAS, ARCHIVED, RUNNING = "was_", "archived_", "running_"
"""How facts are named: what a column held before, and the records' numbers of the two months."""


def open_month(subject: Subject) -> Candidates:
    """The candidates of the reset: every member, or every creator.

    Facts: `archive` (a snapshot is to be written) and `renew` (the counters are to be set),
    `archived_…` and `running_…` with the truth of the two months, `was_…` of every column that a
    renewal sets.
    """

    def compared(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
        table, month, running = subject.table, scope.month, running_month(scope)
        archived = _truth(subject, scope, month, among).subquery("archived")
        current = _truth(subject, scope, running, among).subquery("current")
        snapshot = snapshots_of(subject, month, among)
        archive, renew = snapshot.c.id.is_(None), renewable(subject, month)
        reason = sa.case(
            (~subject.there_before(month), CREATED_AFTER),
            (sa.and_(~archive, ~renew), ALREADY_RESET),
            else_=sa.null(),
        )
        needed = {counter.fact for counter in subject.counters}
        columns = [*(counter.column for counter in subject.counters), "lastMonthReset", "updatedAt"]
        return sa.select(
            table.c.id,
            subject.owner.label("creatorId"),
            archive.label("archive"),
            renew.label("renew"),
            *(archived.c[c.fact].label(ARCHIVED + c.fact) for c in subject.archived),
            *(current.c[fact].label(RUNNING + fact) for fact in sorted(needed)),
            *(table.c[name].label(WAS + name) for name in columns),
            sa.cast(reason, sa.Text).label("reason"),
        ).select_from(
            table.join(archived, archived.c.id == table.c.id)
            .join(current, current.c.id == table.c.id)
            .outerjoin(snapshot, subject.has(snapshot))
        )

    return built_once(compared)


def renewable(subject: Subject, month: Month) -> sa.ColumnElement[bool]:
    """Whether the counters do not yet belong to a month later than this one.

    They belong to the month in which they were last reset. Those of a later month are left
    alone: they are that month's to archive.
    """
    reset = subject.table.c.lastMonthReset
    return sa.func.coalesce(reset < truth.moment(month.end), sa.true())


def _truth(
    subject: Subject, scope: Scope, month: Month, among: sa.FromClause | None
) -> sa.Select[Any]:
    return subject.truth(month, ignore_refunds=options(scope).ignore_refunds, among=among)
