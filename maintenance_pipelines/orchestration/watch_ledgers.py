"""Watches the ledgers: runs that are not finished, held, or waiting, and unusual conflicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger as tables
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured, Refusal
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alerts import Alert, Severity
from maintenance_pipelines.orchestration import ledgers, telling
from maintenance_pipelines.orchestration.sentences import refusal_of
from maintenance_pipelines.settings import Settings

CONFLICTS = "ALERTS_CONFLICTS"
"""`<SYSTEM>_ALERTS_CONFLICTS`, else MAINTENANCE_ALERTS_CONFLICTS: rows."""
FEW_CONFLICTS = 100

DOMAINS = ("ledger", "held", "approval", "conflicts")

run = tables.run


def watch(settings: Settings, storage: Database, now: datetime) -> None:
    """Looks into every configured system's ledgers; one that cannot be read is an alert itself."""
    for system in configured(settings):
        try:
            found, undecided = look(settings, system)
        except (Refusal, DBAPIError) as error:
            refusal = refusal_of(error) if isinstance(error, DBAPIError) else error
            with storage.transaction() as connection:
                alert_book.raise_(connection, out_of_reach(system, refusal), now)
            continue
        with storage.transaction() as connection:
            alert_book.recover(connection, f"reach/{system}", now, "it answers again")
            for domain in DOMAINS:
                mine = [each for each in found if each.cause.startswith(f"{domain}/")]
                alert_book.reconcile(connection, f"{domain}/{system}/", mine, now, undecided)


def configured(settings: Settings) -> list[str]:
    """The systems that have a database; none is fine."""
    try:
        return ledgers.configured(settings)
    except Misconfigured:
        return []


def look(settings: Settings, system: str) -> tuple[list[Alert], set[str]]:
    """What is off with a system's runs, and the causes that cannot be judged while one applies."""
    alerts: list[Alert] = []
    undecided: set[str] = set()
    threshold = most_conflicts(settings, system)
    with ledgers.ledgers(settings, [system]) as all_of_them:
        for each in all_of_them:
            with _readable(each.database) as connection:
                if connection is None:
                    continue
                for last in _last_of_partitions(connection):
                    if not each.has(last):
                        continue
                    if last.state in telling.UNFINISHED:
                        alerts.append(telling.unfinished(settings, system, last))
                    elif last.state == "applying":
                        undecided.add(telling.unfinished_cause(system, last))
                    if last.state == "rolled_back" and last.held:
                        alerts.append(telling.held(settings, system, last))
                    if last.state == "planned" and last.approval_due:
                        alerts.append(telling.waits_for_approval(settings, system, last))
                for last in _last_of_jobs(connection):
                    if each.has(last) and last.conflicts > threshold:
                        alerts.append(telling.conflicts(settings, system, last, threshold))
    return alerts, undecided


def most_conflicts(settings: Settings, system: str) -> int:
    """Rows in conflict that a run may meet before somebody is told."""
    for name in (f"{system.upper()}_{CONFLICTS}", f"MAINTENANCE_{CONFLICTS}"):
        secret = settings.variables.get(name)
        if secret is not None:
            text = secret.get_secret_value().strip()
            if not text.isdecimal():
                raise Misconfigured(f"{name} should be a number of rows, 0 or more.")
            return int(text)
    return FEW_CONFLICTS


def out_of_reach(system: str, refusal: Refusal) -> Alert:
    """A system whose ledger could not be read: its jobs cannot run, and nobody can watch them."""
    return Alert(
        cause=f"reach/{system}",
        severity=Severity.ERROR,
        system=system,
        title="its database cannot be asked",
        happened=str(refusal),
        written="Not known; whatever was written was committed together with its record.",
        next_step=f"./maintenance doctor {system}",
        changes=type(refusal).__name__,
    )


@contextmanager
def _readable(database: Database) -> Iterator[sa.Connection | None]:
    """A transaction on a ledger; None where there is no ledger yet, and so no run."""
    with database.transaction() as connection:
        yield connection if tables.is_current(connection) else None


def _last_of_partitions(connection: sa.Connection) -> list[Run]:
    """What stands for each job and partition: its last run that did something, and a plan and a
    rollback after it that wait for somebody.
    """
    forward = run.c.reverts.is_(None)
    partition = (run.c.job, run.c.partition)
    begun = forward & run.c.state.not_in(["planned", "cancelled"])
    planned = forward & (run.c.state != "cancelled") & run.c.approval_above.is_not(None)
    undo = run.c.reverts.is_not(None) & (run.c.state != "cancelled")
    worth_loading = run.c.state.not_in(["verified", "applied"]) | run.c.held
    return [
        *_newest(connection, begun, partition, worth_loading),
        *_newest(connection, planned, partition, run.c.state == "planned"),
        *_newest(connection, undo, (run.c.reverts,), run.c.state.in_([*telling.UNFINISHED])),
        *_newest(connection, undo, (run.c.reverts,), run.c.state == "applying"),
    ]


def _last_of_jobs(connection: sa.Connection) -> list[Run]:
    done = run.c.reverts.is_(None) & run.c.state.in_(["verified", "partial", "failed"])
    return _newest(connection, done, (run.c.job,), run.c.planned > 0)


def _newest(
    connection: sa.Connection,
    which: sa.ColumnElement[bool],
    by: tuple[sa.Column[str], ...],
    worth_loading: sa.ColumnElement[bool],
) -> list[Run]:
    newest = sa.select(run).where(which).ext(distinct_on(*by))
    newest = newest.order_by(*by, run.c.created_at.desc())
    last = newest.subquery("last")
    # The condition was written for the table; it is about the rows that are the last.
    wanted = sa.select(run.c.id).join(last, last.c.id == run.c.id).where(worth_loading)
    return [runs.load(connection, id_) for id_ in connection.scalars(wanted)]
