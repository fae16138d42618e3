"""The book of alerts: what is off at present, and every message about it until it is delivered.

It lies in Dagster's storage, in a schema of its own: an alert about a database that is down
cannot be kept in that database. A message is written together with the mark of what has been
looked at, in one transaction, so that nothing is told twice or not at all when a process dies in
between; sending it comes later (`alert_delivery`).

The tables are made where they are absent and never altered: a version that needs others takes a
schema with another number, after the messages of this one have been delivered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.operations.alerts import Alert, Severity, scrub

SCHEMA = "maintenance_alerts_1"
KEPT = timedelta(days=90)
"""How long messages are kept that have been delivered, and causes that cannot pass."""

metadata = sa.MetaData(schema=SCHEMA)
Moment = sa.DateTime(timezone=True)

cause = sa.Table(
    "cause",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("next_step", sa.Text, nullable=False),
    sa.Column("changes", sa.Text, nullable=False, comment="what makes it news again"),
    sa.Column("lasting", sa.Boolean, nullable=False),
    sa.Column("since", Moment, nullable=False),
)

message = sa.Table(
    "message",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False, comment="raised, changed or recovered"),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("routed_at", Moment, comment="when its channels were chosen"),
    sa.Index("message_unrouted", "id", postgresql_where=sa.text("routed_at IS NULL")),
)

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column(
        "message_id", sa.ForeignKey(f"{SCHEMA}.message.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("channel", sa.Text, primary_key=True, comment="a digest of the channel's address"),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", Moment, nullable=False),
    sa.Column("delivered_at", Moment),
    sa.Column("error", sa.Text),
    sa.Index("delivery_pending", "message_id", postgresql_where=sa.text("delivered_at IS NULL")),
)

mark = sa.Table(
    "mark",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("value", JSONB, nullable=False),
    comment="how far the watches have looked",
)

ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('maintenance_pipelines.alerts'))")
EXISTS = sa.text("SELECT to_regclass(:name) IS NOT NULL")


@dataclass(frozen=True)
class Cause:
    """Something that is off at present."""

    key: str
    severity: Severity
    system: str
    title: str
    next_step: str
    since: datetime


@dataclass(frozen=True)
class Mark:
    """How far a watch has looked, and what it wants to remember."""

    at: datetime
    value: dict[str, Any]


def prepare(storage: Database) -> None:
    """Makes the book's tables where they are absent."""
    with storage.transaction() as connection:
        if connection.execute(EXISTS, {"name": f"{SCHEMA}.mark"}).scalar_one():
            return
        connection.execute(sa.text("SELECT set_config('lock_timeout', '60s', true)"))
        connection.execute(ONE_AT_A_TIME)
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        metadata.create_all(connection)


def raise_(connection: sa.Connection, alert: Alert, now: datetime) -> bool:
    """Enters an alert; True where it is news: a new cause, or one that has changed."""
    row = {
        "severity": alert.severity.value,
        "system": alert.system,
        "title": scrub(alert.title),
        "next_step": scrub(alert.next_step),
        "changes": alert.changes,
        "lasting": alert.lasting,
    }
    # Two watches may see the same thing in the same moment: the primary key lets one of them in.
    new = insert(cause).values(key=alert.cause, since=now, **row).on_conflict_do_nothing()
    if connection.execute(new.returning(cause.c.key)).one_or_none() is not None:
        _tell(connection, alert.cause, "raised", alert, alert.subject, alert.body, now)
        return True
    changed = (cause.c.key == alert.cause) & (cause.c.changes != alert.changes)
    update = cause.update().where(changed).values(**row)
    if connection.execute(update.returning(cause.c.key)).one_or_none() is None:
        return False
    _tell(connection, alert.cause, "changed", alert, alert.subject, alert.body, now)
    return True


def recover(connection: sa.Connection, key: str, now: datetime, says: str = "") -> bool:
    """Announces that a cause has passed; nothing where there was none, or none that can pass."""
    gone = cause.delete().where(cause.c.key == key, cause.c.lasting).returning(cause)
    row = connection.execute(gone).one_or_none()
    if row is None:
        return False
    body = [f"What happened: {scrub(says or 'it has passed')}."]
    body.append(f"It was: {row.title}, since {row.since:%Y-%m-%d %H:%M} UTC.")
    subject = f"RECOVERED {row.system}: {row.title}"
    _tell(connection, key, "recovered", row, subject, "\n".join(body), now)
    return True


def reconcile(
    connection: sa.Connection,
    domain: str,
    alerts: Iterable[Alert],
    now: datetime,
    undecided: Collection[str] = (),
) -> None:
    """Enters all that is off in a domain, a beginning of causes; what else was has passed.

    Causes that are `undecided` at present stay as they are.
    """
    found = {alert.cause: alert for alert in alerts}
    for alert in found.values():
        raise_(connection, alert, now)
    for key in [each.key for each in open_causes(connection, domain)]:
        if key not in found and key not in undecided:
            recover(connection, key, now)


def open_causes(connection: sa.Connection, domain: str = "") -> list[Cause]:
    """What is off at present, the oldest first."""
    wanted = cause.c.lasting & cause.c.key.startswith(domain, autoescape=True)
    rows = connection.execute(sa.select(cause).where(wanted).order_by(cause.c.since, cause.c.key))
    return [
        Cause(r.key, Severity(r.severity), r.system, r.title, r.next_step, r.since) for r in rows
    ]


def read_mark(connection: sa.Connection, name: str) -> Mark | None:
    """The mark of that name, held for this transaction; None where there is none."""
    row = connection.execute(sa.select(mark).where(mark.c.name == name).with_for_update())
    found = row.one_or_none()
    return Mark(found.at, dict(found.value)) if found else None


def set_mark(connection: sa.Connection, name: str, at: datetime, **value: Any) -> None:
    """Writes a mark."""
    row = insert(mark).values(name=name, at=at, value=value)
    connection.execute(
        row.on_conflict_do_update(index_elements=[mark.c.name], set_={"at": at, "value": value})
    )


def remove_marks(connection: sa.Connection, beginning: str) -> None:
    """Forgets all marks whose names begin so."""
    connection.execute(mark.delete().where(mark.c.name.startswith(beginning, autoescape=True)))


def prune(connection: sa.Connection, now: datetime) -> None:
    """Forgets messages that were delivered long ago, and causes that could not pass."""
    pending = sa.exists().where(
        delivery.c.message_id == message.c.id, delivery.c.delivered_at.is_(None)
    )
    old = (message.c.at < now - KEPT) & message.c.routed_at.is_not(None)
    connection.execute(message.delete().where(old, ~pending))
    connection.execute(cause.delete().where(~cause.c.lasting, cause.c.since < now - KEPT))


def _tell(
    connection: sa.Connection,
    key: str,
    event: str,
    about: Any,
    subject: str,
    body: str,
    now: datetime,
) -> None:
    row = message.insert().values(
        cause=key,
        event=event,
        severity=str(about.severity),
        system=about.system,
        subject=subject,
        body=body,
        at=now,
    )
    connection.execute(row)
