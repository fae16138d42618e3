"""What the monetization jobs cost beside the same statements written by hand.

    .venv/bin/python -m benchmarks.monetization [--users 1000000] [--runs 3] [--only rollup …]

Every measurement starts from a fresh copy of one database. Times are the engine's, verification
included, without the start of a process and without Dagster.
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

import psycopg
import sqlalchemy as sa

from benchmarks import bare_monetization, monetization_data
from maintenance_pipelines import embedded
from maintenance_pipelines.engine import applying, planning, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup

SCOPE = Scope(datetime(2025, 11, 2, 9, tzinfo=UTC), None, MonetizationOptions())
REQUEST = Request(operator="benchmark")

DEFAULTS = {"listen_addresses": "", "unix_socket_permissions": "0700"}
"""PostgreSQL as it comes, but for being reachable by socket only."""

Work = Callable[[str], float]


def main() -> None:
    """Builds the database, measures every pair, prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--home", type=Path, help="keep the database in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.home or Path(temporary)) / "benchmark"
        with embedded.Server(folder, embedded.binaries(18), DEFAULTS) as server:
            bench = Bench(server, arguments.runs)
            bench.build(arguments.users)
            for name in arguments.only:
                MEASUREMENTS[name](bench)


class Bench:
    """One cluster with a template database, copied for every measurement."""

    def __init__(self, server: embedded.Server, runs: int) -> None:
        self.server, self.runs = server, runs

    def build(self, users: int) -> None:
        """Makes the template."""
        started = time.monotonic()
        self.server.drop("bench")
        self.server.create("bench")
        with _open(self.server.url("bench")) as database:
            with database.transaction(3600) as connection:
                monetization_data.build(connection, users)
            with _autocommit(self.server.url("bench")) as direct:
                direct.execute("VACUUM ANALYZE")
        print(f"{users:,} users, made in {time.monotonic() - started:.0f} s", flush=True)

    def compare(self, name: str, bare: Work, ours: Work) -> None:
        """Prints both medians, and ours over bare. They take turns, so that both see the same
        neighbours.
        """
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(self.runs):
            for work, found in zip((bare, ours), seconds, strict=True):
                with self._copy() as url:
                    found.append(work(url))
        medians = [statistics.median(found) for found in seconds]
        print(
            f"{name:28} bare {medians[0]:6.1f} s, ours {medians[1]:6.1f} s,"
            f" ratio {medians[1] / medians[0]:5.2f}   (at most 2)",
            flush=True,
        )

    @contextmanager
    def _copy(self) -> Iterator[str]:
        """The URL of a fresh copy of the database, all of it on disk."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with _autocommit(self.server.url("postgres")) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE bench STRATEGY file_copy".encode())
            connection.execute("CHECKPOINT")
        try:
            yield self.server.url(name)
        finally:
            self.server.drop(name)


def _rollup(bench: Bench) -> None:
    bench.compare("rollup, first night", _bare_rollup, _job(discipline_stats_rollup))


def _unchanged(bench: Bench) -> None:
    def compared(url: str) -> float:
        _bare_rollup(url)
        return _statement(bare_monetization.COMPARED)(url)

    def nothing_to_do(url: str) -> float:
        _bare_rollup(url)
        return _job(discipline_stats_rollup)(url)

    bench.compare("rollup, nothing changed", compared, nothing_to_do)


def _expiry(bench: Bench) -> None:
    bench.compare("tier expiration", _statement(bare_monetization.EXPIRE), _job(tier_expiration))


def _redemptions(bench: Bench) -> None:
    bench.compare("deletion of redemptions", _delete_in_batches, _job(promo_cleanup))


MEASUREMENTS: dict[str, Callable[[Bench], None]] = {
    "rollup": _rollup,
    "unchanged": _unchanged,
    "expiry": _expiry,
    "redemptions": _redemptions,
}


def _bare_rollup(url: str) -> float:
    seconds = _statement(bare_monetization.ROLLUP)(url)
    with _autocommit(url) as connection:
        connection.execute("VACUUM ANALYZE user_discipline_stats")
    return seconds


def _delete_in_batches(url: str) -> float:
    started = time.monotonic()
    with _autocommit(url) as connection:
        while connection.execute(bare_monetization.DELETE_BATCH.encode()).rowcount:
            pass
    return time.monotonic() - started


def _statement(sql: str) -> Work:
    def work(url: str) -> float:
        with _open(url) as database:
            started = time.monotonic()
            with database.analysis() as connection:
                connection.execute(sa.text(sql))
            return time.monotonic() - started

    return work


def _job(job: Job) -> Work:
    def work(url: str) -> float:
        with _open(url) as database:
            return _carry_out(job, database)

    return work


def _carry_out(job: Job, database: Database) -> float:
    marks = [time.monotonic()]
    run = planning.plan(job, database, SCOPE, REQUEST)
    marks.append(time.monotonic())
    if run.planned:
        run, _ = applying.apply(job, database, run, Order())
        marks.append(time.monotonic())
        run = verifying.verify(job, database, run).run
        marks.append(time.monotonic())
    assert run.state == "verified", run
    steps = ", ".join(f"{after - before:.1f}" for before, after in pairwise(marks))
    print(f"    {run.planned:,} units: plan, apply, verify {steps}", flush=True)
    return marks[-1] - marks[0]


@contextmanager
def _open(url: str) -> Iterator[Database]:
    database = Database.connect(url, "BENCHMARK")
    try:
        yield database
    finally:
        database.dispose()


def _autocommit(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url, autocommit=True)


if __name__ == "__main__":
    main()
