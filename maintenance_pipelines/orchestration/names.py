"""What Dagster calls the things of a job: asset keys, the pool, tags."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.registry import AnyJob

RESOURCE = "maintenance"

AUTOMATIC_TAGS = ("dagster/schedule_name", "dagster/sensor_name")
"""Tags of a run that nobody launched by hand."""


def detected(job: AnyJob) -> dg.AssetKey:
    """The asset of the job's plan."""
    return dg.AssetKey([job.system, job.assets.detected])


def materialized(job: AnyJob) -> dg.AssetKey:
    """The asset of what the job has changed."""
    return dg.AssetKey([job.system, job.assets.materialized])


def verified(job: AnyJob) -> dg.AssetKey:
    """The asset of what has been proved."""
    return dg.AssetKey([job.system, job.assets.verified])


def backed_up(job: Migration) -> dg.AssetKey:
    """The asset of the backup before a migration."""
    return dg.AssetKey([job.system, job.backup_asset])


def stages(job: AnyJob) -> dict[str, dg.AssetKey]:
    """The job's assets, in order, by what each is about."""
    backup = {"backup": backed_up(job)} if isinstance(job, Migration) else {}
    return {
        "detection": detected(job),
        **backup,
        "materialization": materialized(job),
        "verification": verified(job),
    }


def partitions(job: AnyJob) -> dg.PartitionsDefinition[str] | None:
    """The job's months for Dagster, the running one included, or a migration's instances; None
    for a job without any.
    """
    if isinstance(job, Migration):
        return dg.StaticPartitionsDefinition(list(job.partitions))
    if job.partitions is None:
        return None
    return dg.MonthlyPartitionsDefinition(
        start_date=job.partitions.since, end_offset=1, fmt="%Y-%m", timezone="UTC"
    )
