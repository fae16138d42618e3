"""Execution: a run taken by this process, its batches settled, and the state it is left in."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from maintenance_pipelines.engine import granules, guards, runs
from maintenance_pipelines.engine.batches import Batches, Progress, Stopped, attempts
from maintenance_pipelines.engine.changes import Change
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.faults import describe
from maintenance_pipelines.engine.preflight import Preflight
from maintenance_pipelines.engine.refusals import Guarded, Refusal
from maintenance_pipelines.engine.runs import Run

PLAN_AGE = timedelta(hours=24)


@dataclass(frozen=True)
class Order:
    """How a plan is to be applied: by which digest, watched by whom."""

    digest: str | None = None
    plan_age: timedelta = PLAN_AGE
    rehearse: bool = False
    dagster_run_id: str | None = None
    progress: Progress = lambda done, total: None


def execute(
    database: Database, change: Change, run: Run, found: Preflight, order: Order
) -> tuple[Run, dict[int, str]]:
    """Applies (or rehearses) a run; returns it as it is left, and the rows that failed.

    A rehearsal leaves the run as it was. Ctrl-C rolls back the batch under way and leaves the run
    paused; any other trouble that is not about a row leaves it interrupted.
    """
    started = time.monotonic()
    batches = _begin(database, change, run, found, order)
    state, error = "interrupted", None
    try:
        batches.settle_all()
        state = "settled"
    except Stopped as request:
        state = {"pause": "paused", "cancel": "cancelled"}[str(request)]
    except KeyboardInterrupt:
        state = "paused"
        raise
    except BaseException as trouble:
        error = describe(trouble)
        raise
    finally:
        if order.rehearse and state != "interrupted":
            state = run.state
        _leave(database, batches, state, error, time.monotonic() - started)
    with database.transaction() as connection:
        return runs.load(connection, run.id), batches.failures


def _leave(
    database: Database, batches: Batches, state: str, error: str | None, seconds: float
) -> None:
    """Writes how the run was left; where even that cannot be done, its dead heartbeat tells."""
    run, waiting = batches.run, batches.waiting
    with contextlib.suppress(sa.exc.DBAPIError, Refusal):
        for attempt in attempts(database):
            with attempt, database.transaction() as connection:
                runs.spend(connection, run.id, seconds)
                left = _verdict(runs.load(connection, run.id), waiting)
                says = error or (f"{waiting} rows wait for a lock" if waiting else None)
                verdict = left if state == "settled" else state
                runs.leave(connection, run.id, batches.owner, verdict, error=says)


def _begin(database: Database, change: Change, run: Run, found: Preflight, order: Order) -> Batches:
    def take(connection: sa.Connection) -> Batches:
        held = runs.load(connection, run.id, lock=True)
        if held.state == "applying":
            raise Guarded(f"Run {run.id} is being applied by another process.")
        if order.rehearse and held.state != "planned":
            raise Guarded(f"Run {run.id} is {held.state}; only a planned run can be rehearsed.")
        guards.demand_appliable(
            connection, change, held, found.schema_digest, order.digest, order.plan_age
        )
        owner = runs.begin(connection, held, order.dagster_run_id)
        if held.state == "partial":
            granules.reopen_failed(connection, run.id)
        return Batches(
            database,
            change,
            held,
            owner,
            bool(found.triggers),
            order.progress,
            order.rehearse,
            done=granules.rows_done(connection, run.id),
        )

    for attempt in attempts(database):
        with attempt, database.analysis() as connection:
            return take(connection)
    raise AssertionError("the last attempt raises")


def _verdict(run: Run, waiting: int) -> str:
    """The state after every batch was tried: all settled, some rows not, or none at all."""
    if run.failed and not (waiting or run.applied or run.skipped or run.conflicts):
        return "failed"
    return "partial" if run.failed or waiting else "applied"
