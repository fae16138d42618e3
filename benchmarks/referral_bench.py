"""One referrals database, copied for every measurement, and the three steps of a job on a copy."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks import referrals_data
from maintenance_pipelines import embedded
from maintenance_pipelines.engine import applying, planning, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import Request

DEFAULTS = {"listen_addresses": "", "unix_socket_permissions": "0700"}
"""PostgreSQL as it comes, but for being reachable by socket only."""


class Bench:
    """A cluster with one database that every measurement gets a fresh copy of."""

    def __init__(self, server: embedded.Server, template: str) -> None:
        self.server, self.template = server, template

    @contextmanager
    def copy(self) -> Iterator[Database]:
        """A fresh copy of the database, all of it on disk."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with autocommit(self.server.url("postgres")) as connection:
            statement = f"CREATE DATABASE {name} TEMPLATE {self.template} STRATEGY file_copy"
            connection.execute(statement.encode())
            connection.execute("CHECKPOINT")
        database = Database.connect(self.server.url(name), "BENCHMARK")
        try:
            yield database
        finally:
            database.dispose()
            self.server.drop(name)

    def in_turns(
        self, runs: int, works: dict[str, Callable[[Database], float]]
    ) -> dict[str, list[float]]:
        """Seconds of each kind of work, each time on a fresh copy.

        In turns, since what else the machine does then weighs on all of them.
        """
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(runs):
            for name, work in works.items():
                with self.copy() as database:
                    seconds[name].append(work(database))
        for name, each in seconds.items():
            times = ", ".join(f"{one:.2f}" for one in each)
            print(f"{name:32} {statistics.median(each):7.2f} s   ({times})", flush=True)
        return seconds


@contextmanager
def bench(description: str | None, alter: str) -> Iterator[tuple[Bench, argparse.Namespace]]:
    """The cluster as the command line asks for it; `alter` is done to the data once."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--commissions", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the databases in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.home or Path(temporary)) / "benchmark"
        with embedded.Server(folder, embedded.binaries(18), DEFAULTS) as server:
            started = time.monotonic()
            _build(server, arguments, alter)
            print(
                f"{arguments.members:,} members, {arguments.commissions:,} commissions, made in"
                f" {time.monotonic() - started:.0f} s"
            )
            yield Bench(server, "bench"), arguments


def _build(server: embedded.Server, arguments: argparse.Namespace, alter: str) -> None:
    server.drop("bench")
    server.create("bench")
    database = Database.connect(server.url("bench"), "BENCHMARK")
    with database.transaction(3600) as connection:
        referrals_data.build(
            connection, members=arguments.members, commissions=arguments.commissions
        )
    if alter:
        execute(database, alter)
    database.dispose()
    with autocommit(server.url("bench")) as session:
        session.execute("VACUUM ANALYZE")


def carry_out(job: Job, scope: Scope) -> Callable[[Database], float]:
    """Plans, applies and verifies the job; seconds of all three, which are printed one by one."""

    def work(database: Database) -> float:
        marks = [time.monotonic()]
        run = planning.plan(job, database, scope, Request(operator="benchmark"))
        marks.append(time.monotonic())
        run, _ = applying.apply(job, database, run, Order())
        marks.append(time.monotonic())
        found = verifying.verify(job, database, run)
        marks.append(time.monotonic())
        assert found.run.state == "verified", found
        plan, apply, verify = (after - before for before, after in pairwise(marks))
        print(f"    {run.planned:,} units: {plan:.2f}, {apply:.2f}, {verify:.2f} s", flush=True)
        return marks[-1] - marks[0]

    return work


def bare(*statements: str) -> Callable[[Database], float]:
    """The statements, in one transaction."""
    return lambda database: timed(lambda: execute(database, *statements))


def execute(database: Database, *statements: str) -> None:
    """Carries out the statements in one transaction."""
    with database.transaction(3600) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def url_of(database: Database) -> str:
    """The address of a copy, for a session of its own."""
    return database.engine.url.set(drivername="postgresql").render_as_string(False)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def autocommit(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of its own."""
    return psycopg.connect(url, autocommit=True)


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of the single turns."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
