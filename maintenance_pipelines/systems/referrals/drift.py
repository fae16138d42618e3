"""Whose numbers are not those of the records: the statement behind `monthly_stats_recalculation`.

Of the running month the counters are compared, of a past month its snapshots, as `claims.py`
has it for the checks. Whoever is right does not appear.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Candidates, Scope
from maintenance_pipelines.systems.referrals.archiving import snapshots_of
from maintenance_pipelines.systems.referrals.options import options, running_month
from maintenance_pipelines.systems.referrals.schema import member
from maintenance_pipelines.systems.referrals.statements import built_once
from maintenance_pipelines.systems.referrals.subjects import Counter, Element, Subject

EXCEEDS_TOTAL = "truth_exceeds_total"
WAS = "was_"


def is_running(scope: Scope) -> bool:
    """Whether the month asked about is not over yet, so that its counters are meant."""
    return scope.month >= running_month(scope)


def compared(subject: Subject, scope: Scope) -> tuple[Counter, ...]:
    """The numbers that are compared: the counters, or all that a snapshot has."""
    return subject.counters if is_running(scope) else subject.archived


def drifted(subject: Subject) -> Candidates:
    """The candidates of the recalculation: whoever is not as the records say.

    Facts: `referrals` and `cents`, the truth of the month; `was_referrals` and `was_cents`, what
    the app keeps in their place, NULL where nothing is; `snapshotId`, of a past month, NULL where
    there is none; `was_lastMonthReset` and `was_updatedAt`.
    """

    def compare(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
        table, ignore = subject.table, options(scope).ignore_refunds
        records = subject.truth(scope.month, ignore_refunds=ignore, among=among).subquery("records")
        found = table.join(records, records.c.id == table.c.id)
        numbers, snapshot_id = compared(subject, scope), _nothing(sa.Text())
        kept: dict[str, Element]
        if is_running(scope):
            kept = {number.fact: table.c[number.column] for number in numbers}
        else:
            snapshot = snapshots_of(subject, scope.month, among)
            found = found.outerjoin(snapshot, subject.has(snapshot))
            kept = {number.fact: snapshot.c[number.archived] for number in numbers}
            snapshot_id = snapshot.c.id
        wrong = sa.or_(
            *(number.differs(kept[number.fact], records.c[number.fact]) for number in numbers)
        )
        if not is_running(scope):
            missing = sa.and_(snapshot_id.is_(None), subject.there_before(scope.month))
            wrong = sa.or_(missing, sa.and_(snapshot_id.is_not(None), wrong))
        return (
            sa.select(
                table.c.id,
                subject.owner.label("creatorId"),
                snapshot_id.label("snapshotId"),
                records.c.referrals,
                records.c.cents,
                kept.get("referrals", _nothing(sa.Integer())).label(f"{WAS}referrals"),
                kept.get("cents", _nothing(sa.Double())).label(f"{WAS}cents"),
                table.c.lastMonthReset.label(f"{WAS}lastMonthReset"),
                table.c.updatedAt.label(f"{WAS}updatedAt"),
                _reason(subject, records).label("reason"),
            )
            .select_from(found)
            .where(wrong)
        )

    return built_once(compare)


def _nothing(type_: sa.types.TypeEngine[Any]) -> Element:
    return sa.cast(sa.null(), type_)


def _reason(subject: Subject, records: sa.Subquery) -> Element:
    """Why it is left alone: more referrals in the month than in all cannot be right."""
    if not subject.is_member:
        return _nothing(sa.Text())
    exceeds = records.c.referrals > member.c.totalReferred
    return sa.cast(sa.case((exceeds, EXCEEDS_TOTAL), else_=sa.null()), sa.Text)
