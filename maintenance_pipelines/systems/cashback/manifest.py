"""The manifest of a run: its plan table in the ledger, one row for each table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.systems.cashback.instance import TableChange


def _table(run_id: str) -> sa.Table:
    # `position` and `reason` are what the ledger expects of any plan.
    return sa.Table(
        f"plan_{run_id}",
        sa.MetaData(schema=ledger.SCHEMA),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text),
        sa.Column("new_table", sa.Text, nullable=False),
        sa.Column("new_statement", sa.Text, nullable=False),
        sa.Column("new_owner", sa.Text),
        sa.Column("new_grants", ARRAY(sa.Text), nullable=False),
    )


def write(book: sa.Connection, run_id: str, changes: Sequence[TableChange]) -> None:
    """Writes the manifest of a run into the ledger."""
    table = _table(run_id)
    table.create(book)
    rows = [
        {
            "position": position,
            "new_table": each.table,
            "new_statement": each.statement,
            "new_owner": each.owner,
            "new_grants": list(each.grants),
        }
        for position, each in enumerate(changes, 1)
    ]
    book.execute(table.insert(), rows)


def read(book: sa.Connection, run_id: str) -> tuple[TableChange, ...]:
    """The manifest of a run, in order."""
    table = _table(run_id)
    rows = book.execute(sa.select(table).order_by(table.c.position))
    return tuple(
        TableChange(row.new_table, row.new_statement, row.new_owner, tuple(row.new_grants))
        for row in rows
    )


def digest(
    job: str, verb: str, instance: str, as_of: datetime, changes: Sequence[TableChange]
) -> str:
    """SHA-256 over all that is planned: who is to be changed, when, and every statement."""
    rows = [[each.table, each.statement, each.owner, *each.grants] for each in changes]
    spelled = json.dumps([job, verb, instance, as_of.isoformat(), rows])
    return hashlib.sha256(spelled.encode()).hexdigest()
