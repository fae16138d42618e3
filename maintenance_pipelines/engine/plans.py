"""Plan tables: one for each run, the manifest of what it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
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


def fact_table(name: str, columns: Mapping[str, sa.types.TypeEngine[Any]]) -> Plan:
    """A plan table of facts as a relation: `position`, `reason`, then the facts."""
    return sa.table(
        name,
        sa.column("position", sa.BigInteger),
        sa.column("reason", sa.Text),
        *(sa.column(column, type_) for column, type_ in columns.items()),
        schema=ledger.SCHEMA,
    )


def create_facts(connection: sa.Connection, name: str, facts: sa.Select[Any]) -> None:
    """Creates an empty table for what a statement selects, each column of its very type."""
    described = connection.execute(facts.limit(0)).cursor
    assert described is not None
    types = {column[0]: column[1] for column in described.description}
    spelled = connection.execute(SPELLED, {"oids": list(types.values())}).scalars().all()
    quote = connection.dialect.identifier_preparer.quote_identifier
    columns = ["position bigint", "reason text"]
    columns += [f"{quote(n)} {type_}" for n, type_ in zip(types, spelled, strict=True)]
    connection.execute(sa.text(f"CREATE TABLE {ledger.SCHEMA}.{name} ({', '.join(columns)})"))


SPELLED = sa.text(
    "SELECT format_type(t.oid, NULL) FROM unnest(CAST(:oids AS oid[])) WITH ORDINALITY AS t(oid, i)"
    " ORDER BY t.i"
)


def seal(connection: sa.Connection, plan: Plan) -> None:
    """Makes the filled plan table findable by position."""
    name = f"{ledger.SCHEMA}.{plan.name}"
    connection.execute(sa.text(f"ALTER TABLE {name} ADD PRIMARY KEY (position)"))
    connection.execute(sa.text(f"ANALYZE {name}"))


def drop(connection: sa.Connection, run_id: str) -> None:
    """Drops a run's plan tables, and with them the way back."""
    for name in connection.scalars(MINE, {"run": run_id}).all():
        connection.execute(sa.text(f"DROP TABLE {ledger.SCHEMA}.{name}"))


MINE = sa.text(
    "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = to_regnamespace('maintenance')"
    " AND relkind = 'r' AND relname ~ ('^(plan|image)_' || :run || '(_|$)')"
)


@dataclass(frozen=True)
class Piece:
    """A plan table, or that part of it which is to be applied: `rows` positions from `first`."""

    table: Plan
    first: int
    rows: int


def cut(connection: sa.Connection, run_id: str, pieces: Iterable[Piece], size: int) -> None:
    """Cuts a plan into granules of `size` rows, none of them done."""
    for piece in pieces:
        last = piece.first + piece.rows - 1
        first = sa.func.generate_series(piece.first, last, size).column_valued("first")
        until = sa.func.least(first + size - 1, sa.cast(last, sa.BigInteger))
        rows = sa.select(sa.literal(run_id), first, until)
        connection.execute(ledger.granule.insert().from_select(["run_id", "first", "last"], rows))


def digest(
    connection: sa.Connection, pieces: Iterable[Piece], job: Job, scope: Scope, kind: str
) -> str:
    """SHA-256 over what is planned: job, partition, moment, options and every row in order.

    A row goes in as PostgreSQL's own hash of it, 128 bits from two seeds, which is quicker than
    its text. Rows are taken a thousand at a time, so that memory stays flat.
    """
    pieces = list(pieces)
    planned = sum(piece.rows for piece in pieces)
    rows = "".join(_digest_of_rows(connection, piece) for piece in pieces if piece.rows)
    head = [job.name, kind, scope.partition, scope.as_of.isoformat()]
    spelled = json.dumps([*head, scope.options.model_dump(mode="json"), planned, rows])
    return hashlib.sha256(spelled.encode()).hexdigest()


def _digest_of_rows(connection: sa.Connection, piece: Piece) -> str:
    size, plan = 1_000, piece.table
    last = piece.first + piece.rows - 1
    first = sa.func.generate_series(piece.first, last, size).column_valued("first")
    hashed = sa.func.concat_ws(" ", *(_hash(plan, seed) for seed in (0, 1)))
    chunk = (
        sa.select(_sha256(_joined(hashed, plan.c.position)))
        .select_from(plan)
        .where(plan.c.position.between(first, first + size - 1))
        .scalar_subquery()
    )
    chunks = sa.select(first.label("first"), chunk.label("digest")).subquery("chunks")
    whole = sa.select(_sha256(_joined(chunks.c.digest, chunks.c.first)))
    return str(connection.execute(whole).scalar_one())


def _hash(plan: Plan, seed: int) -> sa.ColumnElement[int]:
    row: sa.ColumnElement[Any] = sa.literal_column(str(plan.name))
    # PostgreSQL has no hash of `json`; there the row's text has to do.
    if any(isinstance(column.type, sa.JSON) for column in plan.c):
        return sa.func.hashtextextended(sa.cast(row, sa.Text), seed)
    return sa.func.hash_record_extended(row, seed)


def _joined(value: sa.ColumnElement[str], by: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.func.string_agg(value, aggregate_order_by(sa.literal(""), by))


def _sha256(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return sa.func.encode(sa.func.sha256(sa.func.convert_to(text, "UTF8")), "hex")
