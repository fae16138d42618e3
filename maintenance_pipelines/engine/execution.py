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
from maintenance_pipelines.engine.refusals import Guarded, Refusal
from maintenance_pipelines.engine.runs import Run

PLAN_AGE = timedelta(hours=24)


@dataclass(frozen=True)
class Order:
    """How a plan is to be applied: by which digest, under which allowances, watched by whom."""

    digest: str | None = None
    plan_age: timedelta = PLAN_AGE
    triggers_allowed: bool = False
    rehearse: bool = False
    dagster_run_id: str | None = None
    progress: Progress = lambda done, total: None


def execute(
    database: Database, change: Change, run: Run, schema_digest: str, order: Order
) -> tuple[Run, dict[int, str]]:
    """Applies (or rehearses) a run; returns it as it is left, and the rows that failed.

    A rehearsal leaves the run as it was. Ctrl-C rolls back the batch under way and leaves the run
    paused; any other trouble that is not about a row leaves it interrupted.
    """
    started = time.monotonic()
    batches = _begin(database, change, run, schema_digest, order)
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
        # Where even this cannot be written, the dead heartbeat tells that it was interrupted.
        with contextlib.suppress(sa.exc.DBAPIError, Refusal), database.transaction() as connection:
            runs.spend(connection, run.id, time.monotonic() - started)
            if state == "settled":
                state = _verdict(runs.load(connection, run.id), batches.waiting)
            waits = f"{batches.waiting} rows wait for a lock" if batches.waiting else None
            runs.leave(connection, run.id, batches.owner, state, error=error or waits)
    with database.transaction() as connection:
        return runs.load(connection, run.id), batches.failures


def _begin(
    database: Database, change: Change, run: Run, schema_digest: str, order: Order
) -> Batches:
    def take(connection: sa.Connection) -> Batches:
        held = runs.load(connection, run.id, lock=True)
        if held.state == "applying":
            raise Guarded(f"Run {run.id} is being applied by another process.")
        if order.rehearse and held.state != "planned":
            raise Guarded(f"Run {run.id} is {held.state}; only a planned run can be rehearsed.")
        guards.demand_appliable(
            connection, change, held, schema_digest, order.digest, order.plan_age
        )
        owner = runs.begin(connection, held, order.dagster_run_id)
        if held.state == "partial":
            granules.reopen_failed(connection, run.id)
        return Batches(
            database,
            change,
            held,
            owner,
            order.triggers_allowed,
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
