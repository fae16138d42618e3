"""Undo: takes one run back, as a run of its own that is planned, applied and verified."""

from __future__ import annotations

import time
from dataclasses import replace

import sqlalchemy as sa

from maintenance_pipelines.engine import guards, ledger, plans, runs, verifying
from maintenance_pipelines.engine.changes import Forward, Undo
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order, execute
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.planning import Request, seal
from maintenance_pipelines.engine.preflight import Preflight, preflight
from maintenance_pipelines.engine.proof import Reading, demand_nothing_written
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Check, Verification


def plan_rollback(job: Job, database: Database, run: Run, request: Request) -> Run:
    """Plans to take back what `run` has written; returns the rollback's own run.

    Rows that somebody has touched since, or that others depend on, are listed and stay. A
    rollback that is under way or planned already is returned as it is.
    """
    found = preflight(job, database, request.allowed_triggers, undo=True)
    with database.transaction() as connection:
        current = runs.load(connection, run.id)
        undo = runs.rollback_of(connection, run.id)
    if current.state == "rolled_back":
        raise Guarded(f"Run {run.id} has already been rolled back.")
    if current.state in ("planned", "applying"):
        raise Guarded(f"Run {run.id} is {current.state}; only what was applied can be rolled back.")
    if current.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned and can no longer be rolled back.")
    if undo is not None and undo.state == "applying":
        raise Guarded(f"The rollback of run {run.id} is being applied by another process.")
    if undo is not None and undo.state == "planned" and _covered(undo) != current.applied:
        # The run has gone on since: what it applied then is to be taken back too.
        runs.request_cancel(database, undo.id)
    elif undo is not None and undo.state in guards.RESUMABLE | {"applied"}:
        return undo
    return _write(job, database, current, request, found)


def rollback(
    job: Job, database: Database, run: Run, request: Request, order: Order
) -> Verification:
    """Plans, applies and verifies the rollback of `run`; finishes one that was interrupted.

    Afterwards `run` is `rolled_back`, and its job and partition are held for schedules and
    sensors until a person runs them again. The verification is that of the rollback.
    """
    undo = plan_rollback(job, database, run, request)
    found = preflight(job, database, request.allowed_triggers, undo=True)
    back = _change_back(job, database, run, undo)
    if undo.state in guards.RESUMABLE and undo.planned:
        undo, _ = execute(database, back, undo, found, replace(order, rehearse=False))
    if undo.state not in (*verifying.VERIFIABLE, "planned"):
        return Verification(undo, ())
    started = time.monotonic()
    checks = _checks(database, back, undo)
    undo = verifying.conclude(database, undo, checks, started, order.dagster_run_id)
    if undo.state == "verified":
        with database.transaction() as connection:
            runs.change(connection, run.id, state="rolled_back", held=True)
            runs.change(connection, undo.id, held=True)
            undo = runs.load(connection, undo.id)
    return Verification(undo, tuple(checks))


def left_alone(job: Job, database: Database, undo: Run, limit: int = 100) -> list[tuple[str, str]]:
    """The rows that a rollback leaves or has left as they are, as (id, reason)."""
    assert undo.reverts is not None
    if undo.planned == 0 and not undo.excluded:
        return []
    with database.analysis() as connection:
        run = runs.load(connection, undo.reverts)
        back = change_of(job, run).undo(connection, undo.id, database)
        return back.left_alone(connection, limit)


def _write(job: Job, database: Database, run: Run, request: Request, found: Preflight) -> Run:
    started = time.monotonic()
    with database.analysis() as connection:
        before = Reading.take(connection)
        change = change_of(job, run)
        undo = change.undo(connection, runs.new_id(), database)
        counts: dict[str | None, int] = {}
        pieces: tuple[plans.Piece, ...] = ()
        digest = ""
        if run.planned:
            _demand_unaltered(connection, change, run)
            counts = undo.fill(connection)
            pieces = undo.pieces(connection, counts.get(None, 0))
            digest = seal(connection, undo, pieces)
        planned = counts.pop(None, 0)
        connection.execute(
            ledger.run.insert().values(
                id=undo.run_id,
                job=job.name,
                partition=run.partition or "",
                reverts=run.id,
                state="planned",
                as_of=run.as_of,
                options=dict(run.options),
                planned_by=request.operator,
                dagster_run_id=request.dagster_run_id,
                columns=list(run.columns),
                digest=digest,
                schema_digest=found.schema_digest,
                planned=planned,
                excluded=counts,
            )
        )
        plans.cut(connection, undo.run_id, pieces, database.limits.granule_rows)
        demand_nothing_written(connection, before)
        runs.spend(connection, undo.run_id, time.monotonic() - started)
        return runs.load(connection, undo.run_id)


def _covered(undo: Run) -> int:
    """How many of the run's rows a rollback's plan speaks of, to be removed or left alone."""
    return undo.planned + sum(undo.excluded.values())


def _demand_unaltered(connection: sa.Connection, change: Forward, run: Run) -> None:
    pieces = change.pieces(connection, run.planned)
    digest = plans.digest(connection, pieces, change.job, change.scope, change.kind)
    if digest != run.digest:
        raise Guarded(f"The plan of run {run.id} has been altered; it cannot be rolled back.")


def _change_back(job: Job, database: Database, run: Run, undo: Run) -> Undo:
    with database.transaction() as connection:
        return change_of(job, run).undo(connection, undo.id, database)


def _checks(database: Database, back: Undo, undo: Run) -> list[Check]:
    if undo.planned == 0:
        return []
    return [
        verifying.evaluate(
            database,
            "every_planned_row_accounted_for",
            lambda connection: verifying.accounted_for(connection, undo),
        ),
        verifying.evaluate(
            database, "removed_rows_are_gone", lambda connection: _gone(connection, back)
        ),
        verifying.evaluate(
            database, "other_rows_untouched", lambda connection: _untouched(connection, back, undo)
        ),
    ]


def _gone(connection: sa.Connection, back: Undo) -> Check:
    count = back.not_undone(connection)
    says = f"{count} removed rows are still there"
    return Check("removed_rows_are_gone", count == 0, says, count)


def _untouched(connection: sa.Connection, back: Undo, undo: Run) -> Check:
    counts = verifying.counted(connection, undo)
    return verifying.as_counted("other_rows_untouched", counts, back.counted(connection))
