"""Puts the reference's benefits and statuses into the app's tables, and reads candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.benefits.candidates import candidates
from maintenance_pipelines.systems.benefits.options import BenefitsOptions
from maintenance_pipelines.systems.benefits.schema import (
    benefit,
    benefit_status,
    credit_card,
    user,
)
from maintenance_pipelines_tests.systems.benefits.reference import Benefit, Card, Key, Status
from maintenance_pipelines_tests.systems.benefits.situations import USERS

LONG_AGO = datetime(2020, 1, 1)


@contextmanager
def session(database: Database, time_zone: str = "UTC") -> Iterator[sa.Connection]:
    """A connection under a session time zone, whose work is rolled back at the end."""
    with database.engine.connect() as connection:
        connection.execute(
            sa.text("SELECT set_config('TimeZone', :zone, true)"), {"zone": time_zone}
        )
        connection.execution_options(schema_translate_map={None: database.schema})
        try:
            yield connection
        finally:
            connection.rollback()


def load(
    connection: sa.Connection, benefits: Iterable[Benefit], statuses: Iterable[Status]
) -> None:
    """Insert them, with their cards and users."""
    _insert(connection, user, map(_user, USERS))
    cards = [row.card for row in benefits if row.card is not None]
    _insert(connection, credit_card, map(_card, cards))
    _insert(connection, benefit, map(_benefit, benefits))
    _insert(connection, benefit_status, map(_status, statuses))


def scope_of(month: Month, as_of: datetime | None = None, **options: object) -> Scope:
    """The scope of a plan for the month."""
    moment = (as_of or datetime(2027, 1, 1)).replace(tzinfo=UTC)
    return Scope(moment, str(month), BenefitsOptions.model_validate(options))


def found(
    connection: sa.Connection, scope: Scope, among: Iterable[Key] | None = None
) -> tuple[dict[Key, datetime], Counter[str]]:
    """What the candidates statement says: due keys with their ends, and counts of the rest."""
    due: dict[Key, datetime] = {}
    reasons: Counter[str] = Counter()
    relation = None if among is None else _relation(connection, among)
    for row in connection.execute(candidates(scope, relation)).mappings():
        if row["reason"] is not None:
            reasons[row["reason"]] += 1
            continue
        key = (row["benefitId"], row["userId"], row["cycleStartDate"], row["occurrenceIndex"])
        assert key not in due, f"{key} is due twice"
        due[key] = row["cycleEndDate"]
    return due, reasons


def _status(status: Status) -> dict[str, object]:
    return {
        "id": status.id,
        "benefitId": status.benefit,
        "userId": status.user,
        "cycleStartDate": status.start,
        "cycleEndDate": status.end,
        "occurrenceIndex": status.occurrence,
        "createdAt": status.created,
        "updatedAt": status.created,
    }


def _user(name: str) -> dict[str, object]:
    return {"id": name, "email": f"{name}@example.com", "updatedAt": LONG_AGO}


def _card(card: Card) -> dict[str, object]:
    return {
        "id": card.id,
        "name": "Card",
        "issuer": "Issuer",
        "openedDate": card.opened,
        "userId": card.user,
        "createdAt": card.created,
        "updatedAt": LONG_AGO,
    }


def _benefit(row: Benefit) -> dict[str, object]:
    return {
        "id": row.id,
        "category": "Dining",
        "description": "Credit",
        "percentage": 0.0,
        "startDate": row.starts,
        "endDate": row.ends,
        "frequency": row.frequency,
        "creditCardId": row.card.id if row.card else None,
        "cycleAlignment": row.alignment,
        "fixedCycleStartMonth": row.start_month,
        "fixedCycleDurationMonths": row.duration,
        "occurrencesInCycle": row.occurrences,
        "createdAt": row.created,
        "updatedAt": LONG_AGO,
    }


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterable[dict[str, object]]) -> None:
    content = list(rows)
    if content:
        connection.execute(table.insert(), content)


def _relation(connection: sa.Connection, keys: Iterable[Key]) -> sa.FromClause:
    table = sa.Table(
        "asked_keys",
        sa.MetaData(),
        sa.Column("benefitId", sa.Text),
        sa.Column("userId", sa.Text),
        sa.Column("cycleStartDate", benefit_status.c.cycleStartDate.type),
        sa.Column("occurrenceIndex", sa.Integer),
        prefixes=["TEMPORARY"],
        schema="pg_temp",
    )
    table.create(connection)
    _insert(connection, table, (dict(zip(table.c.keys(), key, strict=True)) for key in keys))
    return table
