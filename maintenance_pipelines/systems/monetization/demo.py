"""Demo data: people who try, subscribe, redeem and lapse, up to this moment.

`build` fills an empty schema: `story.py` tells what happened to some six hundred users, and
`--scale` makes the server copy them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.systems.copying import analyze, fill, whole_second
from maintenance_pipelines.systems.monetization.schema import (
    TABLES,
    add_app_keys,
    aims,
    create_unkeyed_app_tables,
    global_config,
    promo_codes,
    promo_redemptions,
    shots,
    targets,
    user_discipline_stats,
    users,
)
from maintenance_pipelines.systems.monetization.story import Rows, tell

SEED = 2025
DISTINCT = 28
"""Characters of an id that tell the originals apart; a copy's number takes the other eight."""
KEYS_BESIDE_IDS = ("authentik_sub", "referral_code", "code")


def build(
    connection: sa.Connection,
    schema: str,
    seed: int = SEED,
    scale: int = 1,
    now: datetime | None = None,
) -> None:
    """Create the app's tables in `schema`, which has none, and fill them.

    The data ends `now` (aware, UTC; default: the whole second that it is by the server's clock).
    The same `seed` and `now` give the same rows. `scale` multiplies all but the one override.
    Everything happens in the caller's transaction.
    """
    create_unkeyed_app_tables(connection, schema)
    for table, content in _contents(tell(seed, now or whole_second(connection))):
        if table is global_config:
            _configure(connection, content)
            continue
        fill(connection, table, content, scale, distinct=DISTINCT, keys=KEYS_BESIDE_IDS)
    add_app_keys(connection, schema)
    analyze(connection, schema, TABLES)


def _contents(rows: Rows) -> tuple[tuple[sa.Table, list[dict[str, Any]]], ...]:
    return (
        (users, rows.users),
        (global_config, rows.config),
        (promo_codes, rows.codes),
        (promo_redemptions, rows.redemptions),
        (targets, rows.targets),
        (aims, rows.aims),
        (shots, rows.shots),
        (user_discipline_stats, rows.stats),
    )


def _configure(connection: sa.Connection, content: list[dict[str, Any]]) -> None:
    """Values in their own spelling: SQLAlchemy would put a text into quotes."""
    for row in content:
        value = sa.cast(sa.literal(row["value"], sa.Text), global_config.c.value.type)
        connection.execute(global_config.insert().values(row | {"value": value}))
