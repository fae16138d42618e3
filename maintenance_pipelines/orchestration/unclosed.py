"""Watches for months that were never closed: no snapshot of them exists at all.

A schedule that was never switched on leaves no failed run behind; only the data tell of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alerts import Alert, Severity
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry

EVERY = timedelta(hours=1)
GRACE = timedelta(hours=1)
"""How long after a month's end its closing is nobody's worry yet."""


def watch(settings: Settings, storage: Database, now: datetime) -> None:
    """Enters an alert for each job that has left months open; looks once an hour."""
    with storage.transaction() as connection:
        mark = alert_book.read_mark(connection, "unclosed")
        if mark and now - mark.at < EVERY:
            return
        alert_book.set_mark(connection, "unclosed", now)
    for name in registry.CLOSED_BY:
        job = registry.JOBS[name]
        try:
            months = open_months(settings, job, now)
        except Refusal:
            continue  # no database; or one of which the watch over the ledgers tells
        alerts = [_alert(job, months)] if months else []
        with storage.transaction() as connection:
            alert_book.reconcile(connection, f"unclosed/{job.system}/", alerts, now, set())


def open_months(settings: Settings, job: Job, now: datetime) -> list[Month]:
    """The months that are over for a while and were never closed, the earliest first."""
    database = connect(settings, job.system)
    try:
        with database.transaction() as connection:
            scope = Scope(now, None, settings.options(job))
            found = registry.CLOSED_BY[job.name](connection, scope)
    finally:
        database.dispose()
    return [month for month in found if month.end + GRACE <= scope.naive_as_of]


def _alert(job: Job, months: list[Month]) -> Alert:
    latest = months[-1]
    earlier = f", and {len(months) - 1} months before it" if len(months) > 1 else ""
    return Alert(
        cause=f"unclosed/{job.system}/{job.name}",
        severity=Severity.ERROR,
        system=job.system,
        title=f"{latest} was never closed",
        happened=f"There is no snapshot of {latest}{earlier}: {job.name} never ran for it.",
        next_step=f"./maintenance run {job.name} --partition {latest}",
        changes=str(latest),
    )
