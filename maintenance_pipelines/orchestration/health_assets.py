"""The figures of the jobs in Dagster: an asset for each job, whose numbers the UI plots.

Nobody materializes them: a sensor writes them down every few minutes, without a run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger as tables
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alert_delivery import pending
from maintenance_pipelines.operations.health import MONTH, Ended, Health, health_of, write_metrics
from maintenance_pipelines.orchestration.ledgers import ledgers
from maintenance_pipelines.orchestration.subjects import job_of
from maintenance_pipelines.orchestration.watch_ledgers import configured
from maintenance_pipelines.settings import PROJECT, Settings
from maintenance_pipelines.systems import registry

METRICS = "MAINTENANCE_METRICS_FILE"
"""Variable with the file for Prometheus' node exporter; none is written where it is not set."""


def asset_of(job: registry.AnyJob) -> dg.AssetKey:
    """The asset that holds a job's figures."""
    return dg.AssetKey(["health", job.name])


def specs() -> list[dg.AssetSpec]:
    """An asset for each job; nothing materializes it but the sensor."""
    return [
        dg.AssetSpec(
            asset_of(job),
            group_name="health",
            description=f"How {job.name} is doing: its last run, success over 24 hours and 30 "
            "days, and whether it gets slower. Written by the sensor `job_health`.",
        )
        for job in registry.every()
    ]


def observe(
    settings: Settings, instance: dg.DagsterInstance, storage: Database, now: datetime
) -> list[dg.AssetMaterialization]:
    """The figures as they are now, as Dagster's events; writes the metrics file beside."""
    healths = measure(settings, instance, now)
    write(settings, storage, healths, now)
    return [
        dg.AssetMaterialization(asset_of(registry.find(each.job)), metadata=each.numbers())
        for each in healths
        if each.last is not None
    ]


def measure(settings: Settings, instance: dg.DagsterInstance, now: datetime) -> list[Health]:
    """The figures of every job of the systems that have a database."""
    among = configured(settings)
    ended: dict[str, list[Ended]] = defaultdict(list)
    statuses = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    recent = dg.RunsFilter(statuses=statuses, updated_after=now - MONTH)
    for record in instance.get_run_records(recent):
        if record.end_time is not None:
            # A run that never started took no time.
            seconds = record.end_time - (record.start_time or record.end_time)
            at = datetime.fromtimestamp(record.end_time, UTC)
            well = record.dagster_run.is_success
            job = job_of(record.dagster_run)
            ended[job.name if job else ""].append(Ended(at, well, seconds))
    newest = {system: _newest(settings, system) for system in among}
    return [
        health_of(job.name, job.system, ended[job.name], newest[job.system].get(job.name), now)
        for job in registry.every()
        if job.system in among
    ]


def write(
    settings: Settings, storage: Database, healths: list[Health], now: datetime
) -> Path | None:
    """Writes the metrics file, where the settings name one; returns its path."""
    secret = settings.variables.get(METRICS)
    if secret is None:
        return None
    file = PROJECT / Path(secret.get_secret_value()).expanduser()
    with storage.transaction() as connection:
        causes = alert_book.open_causes(connection)
    by_severity = Counter(each.severity for each in causes)
    write_metrics(file, healths, by_severity, len(pending(storage)), now)
    return file


def _newest(settings: Settings, system: str) -> dict[str, Run]:
    """The newest run of each job that did more than plan; none where a ledger cannot be read."""
    run = tables.run
    begun = run.c.reverts.is_(None) & run.c.state.not_in(["planned", "cancelled"])
    last = sa.select(run.c.id).where(begun).ext(distinct_on(run.c.job))
    last = last.order_by(run.c.job, run.c.created_at.desc())
    found: dict[str, Run] = {}
    try:
        with ledgers(settings, [system]) as all_of_them:
            for each in all_of_them:
                with each.database.transaction() as connection:
                    if tables.is_current(connection):
                        loaded = [runs.load(connection, id_) for id_ in connection.scalars(last)]
                        found |= {one.job: one for one in loaded if each.has(one)}
    except (Refusal, DBAPIError):
        return found
    return found
