"""Everything that Dagster knows of this project. Loading it needs no database."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.orchestration import migration_assets, names
from maintenance_pipelines.orchestration.admin import approve, rollback
from maintenance_pipelines.orchestration.assets import assets_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.schedules import dagster_job, schedule_of
from maintenance_pipelines.systems import registry


def build(maintenance: Maintenance) -> dg.Definitions:
    """Every job's assets, checks, Dagster job and schedule, around that resource."""
    jobs, migrations = registry.JOBS.values(), registry.MIGRATIONS.values()
    return dg.Definitions(
        assets=[
            *(asset for job in jobs for asset in assets_of(job)),
            *(asset for each in migrations for asset in migration_assets.assets_of(each)),
        ],
        jobs=[*map(dagster_job, registry.every()), approve, rollback],
        schedules=[schedule for job in jobs if (schedule := schedule_of(job))],
        resources={names.RESOURCE: maintenance},
        # The work is SQL in another process already; one more process each step would only wait.
        executor=dg.in_process_executor,
    )


defs = build(Maintenance())
