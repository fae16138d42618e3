"""Plan: what a job would change, written down before anything is changed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from maintenance_pipelines.engine import guards, ledger, plans, runs, verifying
from maintenance_pipelines.engine.changes import Change
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.kinds import change_to_plan
from maintenance_pipelines.engine.preflight import Preflight, preflight
from maintenance_pipelines.engine.proof import Reading, demand_nothing_written
from maintenance_pipelines.engine.runs import Run


@dataclass(frozen=True)
class Request:
    """Who asks for a plan or a rollback, from where, and within which guards.

    `expected_rows` are inclusive bounds, None where open; more than `approval_above` rows have to
    be approved by a second person. `by_person` is False for schedules and sensors.
    """

    operator: str
    expected_rows: tuple[int | None, int | None] = (None, None)
    approval_above: int | None = None
    by_person: bool = True
    dagster_run_id: str | None = None
    allowed_triggers: frozenset[str] = frozenset()


def plan(job: Job, database: Database, scope: Scope, request: Request) -> Run:
    """Detects what is due and stores it as a plan; changes no table of the app.

    An interrupted run of the same partition is returned instead, to be finished first. A plan
    without rows is complete: the statement that made it has just verified it.
    """
    found = preflight(job, database, request.allowed_triggers)
    ledger.ensure(database)
    with database.transaction() as connection:
        unfinished = guards.to_finish_first(
            connection, job.name, scope.partition, request.by_person, request.dagster_run_id
        )
    return unfinished or _write(job, database, _admitted(job, database, scope), request, found)


def _admitted(job: Job, database: Database, scope: Scope) -> Scope:
    """The scope with options that fit the database, if it may be planned now."""
    with database.transaction() as connection:
        if job.adapt is not None:
            scope = replace(scope, options=job.adapt(connection, database.schema, scope.options))
        if job.admit is not None:
            job.admit(connection, scope)
    return scope


def _write(job: Job, database: Database, scope: Scope, request: Request, found: Preflight) -> Run:
    started = time.monotonic()
    run_id = runs.new_id()
    change = change_to_plan(job, scope, run_id, request.by_person, found)
    with database.analysis() as connection:
        before = Reading.take(connection)
        counts = change.fill(connection, found.shapes)
        planned = counts.pop(None, 0)
        pieces = change.pieces(connection, planned)
        digest = seal(connection, change, pieces)
        low = request.expected_rows[0]
        complete = planned == 0 and not low and not job.judged_when_empty
        connection.execute(
            ledger.run.insert().values(
                id=run_id,
                job=job.name,
                partition=scope.partition or "",
                state="verified" if complete else "planned",
                as_of=scope.as_of,
                options=scope.options.model_dump(mode="json"),
                planned_by=request.operator,
                by_person=request.by_person,
                dagster_run_id=request.dagster_run_id,
                columns=list(change.columns),
                digest=digest,
                schema_digest=found.schema_digest,
                planned=planned,
                excluded=counts,
                # The statement that found nothing to do has verified just that.
                checks=dict.fromkeys([verifying.SCOPE, *verifying.must_hold(job)], True)
                if complete
                else {},
                expected_min=request.expected_rows[0],
                expected_max=request.expected_rows[1],
                approval_above=request.approval_above,
                finished_at=sa.func.clock_timestamp() if complete else None,
            )
        )
        plans.cut(connection, run_id, pieces, database.limits.granule_rows)
        if planned == 0:
            plans.drop(connection, run_id)
        if request.by_person:
            _release(connection, job, scope)
        demand_nothing_written(connection, before)
        runs.spend(connection, run_id, time.monotonic() - started)
        return runs.load(connection, run_id)


def seal(connection: sa.Connection, change: Change, pieces: Iterable[plans.Piece]) -> str:
    """Freezes filled plan tables and returns the digest of what is to be applied of them."""
    for piece in pieces:
        plans.seal(connection, piece.table)
    return plans.digest(connection, pieces, change.job, change.scope, change.kind)


def _release(connection: sa.Connection, job: Job, scope: Scope) -> None:
    """A person runs the partition again: a rollback no longer holds it."""
    mine = (ledger.run.c.job == job.name) & (ledger.run.c.partition == (scope.partition or ""))
    connection.execute(ledger.run.update().where(mine, ledger.run.c.held).values(held=False))
