"""Targets: which of the app's tables a job writes to, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.job import Insert, Job, Scope
from maintenance_pipelines.engine.units import Part, Work


@dataclass(frozen=True)
class Target:
    """One way of writing to one table: the privilege it needs, and the columns it sets.

    `columns` is None where whole rows are deleted or put back. A table that is only locked is one
    as well: PostgreSQL asks for the privilege to update at least one column.
    """

    table: sa.Table
    right: str
    columns: tuple[str, ...] | None = None
    only_locked: bool = False


@lru_cache(maxsize=64)
def targets(job: Job, undo: bool = False) -> tuple[Target, ...]:
    """What a run of the job writes to; with `undo`, what a rollback does."""
    if isinstance(job.change, Insert):
        return (Target(job.change.into, "DELETE" if undo else "INSERT"),)
    found = [t for part in job.change.parts for t in _of_part(job, part, undo)]
    updated = {t.table for t in found if t.right == "UPDATE" and not t.only_locked}
    theirs = [target for target in found if target.table.schema != ledger.SCHEMA]
    return tuple(t for t in theirs if not (t.only_locked and t.table in updated))


def _of_part(job: Job, part: Part, undo: bool) -> Iterator[Target]:
    work = _work(job, part)
    for write in part.writes:
        right = write.undo_right if undo else write.right
        columns = tuple(write.columns(work))
        yield Target(write.table, right, None if right == "DELETE" else columns or None)
    for lock in part.locks:
        if lock.by is None or not undo:
            yield Target(lock.table, "UPDATE", (lock.column,), only_locked=True)


def _work(job: Job, part: Part) -> Work:
    """Units as the job's statements see them, of a scope that stands for any."""
    partition = job.partitions.since if job.partitions else None
    scope = Scope(datetime(2000, 1, 1, tzinfo=UTC), partition, job.options())
    facts = part.due(scope, None).selected_columns
    columns = [sa.column(column.name, column.type) for column in facts]
    return Work(scope, "", sa.table("units", sa.column("position", sa.BigInteger), *columns))
