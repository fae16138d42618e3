"""`"AuditLog"`: one row for every number that a job changes, and one more where it is taken back.

Values are written as the app's own JavaScript would write them: `7`, `24.99`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from maintenance_pipelines.engine.identifiers import cuid_of
from maintenance_pipelines.engine.units import Work
from maintenance_pipelines.engine.writes import Additive, InsertRows
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.schema import MOMENT, audit_log
from maintenance_pipelines.systems.referrals.subjects import Counter, Element

ROLLBACK = "rollback"
NOW = sa.cast(sa.func.timezone("UTC", sa.func.clock_timestamp()), MOMENT)
"""When it really was, by the server's clock, in UTC as the app stores times."""


@dataclass(frozen=True)
class Change:
    """One number of some row: before, after, and of which units it changes at all."""

    table: sa.Table
    id: Element
    column: str
    counter: Counter
    before: Element
    after: Element
    when: sa.ColumnElement[bool]


Changes = Callable[[Work], Iterable[Change]]


def audited(changes: Changes, cause: Callable[[Work], str]) -> InsertRows:
    """The audit rows of a unit's changes. `cause` is what `triggeredBy` says."""

    def rows(work: Work) -> sa.Select[Any]:
        return _together(_row(work, change, cause(work)) for change in changes(work))

    def reversal(work: Work) -> sa.Select[Any]:
        return _together(_reversing_row(work, change) for change in changes(work))

    return InsertRows(audit_log, rows, stamps={"createdAt": NOW}, reversal=reversal)


def by_whom(work: Work) -> str:
    """Whether a schedule has asked for the run, or a person."""
    return "manual" if work.by_person else "cron"


def taken_back(counter: Counter, current: Element, before: Element, after: Element) -> Element:
    """A counter without a change that was made to it, whatever has been added since.

    To the cent where it is money: what was put there by the change is taken off exactly, and
    the very number from before returns where nothing was added.
    """
    if not counter.is_money:
        return current + before - after
    cents = truth.cents(current) + truth.cents(before) - truth.cents(after)
    return sa.case((current == after, before), else_=truth.amount(cents))


def undoing(counters: Iterable[Counter]) -> dict[str, Additive]:
    """How each of the counters is taken back, by its column."""
    return {counter.column: partial(taken_back, counter) for counter in counters}


def _row(work: Work, change: Change, cause: str) -> sa.Select[Any]:
    columns = _columns(work, change, "change", cause, change.before, change.after)
    return sa.select(*columns).select_from(work.units).where(change.when)


def _reversing_row(work: Work, change: Change) -> sa.Select[Any]:
    """As the row, from the number that is there now."""
    table = change.table
    current = table.c[change.column]
    without = taken_back(change.counter, current, change.before, change.after)
    columns = _columns(work, change, "reversal", ROLLBACK, current, without)
    here = table.c.id == change.id
    return sa.select(*columns).select_from(work.units.join(table, here)).where(change.when)


def _columns(
    work: Work, change: Change, what: str, cause: str, old: Element, new: Element
) -> list[Element]:
    told = {"run": work.run_id, "month": work.scope.partition}
    return [
        work.units.c.position,
        cuid_of(work, f"{what} of {change.column}").label("new_id"),
        sa.literal(change.table.name, sa.Text).label("new_entity"),
        change.id.label("new_entityId"),
        sa.literal(change.column, sa.Text).label("new_field"),
        sa.cast(old, sa.Text).label("new_oldValue"),
        sa.cast(new, sa.Text).label("new_newValue"),
        sa.literal(cause, sa.Text).label("new_triggeredBy"),
        sa.cast(sa.literal(told, JSONB), JSONB).label("new_metadata"),
    ]


def _together(selects: Iterable[sa.Select[Any]]) -> sa.Select[Any]:
    return sa.select(sa.union_all(*selects).subquery("audited"))
