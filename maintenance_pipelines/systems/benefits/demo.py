"""Demo data: made-up users with real cards, seven good months, and an August that went wrong.

`build` fills an empty schema: `story.py` tells what happened to 350 users, and `--scale` makes
the server copy them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.systems.benefits.schema import (
    TABLES,
    add_app_keys,
    create_unkeyed_app_tables,
)
from maintenance_pipelines.systems.benefits.story import USERS, Rows, tell

SEED = 2025
DISTINCT = 17
"""Characters of an id that tell the originals apart; a copy's number takes the other eight."""


def build(connection: sa.Connection, schema: str, seed: int = SEED, scale: int = 1) -> None:
    """Create the app's tables in `schema`, which has none, and fill them.

    The same `seed` gives the same rows. `scale` multiplies the 350 users; a hundred thousand
    take about a minute. Everything happens in the caller's transaction.
    """
    create_unkeyed_app_tables(connection, schema)
    rows = tell(seed)
    for table, content in zip(TABLES, _contents(rows), strict=True):
        connection.execute(table.insert(), content)
        if scale > 1:
            connection.execute(_copies(table, list(content[0]), scale))
    add_app_keys(connection, schema)
    quote = connection.dialect.identifier_preparer.quote
    for table in TABLES:
        connection.execute(sa.text(f"ANALYZE {quote(schema)}.{quote(table.name)}"))


def users(scale: int) -> int:
    """How many users a demo of that scale has."""
    return USERS * scale


def _contents(rows: Rows) -> tuple[list[dict[str, Any]], ...]:
    return rows.users, rows.cards, rows.benefits, rows.statuses


def _copies(table: sa.Table, columns: list[str], scale: int) -> sa.Insert:
    """Copies of every row, differing in ids and e-mail addresses by the number of the copy."""
    copies = sa.func.generate_series(1, scale - 1).table_valued("number", joins_implicitly=True)
    copy = copies.render_derived(name="copy").c.number
    suffix = sa.func.lpad(sa.func.to_hex(copy), 8, "0", type_=sa.Text)

    def value(name: str) -> sa.ColumnElement[Any]:
        column = table.c[name]
        if column.primary_key or column.foreign_keys:
            return sa.func.left(column, DISTINCT, type_=sa.Text) + suffix
        if name == "email":
            return sa.func.replace(column, "@", "+" + sa.cast(copy, sa.Text) + "@")
        return column

    rows = sa.select(*map(value, columns))
    return table.insert().from_select(columns, rows, include_defaults=False)
