"""Demo data: a year of purchases, spends and bonuses, and the first of a month that went by.

`build` fills an empty schema: `story.py` tells what happened to some 240 professionals, and
`--scale` makes the server copy them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.systems.copying import analyze, fill, whole_second
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
KEYS_BESIDE_IDS = ("stripe_payment_intent_id", "stripe_session_id")
NAMES = ("business_name",)
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
    for table, content in _contents(tell(seed, now or whole_second(connection))):
        fill(
            connection, table, content, scale, distinct=DISTINCT, keys=KEYS_BESIDE_IDS, names=NAMES
        )
    add_app_keys(connection, schema)
    analyze(connection, schema, TABLES)


def _contents(rows: Rows) -> tuple[tuple[sa.Table, list[dict[str, Any]]], ...]:
    return (
        (users, rows.users),
        (pro_profiles, rows.profiles),
        (credit_balances, rows.balances),
        (credit_purchases, rows.purchases),
        (credit_transactions, rows.transactions),
    )
