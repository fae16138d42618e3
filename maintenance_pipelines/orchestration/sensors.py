"""The sensors: watch, tell, make up for what was missed, fill gaps, and keep the figures.

Each is on by itself as soon as there is something for it to do, and can be stopped in the UI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from maintenance_pipelines.engine.job import Insert, Job
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.orchestration import gaps, health_assets, missed, watch
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.switches import Switches, runs_unattended
from maintenance_pipelines.systems import registry

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

EVERY_S = 30
EVERY_HOUR_S = 3600


def sensors(
    switches: Switches, dagster_jobs: Sequence[UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """All sensors. Those that watch are on where somebody is to be told or a system's jobs run by
    themselves; those that request runs only for such systems.
    """
    by_name = {each.name: each for each in dagster_jobs}
    scheduled = [by_name[job.name] for job in registry.JOBS.values() if job.schedule]
    watching = switches.told or bool(switches.unattended)
    return [
        _watching(watching),
        _telling(watching),
        _making_up(scheduled, bool(switches.unattended)),
        *(
            _filling(job, by_name[job.name], job.system in switches.unattended)
            for job in registry.JOBS.values()
            if has_gaps(job)
        ),
        _figures(watching),
    ]


def has_gaps(job: Job) -> bool:
    """Whether missing rows of any month can be found by a probe."""
    return isinstance(job.change, Insert) and job.partitions is not None


def _watching(on: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name="watch_runs",
        minimum_interval_seconds=EVERY_S,
        default_status=_status(on),
        description="Enters into the book of alerts what failed, does not hold, waits, or is late.",
    )
    def watch_runs(
        context: dg.SensorEvaluationContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> dg.SkipReason:
        settings = maintenance.settings()
        with watch.book(settings) as storage:
            failed = watch.look(settings, context.instance, storage, maintenance.clock())
        if failed:
            return dg.SkipReason(f"These watches failed, which is an alert: {', '.join(failed)}.")
        return dg.SkipReason("Looked at everything.")

    return watch_runs


def _telling(on: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name="tell_alerts",
        minimum_interval_seconds=EVERY_S,
        default_status=_status(on),
        description="Delivers alerts to their channels, again and again where one does not answer.",
    )
    def tell_alerts(
        context: dg.SensorEvaluationContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> dg.SkipReason:
        settings = maintenance.settings()
        with watch.book(settings) as storage:
            came = watch.tell(settings, storage, maintenance.clock)
        if came.failed:
            context.log.warning(f"{came.failed} alerts could not be delivered; tried again later.")
        return dg.SkipReason(
            f"{came.told} delivered, {came.failed} not, {came.nowhere} have no channel."
        )

    return tell_alerts


def _making_up(
    dagster_jobs: Sequence[UnresolvedAssetJobDefinition], on: bool
) -> dg.SensorDefinition:
    @dg.sensor(
        name="missed_runs",
        minimum_interval_seconds=EVERY_S * 2,
        jobs=dagster_jobs,
        default_status=_status(on),
        description="Requests what a schedule should have run and nobody did.",
    )
    def missed_runs(
        context: dg.SensorEvaluationContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> dg.SensorResult:
        settings = maintenance.settings()
        default = {
            job.name: runs_unattended(settings, job.system) for job in registry.JOBS.values()
        }
        with watch.book(settings) as storage:
            requests = missed.look(
                settings,
                context.instance,
                storage,
                maintenance.clock(),
                missed.switched_on(context.instance, default),
            )
        return dg.SensorResult(run_requests=requests)

    return missed_runs


def _filling(job: Job, dagster_job: UnresolvedAssetJobDefinition, on: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{job.name}_gaps",
        minimum_interval_seconds=EVERY_HOUR_S,
        job=dagster_job,
        default_status=_status(on),
        description=f"Requests months with gaps. {job.says}.",
    )
    def fill_gaps(
        context: dg.SensorEvaluationContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> dg.SensorResult | dg.SkipReason:
        settings, now = maintenance.settings(), maintenance.clock()
        with watch.book(settings) as storage:
            months = gaps.next_months(job, storage, now)
        try:
            requests = gaps.look(settings, job, months, now)
        except Refusal as refusal:
            # The watch over the ledgers tells of a database that cannot be asked.
            return dg.SkipReason(str(refusal))
        return dg.SensorResult(run_requests=requests)

    return fill_gaps


def _figures(on: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name="job_health",
        minimum_interval_seconds=EVERY_S * 10,
        default_status=_status(on),
        description="Keeps the figures of every job: in assets, and in the metrics file.",
    )
    def keep_figures(
        context: dg.SensorEvaluationContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> dg.SensorResult:
        settings, now = maintenance.settings(), maintenance.clock()
        with watch.book(settings) as storage:
            events = health_assets.observe(settings, context.instance, storage, now)
        return dg.SensorResult(asset_events=events)

    return keep_figures


def _status(on: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
