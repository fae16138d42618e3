"""Export: what a run has written, to be kept or looked at elsewhere.

Of deleted rows these are the rows themselves, with every column that the table has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.catalog import ColumnShape, TableShape, read_shapes
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.insertion import Insertion
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.unit_change import PartChange, UnitChange
from maintenance_pipelines.engine.writes import DeleteRows

AS_TEXT = ("uuid", "json", "jsonb")
"""Types that a table of another program has no like of."""


def export(
    connection: sa.Connection, job: Job, database: Database, run: Run, part: str | None
) -> sa.Select[Any]:
    """The rows that a run has applied, of one of its parts where it has several.

    Refuses a run that was pruned, and a part that there is not.
    """
    if run.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned; its rows are no longer known.")
    if not run.planned:
        raise Guarded(f"Run {run.id} planned nothing; there is nothing to export.")
    change = change_of(job, run)
    if isinstance(change, Insertion):
        applied = change.applied()
        return sa.select(*(applied.c[f"new_{name}"].label(name) for name in change.columns))
    assert isinstance(change, UnitChange), "a run is of one kind or the other"
    parts = {each.part.name: each for each in change.parts}
    chosen = part or (next(iter(parts)) if len(parts) == 1 else None)
    if chosen not in parts:
        raise BadInput(f"{job.name} has these parts, name one of them: {', '.join(parts)}.")
    each = parts[chosen]
    deletes = [write for write in each.part.writes if isinstance(write, DeleteRows)]
    if not deletes:
        return each.applied()
    (write,) = deletes
    shapes = read_shapes(connection, database.schema, [write.table.name])
    return _deleted(each, write, shapes)


def _deleted(
    each: PartChange, write: DeleteRows, shapes: Mapping[str, TableShape]
) -> sa.Select[Any]:
    rows = write.rows(each.work(each.applied().subquery("units"))).subquery("rows")
    columns = shapes[write.table.name].columns
    old = write.restored(rows, list(columns))
    return sa.select(*_readable(old, columns)).select_from(rows.join(old, sa.true()))


def _readable(
    old: sa.FromClause, columns: Mapping[str, ColumnShape]
) -> Iterator[sa.ColumnElement[Any]]:
    for name, shape in columns.items():
        as_text = shape.enum or shape.type in AS_TEXT
        yield sa.cast(old.c[name], sa.Text).label(name) if as_text else old.c[name]
