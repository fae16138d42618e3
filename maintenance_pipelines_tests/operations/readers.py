"""A system with one table of readers and one letter to them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.operations.letters import Letter
from maintenance_pipelines.operations.outbox import Delivery, send_due
from maintenance_pipelines.operations.smtp import MailServer

NOW = datetime(2025, 11, 2, 9, tzinfo=UTC)
DEADLINE = NOW + timedelta(days=1)
SENDER = "The Reader <no-reply@example.com>"

metadata = sa.MetaData()
reader = sa.Table(
    "reader",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("left", sa.Boolean, nullable=False, server_default=sa.false()),
)


def recipients(as_of: datetime, mails: sa.FromClause) -> sa.Select[Any]:
    """Readers who have not left."""
    return sa.select(
        mails.c.id,
        reader.c.email.label("address"),
        reader.c.name,
        sa.case((reader.c.left, "left")).label("withheld"),
    ).join_from(mails, reader, reader.c.id == mails.c.subject)


NOTICE = Letter(
    kind="notice",
    title="It is {{ stage }}",
    package="maintenance_pipelines_tests.operations",
    recipients=recipients,
)


def queue(database: Database, name: str, email: str | None = None, **values: Any) -> uuid.UUID:
    """A reader, and a mail to them that is due; returns the mail's id."""
    id_ = uuid.uuid4()
    row = {"id": id_, "kind": "notice", "stage": "late", "subject": name, "deadline": DEADLINE}
    row |= {"state": "pending", "attempts": 0, "next_attempt_at": NOW, "run_id": "r"}
    with database.transaction() as connection:
        person = {"id": name, "email": email or f"{name}@example.com", "name": name.title()}
        connection.execute(reader.insert().values(person))
        connection.execute(outbox.insert().values(row | values))
    return id_


def mails(database: Database) -> dict[str, sa.RowMapping]:
    """The outbox, by subject."""
    with database.transaction() as connection:
        return {row["subject"]: row for row in connection.execute(sa.select(outbox)).mappings()}


def states(database: Database) -> dict[str, str]:
    """The state of each mail, by subject."""
    return {subject: row["state"] for subject, row in mails(database).items()}


def server(url: str, timeout_s: float = 5.0) -> MailServer:
    """The server at that address, with little patience."""
    return MailServer.parse(url, SENDER, timeout_s)


def deliver(
    database: Database, url: str, as_of: datetime = NOW, timeout_s: float = 5.0
) -> Delivery:
    """Sends what is due."""
    return send_due(database, [NOTICE], server(url, timeout_s), as_of)
