"""What Dagster calls the things of a job: asset keys, the pool, tags."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.engine.job import Job

RESOURCE = "maintenance"

AUTOMATIC_TAGS = ("dagster/schedule_name", "dagster/sensor_name")
"""Tags of a run that nobody launched by hand."""


def detected(job: Job) -> dg.AssetKey:
    """The asset of the job's plan."""
    return dg.AssetKey([job.system, job.assets.detected])


def materialized(job: Job) -> dg.AssetKey:
    """The asset of what the job has changed."""
    return dg.AssetKey([job.system, job.assets.materialized])


def verified(job: Job) -> dg.AssetKey:
    """The asset of what has been proved."""
    return dg.AssetKey([job.system, job.assets.verified])


def partitions(job: Job) -> dg.MonthlyPartitionsDefinition | None:
    """The job's months for Dagster, the running one included; None for a job without any."""
    if job.partitions is None:
        return None
    return dg.MonthlyPartitionsDefinition(
        start_date=job.partitions.since, end_offset=1, fmt="%Y-%m", timezone="UTC"
    )
