"""What the demos have in common: rows told once, copied by the server as often as wanted."""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


def fill(
    connection: sa.Connection,
    table: sa.Table,
    content: list[dict[str, Any]],
    scale: int,
    *,
    distinct: int,
    keys: Container[str] = (),
    names: Container[str] = (),
) -> None:
    """Inserts a table's rows, and `scale - 1` copies of each that differ by the copy's number.

    Ids of copies keep their first `distinct` characters, which tell the originals apart, and end
    with the number; `keys` are other unique texts, `names` what people read.
    """
    connection.execute(table.insert(), content)
    if scale > 1:
        connection.execute(_copies(table, list(content[0]), scale, distinct, keys, names))


def _copies(
    table: sa.Table,
    columns: list[str],
    scale: int,
    distinct: int,
    keys: Container[str],
    names: Container[str],
) -> sa.Insert:
    series = sa.func.generate_series(1, scale - 1).table_valued("number", joins_implicitly=True)
    copy = series.render_derived(name="copy").c.number
    suffix = sa.func.lpad(sa.func.to_hex(copy), 8, "0", type_=sa.Text)
    number = sa.cast(copy, sa.Text)

    def value(name: str) -> sa.ColumnElement[Any]:
        column = table.c[name]
        if name in keys:
            return column + "-" + number
        if column.primary_key or column.foreign_keys:
            kept = sa.func.left(sa.cast(column, sa.Text), distinct, type_=sa.Text)
            return sa.cast(kept + suffix, column.type)
        if name == "email":
            return sa.func.replace(column, "@", "+" + number + "@")
        if name in names:
            return column + " " + number
        return column

    rows = sa.select(*map(value, columns))
    return table.insert().from_select(columns, rows, include_defaults=False)


def analyze(connection: sa.Connection, schema: str, tables: Iterable[sa.Table]) -> None:
    """Lets the planner know what the tables hold."""
    quote = connection.dialect.identifier_preparer.quote
    for table in tables:
        connection.execute(sa.text(f"ANALYZE {quote(schema)}.{quote(table.name)}"))


def whole_second(connection: sa.Connection) -> datetime:
    """The whole second that it is by the server's clock, in UTC."""
    now = connection.execute(sa.select(sa.func.date_trunc("second", sa.func.now()))).scalar_one()
    assert isinstance(now, datetime)
    return now.astimezone(UTC)
