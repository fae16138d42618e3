"""What the August backfill costs beside the same rows written by hand.

    .venv/bin/python -m benchmarks.backfill [--users 105000] [--runs 3]

Every measurement starts from a fresh copy of one database. Times are the engine's, without the
start of a process and without Dagster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks import bare_backfill, benefits_data
from maintenance_pipelines import embedded
from maintenance_pipelines.engine import applying, planning, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill as job
from maintenance_pipelines.systems.benefits.options import BenefitsOptions

SCOPE = Scope(datetime(2025, 9, 2, tzinfo=UTC), "2025-08", BenefitsOptions())
REQUEST = Request(operator="benchmark")
ROW_BY_ROW = 5_000

DEFAULTS = {"listen_addresses": "", "unix_socket_permissions": "0700"}
"""PostgreSQL as it comes, but for being reachable by socket only."""


def main() -> None:
    """Builds the database, measures every way of filling it, prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=105_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the database's copies in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.home or Path(temporary)) / "benchmark"
        with embedded.Server(folder, embedded.binaries(18), DEFAULTS) as server:
            Bench(server, arguments.runs).measure(arguments.users)


class Bench:
    """One cluster with a template database, copied for every measurement."""

    def __init__(self, server: embedded.Server, runs: int) -> None:
        self.server, self.runs = server, runs

    def measure(self, users: int) -> None:
        """Prints the table."""
        self._build(users)
        people = self._median("as people write it", _statement(bare_backfill.AS_PEOPLE_WRITE_IT))
        best = self._median("ordered, growing ids", _statement(bare_backfill.IN_KEY_ORDER))
        ours = self._median("plan + apply + verify", _ours)
        rows, row = _count_and_time_row_by_row(self)
        anti, nothing = self._nothing_to_do()
        print(f"\nours / as people write it   {ours / people:5.2f}   (at most 1)")
        print(f"ours / best bare form       {ours / best:5.2f}   (at most 1.8, ambition 1.4)")
        print(f"row by row / ours, a row    {row / (ours / rows):5.1f}   (at least 8)")
        print(f"nothing to do / anti-join   {nothing / anti:5.2f}   (at most 2)")

    def _build(self, users: int) -> None:
        started = time.monotonic()
        self.server.drop("bench")
        self.server.create("bench")
        with _open(self.server.url("bench")) as database:
            with database.transaction(3600) as connection:
                benefits_data.build(connection, users=users)
            with _autocommit(self.server.url("bench")) as connection:
                connection.execute("VACUUM ANALYZE")
            with database.transaction() as connection:
                count = sa.text('SELECT count(*) FROM "BenefitStatus"')
                statuses = connection.execute(count).scalar_one()
        print(f"{users:,} users, {statuses:,} statuses, made in {time.monotonic() - started:.0f} s")

    @contextmanager
    def copy(self) -> Iterator[str]:
        """The URL of a fresh copy of the database, all of it on disk."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with _autocommit(self.server.url("postgres")) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE bench STRATEGY file_copy".encode())
            connection.execute("CHECKPOINT")
        try:
            yield self.server.url(name)
        finally:
            self.server.drop(name)

    def _median(self, name: str, work: Callable[[str], float]) -> float:
        seconds = []
        for _ in range(self.runs):
            with self.copy() as url:
                seconds.append(work(url))
        median = statistics.median(seconds)
        print(f"{name:24} {median:6.1f} s   ({', '.join(f'{s:.1f}' for s in seconds)})", flush=True)
        return median

    def _nothing_to_do(self) -> tuple[float, float]:
        """A run on a database that lacks nothing, beside the bare question whether it does."""
        with self.copy() as url, _open(url) as database:
            _apply_all(database)
            with _autocommit(url) as connection:
                connection.execute("VACUUM ANALYZE")
            anti, nothing = [], []
            for _ in range(self.runs):
                anti.append(_timed(lambda: _execute(database, bare_backfill.ANTI_JOIN)))
                nothing.append(_timed(lambda: _plan(database)))
        for name, seconds in (("bare anti-join", anti), ("nothing to do", nothing)):
            print(f"{name:24} {statistics.median(seconds):6.1f} s", flush=True)
        return statistics.median(anti), statistics.median(nothing)


def _count_and_time_row_by_row(bench: Bench) -> tuple[int, float]:
    """How many rows are missing, and seconds for one of them the original's way."""
    with bench.copy() as url, _autocommit(url) as connection:
        count = connection.execute(bare_backfill.ANTI_JOIN.encode()).fetchone()
        statement = bare_backfill.MISSING_KEYS.replace(":rows", str(ROW_BY_ROW))
        due = connection.execute(statement.encode()).fetchall()
        started, created = time.monotonic(), 0
        for first in range(0, len(due), 100):
            created += _create_missing(connection, due[first : first + 100])
        seconds = (time.monotonic() - started) / max(created, 1)
    assert count is not None
    print(f"{'row by row, a row':24} {seconds * 1e6:6.0f} µs  ({created:,} rows)", flush=True)
    return int(count[0]), seconds


def _create_missing(
    connection: psycopg.Connection[tuple[Any, ...]], due: list[tuple[Any, ...]]
) -> int:
    keys = ", ".join(["(%s, %s, %s, %s)"] * len(due))
    values = [value for row in due for value in (row[0], row[1], row[2], row[4])]
    query = bare_backfill.WHICH_EXIST.format(keys=keys).encode()
    there = set(connection.execute(query, values).fetchall())
    missing = [row for row in due if (row[0], row[1], row[2], row[4]) not in there]
    for row in missing:
        new_id = f"c{uuid.uuid4().hex[:24]}"
        connection.execute(bare_backfill.CREATE_ONE.encode(), (new_id, *row))
    return len(missing)


def _statement(sql: str) -> Callable[[str], float]:
    def work(url: str) -> float:
        with _open(url) as database:
            return _timed(lambda: _execute(database, sql))

    return work


def _ours(url: str) -> float:
    with _open(url) as database:
        return _timed(lambda: _apply_all(database))


def _apply_all(database: Database) -> None:
    marks = [time.monotonic()]
    run = _plan(database)
    marks.append(time.monotonic())
    run, _ = applying.apply(job, database, run, Order())
    marks.append(time.monotonic())
    verification = verifying.verify(job, database, run)
    marks.append(time.monotonic())
    assert verification.run.state == "verified", verification
    steps = [after - before for before, after in pairwise(marks)]
    plan, apply, verify = steps
    print(f"    {run.planned:,} rows: plan {plan:.1f}, apply {apply:.1f}, verify {verify:.1f}")


def _plan(database: Database) -> Run:
    return planning.plan(job, database, SCOPE, REQUEST)


def _execute(database: Database, sql: str) -> None:
    with database.transaction(3600) as connection:
        connection.execute(sa.text(sql))


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


@contextmanager
def _open(url: str) -> Iterator[Database]:
    database = Database.connect(url, "BENCHMARK")
    try:
        yield database
    finally:
        database.dispose()


def _autocommit(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(url, autocommit=True)


if __name__ == "__main__":
    main()
