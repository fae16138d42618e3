"""What a Dagster run is about."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.orchestration import names
from maintenance_pipelines.systems import registry

PARTITION = "dagster/partition"


def job_of(run: dg.DagsterRun) -> registry.AnyJob | None:
    """The job that a run works on; None for an approval, a rollback, and what is not ours.

    Where assets were chosen in the UI, the name of Dagster's job says nothing.
    """
    jobs = registry.every()
    named = (job for job in jobs if job.name == run.job_name)
    chosen = run.asset_selection or frozenset()
    touched = (job for job in jobs if chosen & set(names.stages(job).values()))
    return next(named, None) or next(touched, None)


def partition_of(run: dg.DagsterRun) -> str:
    """The partition that a run works on, empty where it has none."""
    return str(run.tags.get(PARTITION, ""))
