"""Watches how long runs take and how many fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alerts import Alert, Severity
from maintenance_pipelines.orchestration import telling
from maintenance_pipelines.orchestration.news import Passed
from maintenance_pipelines.orchestration.subjects import job_of, partition_of
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry

USUAL_LIMIT = timedelta(minutes=5)
LIMIT = "LIMIT_S"
"""`<JOB>_LIMIT_S`: seconds after which a run of that job is too slow. Else its own time limit,
or five minutes where that is longer."""

LONGEST_WAIT = timedelta(minutes=30)
"""How long a run may wait for its turn before somebody is told."""

MOST_FAILURES = 0.1
DAY = timedelta(hours=24)
FEW = 2
"""A single failure is told as itself; it is no rate."""


def limit_of(settings: Settings, job: registry.AnyJob) -> timedelta:
    """How long a run of this job may take before somebody is told."""
    variable = f"{job.name.upper()}_{LIMIT}"
    secret = settings.variables.get(variable)
    if secret is None:
        return min(job.time_limit, USUAL_LIMIT)
    text = secret.get_secret_value().strip()
    if not text.isdecimal() or int(text) == 0:
        raise Misconfigured(f"{variable} should be a number of seconds, 1 or more.")
    return timedelta(seconds=int(text))


def of_ended(settings: Settings, record: dg.RunRecord) -> Iterable[Alert | Passed]:
    """Whether a run that has ended took too long, or has shown that the job is quick again."""
    job = job_of(record.dagster_run)
    if job is None or record.start_time is None or record.end_time is None:
        return
    took = timedelta(seconds=record.end_time - record.start_time)
    limit = limit_of(settings, job)
    if took > limit:
        yield _slow(settings, record.dagster_run, job, took, limit, "took")
    elif record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
        yield Passed(f"slow/{job.system}/{job.name}", f"the last run took {_spell(took)}")


def watch(
    settings: Settings, instance: dg.DagsterInstance, storage: Database, now: datetime
) -> None:
    """Enters runs under way that take too long, runs that never begin, and jobs that fail often."""
    with storage.transaction() as connection:
        for alert in _under_way(settings, instance, now):
            alert_book.raise_(connection, alert, now)
        alert_book.reconcile(connection, "queue/", _waiting(settings, instance, now), now)
        alert_book.reconcile(connection, "rate/", _rates(instance, now), now)


def _under_way(settings: Settings, instance: dg.DagsterInstance, now: datetime) -> Iterable[Alert]:
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for record in instance.get_run_records(started):
        job = job_of(record.dagster_run)
        if job is None or record.start_time is None:
            continue
        took = now - datetime.fromtimestamp(record.start_time, UTC)
        limit = limit_of(settings, job)
        if took > limit:
            yield _slow(settings, record.dagster_run, job, took, limit, "has been running for")


def _waiting(settings: Settings, instance: dg.DagsterInstance, now: datetime) -> Iterable[Alert]:
    """A place in a pool that is never given back would keep a job from running, in silence."""
    statuses = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING]
    for record in instance.get_run_records(dg.RunsFilter(statuses=statuses)):
        job, waited = job_of(record.dagster_run), now - record.create_timestamp
        if job is not None and waited > LONGEST_WAIT:
            yield Alert(
                cause=f"queue/{job.system}/{job.name}",
                severity=Severity.WARNING,
                system=job.system,
                title=f"{job.name} waits for its turn",
                happened=f"A run of it was asked for {_spell(waited)} ago and has not begun.",
                run=record.dagster_run.run_id,
                next_step="see in the UI which runs are at work, and under Deployment, "
                "Concurrency, which of them hold the pool of its system",
                link=telling.link(settings, record.dagster_run.run_id),
            )


def _rates(instance: dg.DagsterInstance, now: datetime) -> Iterable[Alert]:
    statuses = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    ended: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    since = (now - DAY).timestamp()
    recent = dg.RunsFilter(statuses=statuses, updated_after=now - DAY)
    for record in instance.get_run_records(recent):
        if (record.end_time or 0.0) >= since:
            job = job_of(record.dagster_run)
            name = job.name if job else ""
            ended[name] += 1
            failed[name] += record.dagster_run.is_failure
    for job in registry.every():
        rate = failed[job.name] / ended[job.name] if ended[job.name] else 0.0
        if failed[job.name] >= FEW and rate > MOST_FAILURES:
            yield Alert(
                cause=f"rate/{job.system}/{job.name}",
                severity=Severity.ERROR,
                system=job.system,
                title=f"{job.name} fails too often",
                happened=f"{failed[job.name]} of {ended[job.name]} runs of the last 24 hours have "
                f"failed; more than {MOST_FAILURES:.0%} is too many.",
                written="See the single runs.",
                next_step=f"./maintenance runs --job {job.name}",
            )


def _slow(
    settings: Settings,
    run: dg.DagsterRun,
    job: registry.AnyJob,
    took: timedelta,
    limit: timedelta,
    verb: str,
) -> Alert:
    return Alert(
        cause=f"slow/{job.system}/{job.name}",
        severity=Severity.WARNING,
        system=job.system,
        title=f"{job.name} takes longer than {_spell(limit)}",
        happened=f"{f'{job.name} {partition_of(run)}'.strip()} {verb} {_spell(took)}.",
        written="What its batches have committed; `./maintenance runs` counts it.",
        run=run.run_id,
        next_step=f"./maintenance runs --job {job.name}; pause RUN stops it after a batch",
        link=telling.link(settings, run.run_id),
    )


def _spell(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
