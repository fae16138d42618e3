"""The six tables of cashback and the four that they refer to, as the application declares them.

No defaults, no CHECK, no secondary index, no ON DELETE rule: the application fills in and checks
everything itself. On SQLite the declared types are these; PostgreSQL has their usual counterparts,
with ids that it generates.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

PARENTS = ("user", "loan", "payment", "daily_tracker")
"""The tables that have to be there already, each with an integer primary key `id`."""

TABLES = (
    "cashback_transaction",
    "loan_cashback_config",
    "tracker_entry",
    "tracker_cashback_config",
    "user_payment_method",
    "cashback_redemption",
)
"""The six, in an order in which each finds the ones that it refers to."""


@cache
def definitions(schema: str | None = None) -> sa.MetaData:
    """The six tables, and the parents as far as they matter, in `schema` (None: the default).

    Everybody gets the same object, and only reads it.
    """
    metadata = sa.MetaData(schema=schema)
    for parent in PARENTS:
        sa.Table(parent, metadata, sa.Column("id", sa.Integer, primary_key=True))
    for name, columns in _columns().items():
        # BY DEFAULT AS IDENTITY asks for no privilege on a sequence, which SERIAL does.
        identity = sa.Column("id", sa.Integer, sa.Identity(), primary_key=True)
        sa.Table(name, metadata, identity, *columns)
    return metadata


def creation(table: sa.Table, dialect: Dialect) -> str:
    """The statement that creates a table, as it is shown and as it is executed.

    It is laid out with spaces: that sets it apart from what an application's own SQLAlchemy
    would write, which SQLite keeps verbatim.
    """
    statement = str(sa.schema.CreateTable(table).compile(dialect=dialect)).strip()
    lines = (line.rstrip().replace("\t", "    ") for line in statement.splitlines())
    return "\n".join(line for line in lines if line)


def _columns() -> dict[str, list[sa.Column[Any]]]:
    return {
        "cashback_transaction": [
            _to("from_user_id", "user", nullable=True),
            _to("to_user_id", "user"),
            sa.Column("points", sa.Numeric(15, 2), nullable=False),
            sa.Column("transaction_type", sa.String(30), nullable=False),
            _to("related_loan_id", "loan", nullable=True),
            _to("related_payment_id", "payment", nullable=True),
            _to("related_tracker_id", "daily_tracker", nullable=True),
            sa.Column("related_tracker_entry_day", sa.Integer),
            sa.Column("notes", sa.Text),
            sa.Column("user_notes", sa.Text),
            _to("created_by_user_id", "user"),
            sa.Column("created_at", sa.DateTime),
        ],
        "loan_cashback_config": _config("loan_id", "loan"),
        "tracker_entry": [
            _to("tracker_id", "daily_tracker"),
            sa.Column("day", sa.Integer, nullable=False),
            sa.Column("entry_data", sa.Text, nullable=False),
            sa.Column("status", sa.String(20), nullable=False),
            _to("submitted_by_user_id", "user"),
            _to("verified_by_user_id", "user", nullable=True),
            sa.Column("submitted_at", sa.DateTime),
            sa.Column("verified_at", sa.DateTime),
            sa.Column("rejection_reason", sa.Text),
        ],
        "tracker_cashback_config": _config("tracker_id", "daily_tracker"),
        "user_payment_method": [
            _to("user_id", "user"),
            sa.Column("payment_type", sa.String(50), nullable=False),
            *_account(),
            sa.Column("is_default", sa.Boolean),
            sa.Column("created_at", sa.DateTime),
            sa.Column("updated_at", sa.DateTime),
        ],
        "cashback_redemption": [
            _to("user_id", "user"),
            sa.Column("amount", sa.Numeric(15, 2), nullable=False),
            sa.Column("redemption_type", sa.String(50), nullable=False),
            _to("payment_method_id", "user_payment_method", nullable=True),
            *_account(),
            sa.Column("status", sa.String(20), nullable=False),
            sa.Column("admin_notes", sa.Text),
            _to("processed_by_user_id", "user", nullable=True),
            sa.Column("processed_at", sa.DateTime),
            sa.Column("created_at", sa.DateTime),
            sa.Column("updated_at", sa.DateTime),
            _to("redemption_transaction_id", "cashback_transaction", nullable=True),
        ],
    }


def _config(column: str, parent: str) -> list[sa.Column[Any]]:
    """What a loan and a tracker have alike: who earns how much."""
    return [
        _to(column, parent),
        _to("user_id", "user"),
        sa.Column("cashback_type", sa.String(20), nullable=False),
        sa.Column("cashback_value", sa.Numeric(15, 4), nullable=False),
        sa.Column("created_at", sa.DateTime),
        sa.Column("is_active", sa.Boolean),
    ]


def _account() -> list[sa.Column[Any]]:
    """Where money is sent to."""
    lengths = {
        "account_name": 200,
        "account_number": 100,
        "ifsc_code": 20,
        "bank_name": 200,
        "upi_id": 200,
        "gpay_id": 200,
        "phone_number": 20,
    }
    texts = [sa.Column(name, sa.String(length)) for name, length in lengths.items()]
    return [*texts, sa.Column("address", sa.Text)]


def _to(column: str, parent: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(column, sa.Integer, sa.ForeignKey(f"{parent}.id"), nullable=nullable)
