"""Each job as a Dagster job with its priority and time limit, and its schedule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.orchestration import names
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.orchestration.slots import deadline_passed, schedule_name, slot_at
from maintenance_pipelines.systems.registry import AnyJob

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


LEAST_RUNTIME_S = 60
"""A limit below it is told of, but ends no run: Dagster's own start can take that long."""


def status(on: bool) -> dg.DefaultScheduleStatus:
    """Whether a schedule runs until somebody stops it in the UI, or the other way round."""
    return dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED


def dagster_job(job: AnyJob) -> UnresolvedAssetJobDefinition:
    """All of a job's assets as one Dagster job."""
    return dg.define_asset_job(
        job.name,
        selection=list(names.stages(job).values()),
        description=job.says,
        tags={
            "dagster/priority": str(job.priority),
            "dagster/max_runtime": str(max(LEAST_RUNTIME_S, int(job.time_limit.total_seconds()))),
        },
    )


def schedule_of(
    job: Job, on: bool = False, clock: Callable[[], datetime] = utc_now
) -> dg.ScheduleDefinition | None:
    """The job's schedule, `on` by itself or when somebody starts it; None for a job without any.

    It asks for the month that is running, or the one that lies the job's lag before it, and gives
    no run key, so that it can ask for the same partition again: Dagster's own partition schedules
    ask once, ever. After a stop Dagster evaluates the last moment late; where the job is of no
    use any more, nothing is asked for.
    """
    if job.schedule is None:
        return None

    @dg.schedule(
        name=schedule_name(job.name),
        cron_schedule=job.schedule,
        execution_timezone="UTC",
        job_name=job.name,
        default_status=status(on),
        description=job.says,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        slot = slot_at(job, context.scheduled_execution_time.astimezone(UTC))
        if deadline_passed(slot, clock()):
            return dg.SkipReason(f"{slot.label} was due at {slot.at:%Y-%m-%d %H:%M}: too late.")
        return dg.RunRequest(partition_key=slot.partition)

    return schedule
