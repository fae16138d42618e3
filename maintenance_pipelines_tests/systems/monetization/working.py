"""Runs of this system's jobs, through the engine, as the terminal and Dagster run them."""

from __future__ import annotations

from maintenance_pipelines.engine import applying, planning, undoing, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines_tests.systems.monetization.people import scope_of

SOMEONE = Request(operator="ann")


def plan(job: Job, database: Database, scope: Scope | None = None) -> Run:
    """Plans the job as of the tests' now, or of another scope."""
    return planning.plan(job, database, scope or scope_of(), SOMEONE)


def finish(job: Job, database: Database, run: Run) -> Verification:
    """Applies and verifies a plan, unless there was nothing to do."""
    if run.state != "verified":
        run, _ = applying.apply(job, database, run, Order())
    return verifying.verify(job, database, run)


def carry_out(job: Job, database: Database, scope: Scope | None = None) -> Verification:
    """The whole job."""
    return finish(job, database, plan(job, database, scope))


def take_back(job: Job, database: Database, run: Run) -> Verification:
    """Rolls a run of the job back."""
    return undoing.rollback(job, database, run, SOMEONE, Order())


def left_alone(job: Job, database: Database, undo: Run) -> dict[str, str]:
    """What a rollback has left as it is: the reasons, by id."""
    return dict(undoing.left_alone(job, database, undo))


def counts(run: Run) -> tuple[int, int, int, int]:
    """Units applied, skipped, in conflict and failed."""
    return run.applied, run.skipped, run.conflicts, run.failed


def warnings(verification: Verification) -> dict[str, tuple[str, ...]]:
    """The offenders of each warning that found some."""
    found = (check for check in verification.checks if check.warning and check.count)
    return {check.name: check.sample for check in found}
