"""Kinds: which change a job's declaration stands for."""

from __future__ import annotations

from maintenance_pipelines.engine.changes import Forward
from maintenance_pipelines.engine.insertion import Insertion, columns_written
from maintenance_pipelines.engine.job import Insert, Job, Scope
from maintenance_pipelines.engine.preflight import Preflight
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.unit_change import UnitChange


def change_to_plan(
    job: Job, scope: Scope, run_id: str, by_person: bool, found: Preflight
) -> Forward:
    """A new run's change, for a database as it was found."""
    if isinstance(job.change, Insert):
        target = found.shapes[job.change.into.name]
        columns = columns_written(job.change, scope, target)
        return Insertion(job, scope, run_id, tuple(columns))
    return UnitChange(job, scope, run_id, by_person)


def change_of(job: Job, run: Run) -> Forward:
    """The change that a run has planned, from what the ledger holds of it."""
    scope = Scope(run.as_of, run.partition, job.options.model_validate(dict(run.options)))
    if isinstance(job.change, Insert):
        return Insertion(job, scope, run.id, run.columns)
    change = UnitChange(job, scope, run.id, run.by_person, empty=run.planned == 0)
    if change.columns != run.columns:
        raise Guarded(
            f"Run {run.id} was planned by another version of this project, which noted other "
            "facts; finish it or take it back with that version."
        )
    return change
