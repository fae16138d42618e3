"""What this system wants and a database lacks, and the DDL that makes it.

The jobs need `"MonthlySnapshot"` and `"AuditLog"`; without an index everything works, slowly.
Nothing here is executed: the app's schema is the app's, and its owner decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from maintenance_pipelines.systems.referrals.schema import (
    TABLES,
    audit_log,
    member,
    monthly_snapshot,
)
from maintenance_pipelines.systems.referrals.top_referrers import WANTED

# Valid ones over plain columns and all rows; in an order that a query can ask for.
INDEXES = sa.text(
    """
    SELECT t.relname AS table_name, i.indisunique AS is_unique,
           array_agg(a.attname::text ORDER BY k.place) AS columns
      FROM pg_index i
      JOIN pg_class t ON t.oid = i.indrelid
      JOIN pg_namespace n ON n.oid = t.relnamespace
      JOIN pg_class x ON x.oid = i.indexrelid
      JOIN pg_am am ON am.oid = x.relam AND am.amname = 'btree'
      JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, place) ON true
      JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number
     WHERE n.nspname = :schema AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
     GROUP BY i.indexrelid, t.relname, i.indisunique
    """
)


@dataclass(frozen=True)
class Absent:
    """Something that is not there: what it is, what for, and the statement that makes it."""

    what: str
    ddl: str


@dataclass(frozen=True)
class _Index:
    table: str
    columns: tuple[str, ...]
    unique: bool

    def serves(self, wanted: _Index) -> bool:
        """Whether this index answers what the wanted one would."""
        if wanted.unique:
            return self.unique and set(self.columns) == set(wanted.columns)
        return self.columns[: len(wanted.columns)] == wanted.columns


def absent(connection: sa.Connection, schema: str) -> list[Absent]:
    """Tables and indexes that are not there, each with its DDL; tables first."""
    there = set(sa.inspect(connection).get_table_names(schema))
    new = [table for table in (monthly_snapshot, audit_log) if table.name not in there]
    missing = [Absent(f"table {table.name}", _table(connection, schema, table)) for table in new]
    found = [
        _Index(row.table_name, tuple(row.columns), row.is_unique)
        for row in connection.execute(INDEXES, {"schema": schema})
    ]
    for name, wanted in _wanted():
        table_expected = wanted.table in there or any(t.name == wanted.table for t in new)
        served = any(one.table == wanted.table and one.serves(wanted) for one in found)
        if table_expected and not served:
            what = f"index on {wanted.table} ({', '.join(wanted.columns)})"
            missing.append(Absent(what, _index(connection, schema, name, wanted)))
    return missing


def _wanted() -> Iterator[tuple[str, _Index]]:
    """The app's own indexes, then the one that it lacks."""
    for table in TABLES:
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            columns = tuple(column.name for column in index.columns)
            yield str(index.name), _Index(table.name, columns, bool(index.unique))
    yield "Member_totalReferred_monthlyReferred_idx", _Index(member.name, WANTED, False)


def _table(connection: sa.Connection, schema: str, table: sa.Table) -> str:
    create = CreateTable(table).compile(
        dialect=connection.dialect,
        schema_translate_map={None: schema},
        render_schema_translate=True,
    )
    return f"{str(create).strip()};"


def _index(connection: sa.Connection, schema: str, name: str, index: _Index) -> str:
    quote = connection.dialect.identifier_preparer.quote
    unique = "UNIQUE " if index.unique else ""
    # Concurrently: the app goes on writing. It can't be done inside a transaction.
    return (
        f"CREATE {unique}INDEX CONCURRENTLY {quote(name)}"
        f" ON {quote(schema)}.{quote(index.table)} ({_list(map(quote, index.columns))});"
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
