"""Each job as a Dagster job with its priority and time limit, and its schedule."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import dagster as dg

from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.orchestration import names
from maintenance_pipelines.systems.registry import AnyJob

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


def dagster_job(job: AnyJob) -> UnresolvedAssetJobDefinition:
    """All of a job's assets as one Dagster job."""
    return dg.define_asset_job(
        job.name,
        selection=list(names.stages(job).values()),
        description=job.says,
        tags={
            "dagster/priority": str(job.priority),
            "dagster/max_runtime": str(int(job.time_limit.total_seconds())),
        },
    )


def schedule_of(job: Job) -> dg.ScheduleDefinition | None:
    """The job's schedule, stopped until somebody starts it; None for a job without any.

    It asks for the month that is running, or the one that lies the job's lag before it, and gives
    no run key, so that it can ask for the same partition again: Dagster's own partition schedules
    ask once, ever.
    """
    if job.schedule is None:
        return None

    @dg.schedule(
        name=f"{job.name}_schedule",
        cron_schedule=job.schedule,
        execution_timezone="UTC",
        job_name=job.name,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=job.says,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        if job.partitions is None:
            return dg.RunRequest()
        moment = context.scheduled_execution_time.astimezone(UTC)
        return dg.RunRequest(partition_key=str(Month.of(moment).plus(-job.schedule_lag)))

    return schedule
