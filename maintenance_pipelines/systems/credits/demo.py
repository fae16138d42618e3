"""Demo data: a year of purchases, spends and bonuses, and the first of a month that went by.

`build` fills an empty schema: `story.py` tells what happened to some 240 professionals, and
`--scale` makes the server copy them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.systems.credits.schema import (
    TABLES,
    add_app_keys,
    create_unkeyed_app_tables,
    credit_balances,
    credit_purchases,
    credit_transactions,
    pro_profiles,
    users,
)
from maintenance_pipelines.systems.credits.story import Rows, tell

SEED = 2025
DISTINCT = 16
"""Characters of an id that tell the originals apart; a copy's number takes the other eight."""


def build(
    connection: sa.Connection,
    schema: str,
    seed: int = SEED,
    scale: int = 1,
    now: datetime | None = None,
) -> None:
    """Create the app's tables in `schema`, which has none, and fill them.

    The data ends `now` (aware, UTC; default: the whole second that it is by the server's clock),
    since only the running month can be reset. The same `seed` and `now` give the same rows.
    `scale` multiplies the people and all that is theirs. Everything happens in the caller's
    transaction.
    """
    create_unkeyed_app_tables(connection, schema)
    for table, content in _contents(tell(seed, now or _whole_second(connection))):
        connection.execute(table.insert(), content)
        if scale > 1:
            connection.execute(_copies(table, list(content[0]), scale))
    add_app_keys(connection, schema)
    quote = connection.dialect.identifier_preparer.quote
    for table in TABLES:
        connection.execute(sa.text(f"ANALYZE {quote(schema)}.{quote(table.name)}"))


def _whole_second(connection: sa.Connection) -> datetime:
    now = connection.execute(sa.select(sa.func.date_trunc("second", sa.func.now()))).scalar_one()
    assert isinstance(now, datetime)
    return now.astimezone(UTC)


def _contents(rows: Rows) -> tuple[tuple[sa.Table, list[dict[str, Any]]], ...]:
    return (
        (users, rows.users),
        (pro_profiles, rows.profiles),
        (credit_balances, rows.balances),
        (credit_purchases, rows.purchases),
        (credit_transactions, rows.transactions),
    )


def _copies(table: sa.Table, columns: list[str], scale: int) -> sa.Insert:
    """Copies of every row, differing in keys, names and addresses by the number of the copy."""
    copies = sa.func.generate_series(1, scale - 1).table_valued("number", joins_implicitly=True)
    copy = copies.render_derived(name="copy").c.number
    suffix = sa.func.lpad(sa.func.to_hex(copy), 8, "0", type_=sa.Text)
    number = sa.cast(copy, sa.Text)

    def value(name: str) -> sa.ColumnElement[Any]:
        column = table.c[name]
        if column.primary_key or column.foreign_keys:
            return sa.func.left(column, DISTINCT, type_=sa.Text) + suffix
        if name == "email":
            return sa.func.replace(column, "@", "+" + number + "@")
        if name == "business_name":
            return column + " " + number
        if name.startswith("stripe_"):
            return column + "-" + number
        return column

    rows = sa.select(*map(value, columns))
    return table.insert().from_select(columns, rows, include_defaults=False)
