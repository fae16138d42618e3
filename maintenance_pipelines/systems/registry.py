"""Every job of every system, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill

JOBS: Mapping[str, Job] = MappingProxyType({job.name: job for job in (benefit_status_backfill,)})


def find(name: str) -> Job:
    """The job of that name, with underscores or hyphens; refuses a name that no job has."""
    job = JOBS.get(name.replace("-", "_"))
    if job is None:
        raise BadInput(f"There is no job {name!r}; the jobs are: {', '.join(sorted(JOBS))}.")
    return job
