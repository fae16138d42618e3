"""Results: the keys by which a job's source document wants its outcome to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job, Outcome
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.reports import failures
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.unit_change import UnitChange

FAILURES = 100
"""Failures that are told one by one."""


def result_keys(job: Job, database: Database, run: Run) -> Mapping[str, Any]:
    """What `job.result` makes of what a run has applied; empty where the job has none."""
    if job.result is None:
        return {}
    change = change_of(job, run)
    assert isinstance(change, UnitChange), "only units have parts"
    failed = failures(job, database, run, FAILURES)
    with database.transaction() as connection:
        outcome = Outcome(
            connection,
            change.scope,
            run.planned,
            run.failed,
            change.applied_by_part(connection),
            {each.part.name: each.applied().subquery("applied") for each in change.parts},
            failed,
        )
        return job.result(outcome)
