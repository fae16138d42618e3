"""What writing units and taking them back have in common: the locks, and the one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.changes import Written
from maintenance_pipelines.engine.faults import Raced
from maintenance_pipelines.engine.plans import Plan, Span
from maintenance_pipelines.engine.proof import NOTHING, Counts
from maintenance_pipelines.engine.units import Lock
from maintenance_pipelines.engine.writes import Effect

Reasons = dict[str | None, int]
"""How many units there are by the reason why they are left alone; under None, the due ones."""


def fill_in_turn(
    connection: sa.Connection, fills: Iterable[Callable[[sa.Connection, int], Reasons]]
) -> Reasons:
    """Fills the tables of several parts, each with positions beyond the last one's; counts units
    by reason. One position between two parts stays empty, so that no batch is about both.
    """
    totals: Reasons = {}
    after = 0
    for fill in fills:
        counts = fill(connection, after)
        after += counts.get(None, 0) + 1
        for reason, units in counts.items():
            totals[reason] = totals.get(reason, 0) + units
    return totals


def keys_at(plan: Plan, key: str, positions: Sequence[int]) -> sa.Select[Any]:
    """`position` and the key of units of a plan table."""
    position = plan.c.position
    return sa.select(position, plan.c[key]).where(position.in_(positions)).order_by(position)


def lock(
    connection: sa.Connection, locks: Iterable[Lock], plan: Plan, key: str, span: Span
) -> None:
    """Locks the rows of a span's units, each table's in the order of its keys."""
    for each in locks:
        column = each.table.c[each.column]
        wanted = sa.select(plan.c[each.by or key]).where(span.covers(plan.c.position))
        rows = (
            sa.select(sa.literal(1))
            .select_from(each.table)
            .where(column.in_(wanted))
            .order_by(column)
            .with_for_update(
                read=each.strength == "share",
                key_share=each.strength == "no key update",
                of=each.table,
            )
            .subquery("locked")
        )
        connection.execute(sa.select(sa.func.count()).select_from(rows))


def holds(connection: sa.Connection, plan: Plan, span: Span) -> bool:
    """Whether a span lies in a plan table; every granule lies in just one."""
    there = sa.exists().where(plan.c.position == span.first)
    return bool(connection.execute(sa.select(there)).scalar_one())


def perform(
    connection: sa.Connection,
    units: sa.CTE,
    effects: Sequence[Effect],
    recorded: Sequence[sa.CTE],
) -> Written:
    """Executes the effects in one statement; raises `Raced` unless every row was written."""
    counts: list[sa.ScalarSelect[int]] = [_count(units)]
    for effect in effects:
        counts += [_count(effect.rows), _count(effect.written)]
    statement = sa.select(*counts).add_cte(*recorded)
    applied, *numbers = connection.execute(statement).one()
    expected: dict[str, Counts] = {}
    for effect, rows, written in zip(effects, numbers[::2], numbers[1::2], strict=True):
        if rows != written:
            raise Raced(
                f"{rows - written} of {rows} rows of {effect.table.name} could not be written as "
                "planned: they were being changed, or a trigger changes them"
            )
        if effect.table.schema != ledger.SCHEMA:
            before = expected.get(effect.table.name, NOTHING)
            i, u, d = (b + rows * c for b, c in zip(before, effect.counts, strict=True))
            expected[effect.table.name] = (i, u, d)
    return Written(applied, expected)


def _count(rows: sa.CTE) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()
