"""Delivers the book's messages: each to every channel it is for, at least once, and visibly.

A channel that does not answer is tried again, ever less often and without end; what has piled up
about one cause meanwhile is then told in one message. A process that dies between sending and
writing that down sends again.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.operations.alert_book import cause, delivery, message
from maintenance_pipelines.operations.alert_routes import Channel, Routes, keep_silent
from maintenance_pipelines.operations.alerts import Severity

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
STALE = timedelta(days=1)
"""What nobody was to be told of and was over so long ago stays untold when a channel appears."""
BUDGET_S = 30.0
"""Time that one pass takes at most, but for the last message: a sensor has a minute."""

Send = Callable[[Channel, str, str, str], str | None]
"""Sends a subject and a body to a channel, of an event; returns what went wrong, or None."""
TEST = "test"
"""The event of a message that only tries a channel."""


@dataclass(frozen=True)
class Delivered:
    """What a pass came to: messages told and not told, and those without any channel."""

    told: int = 0
    failed: int = 0
    nowhere: int = 0


@dataclass(frozen=True)
class Pending:
    """A message that a channel has not been given yet."""

    cause: str
    event: str
    severity: str
    system: str
    subject: str
    at: datetime
    service: str
    attempts: int
    next_attempt_at: datetime
    error: str | None


def deliver(
    storage: Database,
    routes: Routes,
    clock: Callable[[], datetime],
    send: Send | None = None,
) -> Delivered:
    """Tells what is due to be told now."""
    send = send or notify
    with storage.transaction() as connection:
        _route(connection, routes, clock())
    told = failed = 0
    silent: set[str] = set()
    deadline = time.monotonic() + BUDGET_S
    while time.monotonic() < deadline:
        with storage.transaction() as connection:
            group = _claim(connection, clock(), silent)
            if not group:
                break
            problem = _send(send, routes, group)
            _record(connection, group, clock(), problem)
        if problem is None:
            told += len(group)
        else:
            failed += len(group)
            # One attempt on each channel and pass: the others should not wait for a dead one.
            silent.add(group[0].channel)
    with storage.transaction() as connection:
        nowhere = connection.execute(
            sa.select(sa.func.count()).where(message.c.routed_at.is_(None))
        ).scalar_one()
    return Delivered(told, failed, nowhere)


def pending(storage: Database) -> list[Pending]:
    """What has not been told yet, the oldest first."""
    columns = [message.c[name] for name in ("cause", "event", "severity", "system", "subject")]
    state = [delivery.c[n] for n in ("service", "attempts", "next_attempt_at", "error")]
    statement = (
        sa.select(*columns, message.c.at, *state)
        .join_from(delivery, message)
        .where(delivery.c.delivered_at.is_(None))
        .order_by(message.c.id)
    )
    with storage.transaction() as connection:
        return [Pending(**row) for row in connection.execute(statement).mappings()]


def notify(channel: Channel, subject: str, body: str, event: str) -> str | None:
    """Sends through Apprise. What it logs may hold the address, so only numbers of it are kept."""
    import apprise

    service = apprise.Apprise.instantiate(channel.address, suppress_exceptions=True)
    if service is None:
        return "Apprise does not know this address"
    kind = apprise.NotifyType.SUCCESS if event == "recovered" else apprise.NotifyType.WARNING
    kind = apprise.NotifyType.INFO if event == TEST else kind
    caller = apprise.Apprise()
    caller.add(service)
    with _Answer() as answer:
        sent = caller.notify(
            title=subject, body=body, notify_type=kind, body_format=apprise.NotifyFormat.TEXT
        )
    return None if sent else answer.problem


def try_out(routes: Routes, send: Send | None = None) -> dict[Channel, str | None]:
    """Sends every channel a message that says it is a test; what went wrong with each, or None."""
    subject = "TEST maintenance: this channel is told of alerts"
    body = "Nothing has happened. Somebody has asked for this message to see that it arrives."
    send = send or notify
    return {channel: send(channel, subject, body, TEST) for channel in routes.all().values()}


class _Answer(logging.Handler):
    """Listens to what Apprise says while it sends."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.problem = "it could not be reached"

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the number of an answer, and nothing else."""
        found = re.search(r"error=(\d{3})\b", record.getMessage())
        if found and record.thread == threading.get_ident():
            self.problem = f"it answered {found[1]}"

    def __enter__(self) -> _Answer:
        keep_silent()
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *failure: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _route(connection: sa.Connection, routes: Routes, now: datetime) -> None:
    """Chooses the channels of new messages, and others for those whose channel is gone."""
    known = routes.all()
    unrouted = connection.execute(
        sa.select(message)
        .where(message.c.routed_at.is_(None))
        .order_by(message.c.id)
        .with_for_update(skip_locked=True)
    ).all()
    for row in unrouted:
        channels = routes.of(row.system, Severity(row.severity))
        if channels:
            _address(connection, row.id, channels, now)
        elif row.at > now - STALE or _is_open(connection, row.cause):
            continue
        connection.execute(message.update().where(message.c.id == row.id).values(routed_at=now))
    gone = (
        sa.select(delivery.c.message_id, message.c.system, message.c.severity)
        .join_from(delivery, message)
        .where(delivery.c.delivered_at.is_(None), delivery.c.channel.not_in(list(known)))
        .with_for_update(of=delivery, skip_locked=True)
    )
    for row in connection.execute(gone).all():
        channels = routes.of(row.system, Severity(row.severity))
        if channels:
            _address(connection, row.message_id, channels, now)
            lost = (delivery.c.message_id == row.message_id) & delivery.c.delivered_at.is_(None)
            unknown = delivery.c.channel.not_in(list(known))
            connection.execute(delivery.delete().where(lost, unknown))


def _address(
    connection: sa.Connection, message_id: int, channels: Sequence[Channel], now: datetime
) -> None:
    rows = [
        {
            "message_id": message_id,
            "channel": channel.name,
            "service": channel.service,
            "next_attempt_at": now,
        }
        for channel in channels
    ]
    connection.execute(insert(delivery).values(rows).on_conflict_do_nothing())


def _is_open(connection: sa.Connection, key: str) -> bool:
    found = sa.select(cause.c.key).where(cause.c.key == key, cause.c.lasting)
    return connection.execute(found).one_or_none() is not None


def _claim(connection: sa.Connection, now: datetime, silent: set[str]) -> list[Any]:
    """All that one channel has not been told about one cause, held until it has been sent."""
    waiting = (
        sa.select(delivery.c.channel, delivery.c.attempts, message)
        .join_from(delivery, message)
        .where(delivery.c.delivered_at.is_(None))
        .order_by(message.c.id)
        .with_for_update(of=delivery, skip_locked=True)
    )
    due = waiting.where(delivery.c.next_attempt_at <= now, delivery.c.channel.not_in(list(silent)))
    first = connection.execute(due.limit(1)).one_or_none()
    if first is None:
        return []
    same = (delivery.c.channel == first.channel) & (message.c.cause == first.cause)
    return list(connection.execute(waiting.where(same)).all())


def _send(send: Send, routes: Routes, group: Sequence[Any]) -> str | None:
    channel = routes.all().get(group[0].channel)
    if channel is None:
        return "this channel is not among the settings any more"
    newest = group[-1]
    body = newest.body
    if len(group) > 1:
        earlier = [f"- {row.at:%Y-%m-%d %H:%M} UTC: {row.subject}" for row in group[:-1]]
        body = "\n".join([body, "", "Not told until now:", *earlier])
    return send(channel, newest.subject, body, newest.event)


def _record(
    connection: sa.Connection, group: Sequence[Any], now: datetime, problem: str | None
) -> None:
    mine = delivery.c.message_id.in_([row.id for row in group])
    mine &= delivery.c.channel == group[0].channel
    attempts = max(row.attempts for row in group)
    values: dict[str, Any] = {"attempts": delivery.c.attempts + 1, "error": problem}
    if problem is None:
        values["delivered_at"] = now
    else:
        pause = min(FIRST_PAUSE * 2 ** min(attempts, 20), LONGEST_PAUSE)
        values["next_attempt_at"] = now + pause
    connection.execute(delivery.update().where(mine).values(**values))
