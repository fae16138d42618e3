"""Everything that Dagster knows of this project. Loading it needs no database."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.orchestration import health_assets, migration_assets, names
from maintenance_pipelines.orchestration.admin import approve, rollback
from maintenance_pipelines.orchestration.assets import assets_of
from maintenance_pipelines.orchestration.consistency import (
    consistency_asset,
    consistency_schedule,
)
from maintenance_pipelines.orchestration.freshness import with_freshness
from maintenance_pipelines.orchestration.mailing import mails_asset, mails_schedule
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.schedules import dagster_job, schedule_of
from maintenance_pipelines.orchestration.sensors import sensors
from maintenance_pipelines.orchestration.switches import Switches
from maintenance_pipelines.orchestration.views import view_asset
from maintenance_pipelines.systems import registry


def build(maintenance: Maintenance) -> dg.Definitions:
    """Every job's assets, checks, Dagster job and schedule, and the sensors, around a resource."""
    jobs, migrations = registry.JOBS.values(), registry.MIGRATIONS.values()
    switches = Switches.of(maintenance.settings)
    on = switches.unattended
    unattended = [job for job in jobs if job.system in on]
    assets = [asset for job in jobs for asset in assets_of(job)]
    dagster_jobs = [dagster_job(job) for job in registry.every()]
    schedules = [schedule_of(job, job in unattended, maintenance.clock) for job in jobs]
    return dg.Definitions(
        assets=[
            *with_freshness(unattended, assets),
            *(asset for each in migrations for asset in migration_assets.assets_of(each)),
            *health_assets.specs(),
            *(consistency_asset(name, checks) for name, checks in registry.CHECKS.items()),
            *(mails_asset(name) for name in registry.LETTERS),
            *(view_asset(name, view) for name, views in registry.VIEWS.items() for view in views),
        ],
        jobs=[*dagster_jobs, approve, rollback],
        schedules=[
            *(schedule for schedule in schedules if schedule is not None),
            *(consistency_schedule(name, name in on) for name in registry.CHECKS),
            *(mails_schedule(name, name in on) for name in registry.LETTERS),
        ],
        sensors=sensors(switches, dagster_jobs),
        resources={names.RESOURCE: maintenance},
        # The work is SQL in another process already; one more process each step would only wait.
        executor=dg.in_process_executor,
    )


defs = build(Maintenance())
