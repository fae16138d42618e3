"""What the database really looks like: the shapes of the tables that a job relies on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True)
class ColumnShape:
    """A column: its type as PostgreSQL spells it, the kind of type, and what fills it."""

    name: str
    type: str
    enum: bool
    required: bool
    default: str | None
    computed: bool


@dataclass(frozen=True)
class TriggerShape:
    """A trigger of the app's: its name and the statements it fires on."""

    name: str
    on_insert: bool
    on_update: bool
    on_delete: bool


Parent = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""A foreign key of a table: the parent's schema and name, own columns, the parent's columns."""


@dataclass(frozen=True)
class TableShape:
    """A table: columns by name, unique keys as sets of columns, triggers, and who may see rows."""

    name: str
    kind: str
    columns: Mapping[str, ColumnShape]
    unique_keys: frozenset[frozenset[str]]
    triggers: tuple[TriggerShape, ...]
    rows_hidden: bool
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Reference:
    """A foreign key to a table: the child's column and the parent's that it names."""

    child_schema: str
    child: str
    child_columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


TABLES = sa.text(
    """
    SELECT c.oid, c.relname, c.relkind, row_security_active(c.oid) AS rows_hidden
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = ANY(:names)
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    """
)
COLUMNS = sa.text(
    """
    SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
           t.typtype = 'e' AS enum, a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid) AS default_expression,
           a.attidentity <> '' OR a.attgenerated <> '' AS computed
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = ANY(:oids) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attrelid, a.attnum
    """
)
# A key that conflicts can be settled on: valid, immediate, over plain columns, of all rows, and
# either without NULLs or treating them as equal.
UNIQUE_KEYS = sa.text(
    """
    SELECT i.indrelid, array_agg(a.attname::text) AS names
      FROM pg_index i
      JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) AS k(attnum) ON true
      LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = ANY(:oids) AND i.indisunique AND i.indisvalid AND i.indimmediate
       AND i.indpred IS NULL AND i.indexprs IS NULL
     GROUP BY i.indexrelid, i.indrelid, i.indnullsnotdistinct
    HAVING i.indnullsnotdistinct OR bool_and(a.attnotnull)
    """
)
TRIGGERS = sa.text(
    """
    SELECT tgrelid, tgname, (tgtype & 4) <> 0 AS on_insert, (tgtype & 16) <> 0 AS on_update,
           (tgtype & 8) <> 0 AS on_delete
      FROM pg_trigger
     WHERE tgrelid = ANY(:oids) AND NOT tgisinternal AND tgenabled <> 'D'
     ORDER BY tgname
    """
)
REFERENCES = sa.text(
    """
    SELECT n.nspname, child.relname,
           (SELECT array_agg(a.attname::text ORDER BY k.i)
              FROM unnest(f.conkey) WITH ORDINALITY AS k(attnum, i)
              JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
           (SELECT array_agg(a.attname::text ORDER BY k.i)
              FROM unnest(f.confkey) WITH ORDINALITY AS k(attnum, i)
              JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum)
      FROM pg_constraint f
      JOIN pg_class child ON child.oid = f.conrelid
      JOIN pg_namespace n ON n.oid = child.relnamespace
      JOIN pg_class parent ON parent.oid = f.confrelid
      JOIN pg_namespace pn ON pn.oid = parent.relnamespace
     WHERE f.contype = 'f' AND f.conparentid = 0
       AND pn.nspname = :schema AND parent.relname = :name
     ORDER BY 1, 2
    """
)

PARENTS = sa.text(
    """
    SELECT f.conrelid, n.nspname, parent.relname,
           (SELECT array_agg(a.attname::text ORDER BY k.i)
              FROM unnest(f.conkey) WITH ORDINALITY AS k(attnum, i)
              JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum) AS mine,
           (SELECT array_agg(a.attname::text ORDER BY k.i)
              FROM unnest(f.confkey) WITH ORDINALITY AS k(attnum, i)
              JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum) AS theirs
      FROM pg_constraint f
      JOIN pg_class parent ON parent.oid = f.confrelid
      JOIN pg_namespace n ON n.oid = parent.relnamespace
     WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid = ANY(:oids)
     ORDER BY f.conname
    """
)


def read_shapes(
    connection: sa.Connection, schema: str, names: Iterable[str]
) -> dict[str, TableShape]:
    """The shapes of the named tables of a schema; a table that is not there is left out."""
    tables = connection.execute(TABLES, {"schema": schema, "names": list(names)}).all()
    oids = {"oids": [table.oid for table in tables]}
    columns = connection.execute(COLUMNS, oids).all()
    keys = connection.execute(UNIQUE_KEYS, oids).all()
    triggers = connection.execute(TRIGGERS, oids).all()
    parents = connection.execute(PARENTS, oids).all()
    return {
        table.relname: TableShape(
            name=table.relname,
            kind=_text(table.relkind),
            columns={
                column.attname: ColumnShape(
                    name=column.attname,
                    type=column.type,
                    enum=column.enum,
                    required=column.attnotnull
                    and column.default_expression is None
                    and not column.computed,
                    default=column.default_expression,
                    computed=column.computed,
                )
                for column in columns
                if column.attrelid == table.oid
            },
            unique_keys=frozenset(
                frozenset(key.names) for key in keys if key.indrelid == table.oid
            ),
            triggers=tuple(
                TriggerShape(t.tgname, t.on_insert, t.on_update, t.on_delete)
                for t in triggers
                if t.tgrelid == table.oid
            ),
            rows_hidden=table.rows_hidden,
            parents=tuple(
                (p.nspname, p.relname, tuple(p.mine), tuple(p.theirs))
                for p in parents
                if p.conrelid == table.oid
            ),
        )
        for table in tables
    }


def read_references(connection: sa.Connection, schema: str, name: str) -> list[Reference]:
    """The foreign keys that point to a table: what depends on its rows."""
    rows = connection.execute(REFERENCES, {"schema": schema, "name": name})
    return [Reference(row[0], row[1], tuple(row[2]), tuple(row[3])) for row in rows]


def _text(value: str | bytes) -> str:
    # pg_class.relkind is a "char", which drivers hand over as they like.
    return value.decode() if isinstance(value, bytes) else value
