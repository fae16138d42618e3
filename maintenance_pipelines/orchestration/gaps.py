"""Months in which rows are missing: found by a cheap probe, and requested as partitions.

The probe is detection's own statement, stopped at the first row that is due, for one month after
the other: each look costs one month's statement at most.
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger as tables
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import REASON, Insert, Job, Scope
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings

TAG = "maintenance/gap"
"""Tag of a run that was requested because a month has gaps."""

MONTHS_A_LOOK = 3


def next_months(job: Job, storage: Database, now: datetime) -> list[str]:
    """The months whose turn it is: the running one each time, and the next of all the others."""
    assert job.partitions is not None, "only a job with months has gaps in them"
    *earlier, running = [str(month) for month in job.partitions.until(now)]
    name = f"gaps/{job.name}"
    with storage.transaction() as connection:
        mark = alert_book.read_mark(connection, name)
        begin = int(mark.value["next"]) % len(earlier) if mark and earlier else 0
        turn = (earlier[begin:] + earlier[:begin])[: MONTHS_A_LOOK - 1]
        alert_book.set_mark(connection, name, now, next=begin + len(turn))
    return [running, *turn]


def look(settings: Settings, job: Job, months: list[str], now: datetime) -> list[dg.RunRequest]:
    """Requests those of the months that have a gap and no run that waits for a person.

    A month is requested once a day at most: what is still missing then was left alone for a
    reason that the run has recorded.
    """
    database = connect(settings, job.system)
    try:
        found = [month for month in months if has_gap(settings, database, job, month, now)]
    finally:
        database.dispose()
    return [
        dg.RunRequest(
            run_key=f"gap/{job.name}/{month}/{now:%Y-%m-%d}",
            job_name=job.name,
            partition_key=month,
            tags={TAG: month},
        )
        for month in found
    ]


def has_gap(settings: Settings, database: Database, job: Job, month: str, now: datetime) -> bool:
    """Whether something is due in a month that the next run may write."""
    assert isinstance(job.change, Insert), "gaps are missing rows"
    with database.analysis() as connection:
        if tables.is_current(connection) and _waits(connection, job, month):
            return False
        options = settings.options(job)
        if job.adapt is not None:
            options = job.adapt(connection, database.schema, options)
        moment = now.replace(microsecond=now.microsecond // 1000 * 1000)
        candidates = job.change.candidates(Scope(moment, month, options), None).subquery("probe")
        missing = sa.select(sa.literal(1)).where(candidates.c[REASON].is_(None)).limit(1)
        return connection.execute(missing).one_or_none() is not None


def _waits(connection: sa.Connection, job: Job, month: str) -> bool:
    """Whether a person has to decide first: about a held month, or a run that did not end well."""
    known = runs.of_partition(connection, job.name, month)
    if any(run.held or run.approval_due for run in known):
        return True
    begun = [run for run in known if run.state not in ("planned", "cancelled")]
    waiting = {"partial", "failed", "paused", "applying"}
    return bool(begun) and begun[0].state in waiting
