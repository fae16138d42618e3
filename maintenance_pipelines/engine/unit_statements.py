"""What writing units and taking them back have in common: the locks, and the one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.changes import Written
from maintenance_pipelines.engine.faults import Raced
from maintenance_pipelines.engine.plans import Plan, Span
from maintenance_pipelines.engine.proof import NOTHING, Counts
from maintenance_pipelines.engine.units import Lock
from maintenance_pipelines.engine.writes import Effect


def lock(
    connection: sa.Connection, locks: Iterable[Lock], plan: Plan, key: str, span: Span
) -> None:
    """Locks the rows of a span's units, in the order of their keys."""
    for each in locks:
        rows = (
            sa.select(sa.literal(1))
            .select_from(each.table.join(plan, each.table.c[each.column] == plan.c[key]))
            .where(span.covers(plan.c.position))
            .order_by(plan.c.position)
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
