"""An app's tables as its own schema creates them, for demos, benchmarks and tests."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable


def create_unkeyed(
    connection: sa.Connection,
    schema: str,
    tables: Iterable[sa.Table],
    enums: Iterable[sa.Enum] = (),
) -> None:
    """The types, and the tables with primary and unique keys only, which load faster; `add_keys`
    completes them.
    """
    connection.execution_options(schema_translate_map={None: schema})
    for enum in enums:
        enum.create(connection, checkfirst=True)
    for table in tables:
        connection.execute(CreateTable(table, include_foreign_key_constraints=[]))


def add_keys(connection: sa.Connection, schema: str, tables: Iterable[sa.Table]) -> None:
    """The indexes and foreign keys that `create_unkeyed` left out."""
    connection.execution_options(schema_translate_map={None: schema})
    for table in tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(CreateIndex(index))
    for table in tables:
        for constraint in table.foreign_key_constraints:
            # Kept in the table's own DDL too: AddConstraint would otherwise take it out.
            connection.execute(AddConstraint(constraint, isolate_from_table=False))
