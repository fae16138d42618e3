"""Results: the keys by which a job's source document wants its outcome to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.unit_change import UnitChange


def result_keys(job: Job, database: Database, run: Run) -> Mapping[str, Any]:
    """What `job.result` makes of the units that a run has applied; empty where it has none."""
    if job.result is None:
        return {}
    change = change_of(job, run)
    assert isinstance(change, UnitChange), "only parts have counts of their own"
    with database.transaction() as connection:
        return job.result(change.scope, change.applied_by_part(connection))
