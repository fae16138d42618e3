"""Demo data: a lending application before cashback, with made-up users, loans and trackers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.refusals import BadInput

SEED = 2025
USERS = 120
TODAY = datetime(2025, 8, 21)
FIRST_NAMES = ("Asha", "Bilal", "Chitra", "Devan", "Esther", "Farida", "Gopal", "Hema", "Imran")
LAST_NAMES = ("Acharya", "Bose", "Chandra", "Dutta", "Fernandes", "Ghosh", "Iyer", "Joshi", "Khan")
TRACKERS = {"99k": Decimal("99000"), "50k": Decimal("50000"), "no_risk": Decimal("12000")}

Row = dict[str, Any]


def tables(schema: str | None = None) -> sa.MetaData:
    """What the application's database has before cashback."""
    metadata = sa.MetaData(schema=schema)
    sa.Table(
        "user",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("username", sa.String(80), nullable=False, unique=True),
        sa.Column("is_admin", sa.Boolean),
        sa.Column("created_at", sa.DateTime),
    )
    sa.Table(
        "loan",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, sa.ForeignKey("user.id"), nullable=False),
        sa.Column("loan_name", sa.String(100), nullable=False),
        sa.Column("principal_amount", sa.Numeric(15, 2), nullable=False),
        sa.Column("interest_rate", sa.Numeric(15, 4), nullable=False),
        sa.Column("is_active", sa.Boolean),
        sa.Column("created_at", sa.DateTime),
    )
    sa.Table(
        "payment",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("loan_id", sa.Integer, sa.ForeignKey("loan.id"), nullable=False),
        sa.Column("amount", sa.Numeric(15, 2), nullable=False),
        sa.Column("payment_date", sa.DateTime),
        sa.Column("status", sa.String(20), nullable=False),
    )
    sa.Table(
        "daily_tracker",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), nullable=False),
        sa.Column("tracker_name", sa.String(100), nullable=False),
        sa.Column("tracker_type", sa.String(20), nullable=False),
        sa.Column("investment", sa.Numeric(15, 2), nullable=False),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("is_active", sa.Boolean),
    )
    return metadata


def build(
    connection: sa.Connection, schema: str | None = None, seed: int = SEED, scale: int = 1
) -> None:
    """Creates the application's tables in an empty `schema` (None: SQLite's) and fills them.

    The same `seed` gives the same rows; `scale` multiplies the 120 users.
    """
    metadata = tables(schema)
    metadata.create_all(connection)
    for name, rows in _rows(random.Random(seed), USERS * scale).items():
        table = metadata.tables[f"{schema}.{name}" if schema else name]
        connection.execute(table.insert(), rows)
        if connection.dialect.name == "postgresql":
            # The rows brought their own ids; the next one is to follow them.
            sequence = sa.func.pg_get_serial_sequence(str(table), "id")
            connection.execute(sa.select(sa.func.setval(sequence, len(rows))))


def build_file(path: Path, seed: int = SEED, scale: int = 1) -> None:
    """Makes an SQLite file with that data, in place of one that an earlier demo has made.

    Refuses to replace anything else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = path.with_name(f"{path.name}.demo")
    if path.exists() and not mark.exists():
        raise BadInput(f"{path} is not a demo's; it is left alone.")
    mark.touch()
    for beside in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    engine = sa.create_engine(sa.URL.create("sqlite", database=os.fspath(path)))
    with engine.begin() as connection:
        build(connection, None, seed, scale)
    engine.dispose()


def _rows(chance: random.Random, users: int) -> dict[str, list[Row]]:
    """Every table's rows, parents first."""
    rows: dict[str, list[Row]] = {"user": [], "loan": [], "payment": [], "daily_tracker": []}
    for number in range(1, users + 1):
        joined = TODAY - timedelta(days=chance.randint(40, 900), minutes=chance.randint(0, 999))
        first, last = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
        name = f"{first}.{last}.{number}".lower()
        rows["user"].append(
            {"id": number, "username": name, "is_admin": number == 1, "created_at": joined}
        )
        for _ in range(chance.choices((0, 1, 2, 3), (2, 5, 2, 1))[0]):
            _borrow(chance, rows, number, joined)
        if chance.random() < 0.4:
            _track(chance, rows, number, joined)
    return rows


def _borrow(chance: random.Random, rows: dict[str, list[Row]], user: int, since: datetime) -> None:
    """A loan of the user's and what has been paid of it, month by month."""
    loan = len(rows["loan"]) + 1
    begun = since + timedelta(days=chance.randint(1, 35))
    principal = Decimal(chance.randrange(20_000, 500_000, 500))
    rate = Decimal(chance.randint(1000, 2400)) / 10_000
    rows["loan"].append(
        {
            "id": loan,
            "customer_id": user,
            "loan_name": f"Loan {loan:04}",
            "principal_amount": principal,
            "interest_rate": rate,
            "is_active": chance.random() < 0.8,
            "created_at": begun,
        }
    )
    for paid in _months(begun):
        amount = round(principal * rate / 12 * chance.randint(80, 300) / 100, 2)
        status = chance.choices(("verified", "pending", "rejected"), (90, 8, 2))[0]
        rows["payment"].append(
            {
                "id": len(rows["payment"]) + 1,
                "loan_id": loan,
                "amount": amount,
                "payment_date": paid,
                "status": status,
            }
        )


def _track(chance: random.Random, rows: dict[str, list[Row]], user: int, since: datetime) -> None:
    kind = chance.choice(list(TRACKERS))
    begun: date = (since + timedelta(days=chance.randint(0, 38))).date()
    rows["daily_tracker"].append(
        {
            "id": len(rows["daily_tracker"]) + 1,
            "user_id": user,
            "tracker_name": f"Tracker {kind} of user {user}",
            "tracker_type": kind,
            "investment": TRACKERS[kind],
            "start_date": begun,
            "is_active": True,
        }
    )


def _months(begun: datetime) -> Iterator[datetime]:
    paid = begun + timedelta(days=30)
    while paid < TODAY:
        yield paid
        paid += timedelta(days=30)
