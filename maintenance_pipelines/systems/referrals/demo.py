"""Demo data: four communities, eight months, and counters that were never reset.

`build` fills an empty schema: `story.py` tells what happened to some 1,700 members, and `--scale`
makes the server copy them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.systems.copying import analyze, fill
from maintenance_pipelines.systems.referrals.schema import (
    TABLES,
    add_app_keys,
    commission,
    create_unkeyed_app_tables,
    creator,
    member,
    refund,
)
from maintenance_pipelines.systems.referrals.story import LAST_DAY, OCTOBER, Rows, tell

SEED = 2025
DISTINCT = 17
"""Characters of an id that tell the originals apart; a copy's number takes the other eight."""
KEYS_BESIDE_IDS = (
    "userId",
    "membershipId",
    "referralCode",
    "referredBy",
    "companyId",
    "whopPaymentId",
    "whopMembershipId",
)
NAMES = ("username", "companyName")
NOW = datetime(OCTOBER.year, OCTOBER.number, LAST_DAY, 23, tzinfo=UTC)
"""The moment at which the data ends: October is the running month."""

AFTERWARDS = datetime(2025, 11, 1, 0, 5, tzinfo=UTC)
"""When October is over and its reset is due."""


@dataclass(frozen=True)
class Chapter:
    """A step of the story that the demo tells: what it says, and what is done then.

    `job` is run for the partition at that moment; without one the month is diagnosed.
    """

    says: str
    job: str | None
    partition: str
    as_of: datetime


CHAPTERS = (
    Chapter("No month was ever reset: counters show eight", None, str(OCTOBER), NOW),
    Chapter("Counters are rebuilt", "monthly_stats_recalculation", str(OCTOBER), NOW),
    Chapter("They are what the records say", None, str(OCTOBER), NOW),
    Chapter("October is archived and reset", "monthly_stats_reset", str(OCTOBER), AFTERWARDS),
    Chapter("The archive is proved", None, str(OCTOBER), AFTERWARDS),
    Chapter("So are the counters of November", None, str(OCTOBER.plus(1)), AFTERWARDS),
)
"""Counters drift, are diagnosed, recalculated, archived, reset, proved."""


def build(connection: sa.Connection, schema: str, seed: int = SEED, scale: int = 1) -> None:
    """Create the app's tables in `schema`, which has none, and fill them.

    The same `seed` gives the same rows. `scale` multiplies communities and all that is theirs.
    Everything happens in the caller's transaction.
    """
    create_unkeyed_app_tables(connection, schema)
    for table, content in _contents(tell(seed)):
        fill(
            connection, table, content, scale, distinct=DISTINCT, keys=KEYS_BESIDE_IDS, names=NAMES
        )
    add_app_keys(connection, schema)
    analyze(connection, schema, TABLES)


def _contents(rows: Rows) -> tuple[tuple[sa.Table, list[dict[str, Any]]], ...]:
    return (
        (creator, rows.creators),
        (member, rows.members),
        (commission, rows.commissions),
        (refund, rows.refunds),
    )
