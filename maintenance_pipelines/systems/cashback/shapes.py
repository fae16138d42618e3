"""What the inspector does not tell: the kind of a relation, and types as they are declared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

SQLITE_ENTRIES = sa.text("SELECT type, name, sql FROM sqlite_schema WHERE type <> 'trigger'")
SQLITE_COLUMNS = sa.text("SELECT name, type, hidden FROM pragma_table_xinfo(:table)")

SQLITE_REFERENCES = sa.text(
    """
    SELECT group_concat("from", ', ') AS "column", lower("table") AS parent,
           coalesce(group_concat("to", ', '), 'id') AS target, on_delete, on_update
      FROM pragma_foreign_key_list(:table) GROUP BY id
    """
)

POSTGRES_RELATIONS = sa.text(
    """
    SELECT c.relname, c.relkind::text AS kind
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = coalesce(:schema, current_schema())
    """
)
POSTGRES_COLUMNS = sa.text(
    """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type,
           a.attgenerated <> '' AS computed,
           a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' AS generated
      FROM pg_attribute a
      JOIN pg_class c ON c.oid = a.attrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE n.nspname = coalesce(:schema, current_schema()) AND c.relname = :table
       AND a.attnum > 0 AND NOT a.attisdropped
    """
)
POSTGRES_KINDS = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "index",
    "c": "composite type",
}
SPELLINGS = {
    "CHARACTER VARYING": "VARCHAR",
    "DECIMAL": "NUMERIC",
    "BOOL": "BOOLEAN",
    "INT": "INTEGER",
}


@dataclass(frozen=True)
class Declared:
    """A column as it is declared: its type, whether it is computed, whether ids are generated."""

    type: str
    computed: bool
    generated: bool


@dataclass(frozen=True)
class Reference:
    """A foreign key as it is, and the rules ON DELETE and ON UPDATE that it has."""

    column: str
    parent: str
    target: str
    rules: tuple[str, ...]


def relations(connection: sa.Connection, schema: str | None) -> dict[str, str]:
    """The kind of every relation of a schema, by name: `table`, `view`, `virtual table`, …"""
    if connection.dialect.name == "sqlite":
        found = connection.execute(SQLITE_ENTRIES)
        return {entry.name: _sqlite_kind(entry.type, entry.sql or "") for entry in found}
    rows = connection.execute(POSTGRES_RELATIONS, {"schema": schema})
    return {row.relname: POSTGRES_KINDS.get(row.kind, "relation") for row in rows}


def columns(connection: sa.Connection, schema: str | None, table: str) -> Mapping[str, Declared]:
    """A table's columns by name."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(SQLITE_COLUMNS, {"table": table})
        # An id of SQLite's is generated when, and only when, its type is just this word.
        return {
            row.name: Declared(spelled(row.type), row.hidden != 0, row.type.upper() == "INTEGER")
            for row in rows
        }
    rows = connection.execute(POSTGRES_COLUMNS, {"schema": schema, "table": table})
    return {row.attname: Declared(spelled(row.type), row.computed, row.generated) for row in rows}


def references(connection: sa.Connection, schema: str | None, table: str) -> list[Reference]:
    """A table's foreign keys."""
    if connection.dialect.name == "sqlite":
        # Not the inspector's, which misses the rules of keys that are declared with a column.
        rows = connection.execute(SQLITE_REFERENCES, {"table": table}).all()
        return [
            Reference(r.column, r.parent, r.target, _rules(r.on_delete, r.on_update)) for r in rows
        ]
    return [
        Reference(
            ", ".join(key["constrained_columns"]),
            ".".join(filter(None, (key["referred_schema"], key["referred_table"])))
            if key["referred_schema"] != schema
            else key["referred_table"],
            ", ".join(key["referred_columns"]),
            _rules(key["options"].get("ondelete"), key["options"].get("onupdate")),
        )
        for key in sa.inspect(connection).get_foreign_keys(table, schema=schema)
    ]


def spelled(declared: str) -> str:
    """One spelling for types that are the same: `decimal(15,2)` is `NUMERIC(15, 2)`."""
    name, parenthesis, arguments = re.sub(r"\s+", " ", declared.upper().strip()).partition("(")
    name = SPELLINGS.get(name.strip(), name.strip())
    if not parenthesis:
        return name
    inside, _, rest = arguments.partition(")")
    numbers = ", ".join(number.strip() for number in inside.split(","))
    return f"{name}({numbers}){rest}"


def _sqlite_kind(type_: str, sql: str) -> str:
    if re.match(r"CREATE\s+VIRTUAL\s", sql, re.IGNORECASE):
        return "virtual table"
    if re.search(r"\)[^()]*\bWITHOUT\s+ROWID\b[^()]*$", sql, re.IGNORECASE):
        return "table without rowid"  # nobody would give its rows their ids
    return type_


def _rules(on_delete: str | None, on_update: str | None) -> tuple[str, ...]:
    named = {"ON DELETE": on_delete, "ON UPDATE": on_update}
    return tuple(f"{on} {rule}" for on, rule in named.items() if rule not in (None, "NO ACTION"))
