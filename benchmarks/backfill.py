"""What the August backfill costs beside the same rows written by hand.

    .venv/bin/python -m benchmarks.backfill [--users 105000] [--runs 3]

Every measurement starts from a fresh copy of one database. Times are the engine's, without the
start of a process and without Dagster.
"""

from __future__ import annotations

import argparse
import statistics
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks import bare_backfill, benefits_data
from benchmarks.bench import (
    Bench,
    autocommit,
    bare,
    bench,
    carry_out,
    in_turns,
    ratio,
    show,
    show_ratio,
    timed,
    url_of,
    vacuum,
)
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill
from maintenance_pipelines.systems.benefits.options import BenefitsOptions

SCOPE = Scope(datetime(2025, 9, 2, tzinfo=UTC), "2025-08", BenefitsOptions())
OURS = carry_out(benefit_status_backfill, SCOPE)
ANTI_JOIN = bare(bare_backfill.ANTI_JOIN)
ROW_BY_ROW = 5_000
"""Keys that are looked for, and created where missing, the original's way."""


def main() -> None:
    """Builds the database, measures every way of filling it, prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=105_000)
    works = {
        "as people write it": bare(bare_backfill.AS_PEOPLE_WRITE_IT),
        "ordered, growing ids": bare(bare_backfill.IN_KEY_ORDER),
        "plan, apply, verify": OURS,
    }
    with bench(parser, _build) as (measured, arguments):
        people, best, ours = measured.in_turns(arguments.runs, works).values()
        rows, row = _count_and_time_row_by_row(measured)
        anti, nothing = _nothing_to_do(measured, arguments.runs)
    our_row = statistics.median(ours) / rows
    show_ratio("ours / as people write it", ratio(ours, people), "at most 1")
    show_ratio("ours / best bare form", ratio(ours, best), "at most 1.8, ambition 1.4")
    show_ratio("row by row / ours, a row", row / our_row, "at least 8")
    show_ratio("nothing to do / anti-join", ratio(nothing, anti), "at most 2")


def _build(database: Database, arguments: argparse.Namespace) -> str:
    with database.transaction(3600) as connection:
        benefits_data.build(connection, users=arguments.users)
        count = sa.text('SELECT count(*) FROM "BenefitStatus"')
        statuses = connection.execute(count).scalar_one()
    return f"{arguments.users:,} users, {statuses:,} statuses"


def _nothing_to_do(measured: Bench, runs: int) -> tuple[list[float], list[float]]:
    """A run on a database that lacks nothing, beside the bare question whether it does."""
    with measured.copy() as database:
        OURS(database)
        vacuum(database)
        works = {
            "bare anti-join": lambda: ANTI_JOIN(database),
            "nothing to do": lambda: OURS(database),
        }
        anti, nothing = in_turns(runs, works).values()
    return anti, nothing


def _count_and_time_row_by_row(measured: Bench) -> tuple[int, float]:
    """How many rows are missing, and seconds for one of them the original's way."""
    with measured.copy() as database, autocommit(url_of(database)) as session:
        count = session.execute(bare_backfill.ANTI_JOIN.encode()).fetchone()
        statement = bare_backfill.MISSING_KEYS.replace(":rows", str(ROW_BY_ROW))
        due = session.execute(statement.encode()).fetchall()
        created = 0

        def create() -> None:
            nonlocal created
            for first in range(0, len(due), 100):
                created += _create_missing(session, due[first : first + 100])

        seconds = timed(create) / max(created, 1)
    assert count is not None
    show("row by row, a row", seconds * 1e6, "µs", f"({created:,} rows)")
    return int(count[0]), seconds


def _create_missing(
    session: psycopg.Connection[tuple[Any, ...]], due: list[tuple[Any, ...]]
) -> int:
    keys = ", ".join(["(%s, %s, %s, %s)"] * len(due))
    values = [value for row in due for value in (row[0], row[1], row[2], row[4])]
    query = bare_backfill.WHICH_EXIST.format(keys=keys).encode()
    there = set(session.execute(query, values).fetchall())
    missing = [row for row in due if (row[0], row[1], row[2], row[4]) not in there]
    for row in missing:
        new_id = f"c{uuid.uuid4().hex[:24]}"
        session.execute(bare_backfill.CREATE_ONE.encode(), (new_id, *row))
    return len(missing)


if __name__ == "__main__":
    main()
