"""Plan tables: one for each run, the manifest of what it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.job import Job, Scope

Plan = sa.TableClause


@dataclass(frozen=True)
class Span:
    """Consecutive positions of a plan, both ends inclusive."""

    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many positions it has."""
        return self.last - self.first + 1

    def covers(self, position: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """Whether a position lies in it."""
        return position.between(self.first, self.last)


def plan_table(run_id: str, prefix: str, target: sa.Table, columns: Iterable[str]) -> Plan:
    """The plan table of a run as a relation: `position`, `reason`, then `<prefix>_<column>`."""
    return sa.table(
        f"plan_{run_id}",
        sa.column("position", sa.BigInteger),
        sa.column("reason", sa.Text),
        *(sa.column(f"{prefix}_{name}", target.c[name].type) for name in columns),
        schema=ledger.SCHEMA,
    )


def create(
    connection: sa.Connection, run_id: str, prefix: str, target: sa.Table, columns: Iterable[str]
) -> Plan:
    """Creates a run's empty plan table, its columns typed just as the target's are."""
    columns = list(columns)
    template = sa.select(
        sa.cast(sa.null(), sa.BigInteger).label("position"),
        sa.cast(sa.null(), sa.Text).label("reason"),
        *(target.c[name].label(f"{prefix}_{name}") for name in columns),
    ).where(sa.false())
    connection.execute(sa.schema.CreateTableAs(template, f"plan_{run_id}", schema=ledger.SCHEMA))
    return plan_table(run_id, prefix, target, columns)


def seal(connection: sa.Connection, plan: Plan) -> None:
    """Makes the filled plan table findable by position."""
    name = f"{ledger.SCHEMA}.{plan.name}"
    connection.execute(sa.text(f"ALTER TABLE {name} ADD PRIMARY KEY (position)"))
    connection.execute(sa.text(f"ANALYZE {name}"))


def drop(connection: sa.Connection, run_id: str) -> None:
    """Drops a run's plan table, and with it the way back."""
    connection.execute(sa.text(f"DROP TABLE IF EXISTS {ledger.SCHEMA}.plan_{run_id}"))


def cut(connection: sa.Connection, run_id: str, planned: int, size: int) -> None:
    """Cuts a plan into granules of `size` rows, none of them done."""
    first = sa.func.generate_series(1, planned, size).column_valued("first")
    rows = sa.select(
        sa.literal(run_id), first, sa.func.least(first + size - 1, sa.cast(planned, sa.BigInteger))
    )
    connection.execute(ledger.granule.insert().from_select(["run_id", "first", "last"], rows))


def digest(
    connection: sa.Connection, plan: Plan, planned: int, job: Job, scope: Scope, kind: str
) -> str:
    """SHA-256 over what is planned: job, partition, moment, options and every row in order.

    A row goes in as PostgreSQL's own hash of it, 128 bits from two seeds, which is quicker than
    its text. Rows are taken a thousand at a time, so that memory stays flat.
    """
    size = 1_000
    first = sa.func.generate_series(1, planned, size).column_valued("first")
    row: sa.ColumnElement[Any] = sa.literal_column(str(plan.name))
    hashes = (sa.func.hash_record_extended(row, seed) for seed in (0, 1))
    hashed = sa.func.concat_ws(" ", *hashes)
    chunk = (
        sa.select(_sha256(_joined(hashed, plan.c.position)))
        .select_from(plan)
        .where(plan.c.position.between(first, first + size - 1))
        .scalar_subquery()
    )
    chunks = sa.select(first.label("first"), chunk.label("digest")).subquery("chunks")
    whole = sa.select(_sha256(_joined(chunks.c.digest, chunks.c.first)))
    rows = connection.execute(whole).scalar_one() if planned else ""
    head = [job.name, kind, scope.partition, scope.as_of.isoformat()]
    spelled = json.dumps([*head, scope.options.model_dump(mode="json"), planned, rows])
    return hashlib.sha256(spelled.encode()).hexdigest()


def _joined(value: sa.ColumnElement[str], by: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.func.string_agg(value, aggregate_order_by(sa.literal(""), by))


def _sha256(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return sa.func.encode(sa.func.sha256(sa.func.convert_to(text, "UTF8")), "hex")
