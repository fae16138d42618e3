"""One database, copied for every measurement, and work on the copies that is timed in turns."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from maintenance_pipelines import embedded
from maintenance_pipelines.engine import applying, planning, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import Request

DEFAULTS = {"listen_addresses": "", "unix_socket_permissions": "0700"}
"""PostgreSQL as it comes, but for being reachable by socket only."""
TEMPLATE = "bench"

Build = Callable[[Database, argparse.Namespace], str]
"""Fills an empty database as the command line asks for it, and says what it has made."""
Work = Callable[[Database], float]
"""Does something on a database and returns the seconds that count."""


class Bench:
    """A cluster with one database that every measurement gets a fresh copy of."""

    def __init__(self, server: embedded.Server, template: str) -> None:
        self.server, self.template = server, template

    @contextmanager
    def copy(self) -> Iterator[Database]:
        """A fresh copy of the database, all of it on disk."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with autocommit(self.server.url("postgres")) as session:
            statement = f"CREATE DATABASE {name} TEMPLATE {self.template} STRATEGY file_copy"
            session.execute(statement.encode())
            session.execute("CHECKPOINT")
        try:
            with _connected(self.server, name) as database:
                yield database
        finally:
            self.server.drop(name)

    def in_turns(self, runs: int, works: dict[str, Work]) -> dict[str, list[float]]:
        """Seconds of each kind of work, each time on a fresh copy."""
        return in_turns(runs, {name: partial(self._on_copy, work) for name, work in works.items()})

    def _on_copy(self, work: Work) -> float:
        with self.copy() as database:
            return work(database)


@contextmanager
def bench(
    parser: argparse.ArgumentParser, build: Build, runs: int = 3
) -> Iterator[tuple[Bench, argparse.Namespace]]:
    """The cluster and what the command line asks for, once the template is built and printed."""
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--home", type=Path, help="keep the cluster in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.home or Path(temporary)) / "benchmark"
        with embedded.Server(folder, embedded.binaries(18), DEFAULTS) as server:
            started = time.monotonic()
            server.drop(TEMPLATE)
            server.create(TEMPLATE)
            with _connected(server, TEMPLATE) as database:
                made = build(database, arguments)
                vacuum(database)
            print(f"{made}, made in {time.monotonic() - started:.0f} s", flush=True)
            yield Bench(server, TEMPLATE), arguments


def in_turns(runs: int, works: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each kind of work; prints their medians, and each time.

    In turns, since what else the machine does then weighs on all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            seconds[name].append(work())
    for name, times in seconds.items():
        _show_times(name, times)
    return seconds


def carry_out(job: Job, scope: Scope) -> Work:
    """Plans the job and, where there is something to do, applies and verifies it.

    The seconds of each step are printed; those of all of them count.
    """

    def work(database: Database) -> float:
        marks = [time.monotonic()]
        run = planning.plan(job, database, scope, Request(operator="benchmark"))
        marks.append(time.monotonic())
        if run.state == "planned":
            run, _ = applying.apply(job, database, run, Order())
            marks.append(time.monotonic())
            run = verifying.verify(job, database, run).run
            marks.append(time.monotonic())
        assert run.state == "verified", run
        seconds = (after - before for before, after in pairwise(marks))
        steps = zip(("plan", "apply", "verify"), seconds, strict=False)
        said = ", ".join(f"{step} {taken:.2f} s" for step, taken in steps)
        print(f"    {run.planned:,} units: {said}", flush=True)
        return marks[-1] - marks[0]

    return work


def bare(*statements: str) -> Work:
    """The statements, in one transaction."""
    return lambda database: timed(lambda: execute(database, *statements))


def execute(database: Database, *statements: str) -> None:
    """Carries out the statements in one transaction."""
    with database.transaction(3600) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def vacuum(database: Database, table: str = "") -> None:
    """Leaves a table, or all of them, as autovacuum would."""
    with autocommit(url_of(database)) as session:
        session.execute(f"VACUUM ANALYZE {table}".encode())


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def autocommit(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of its own."""
    return psycopg.connect(url, autocommit=True)


def url_of(database: Database) -> str:
    """The address of a copy, for a session of its own."""
    return database.engine.url.set(drivername="postgresql").render_as_string(False)


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of the single turns."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def show(name: str, number: float, unit: str, remark: str = "") -> None:
    """Prints a figure as a line of the table."""
    print(f"{name:34} {number:9,.2f} {unit:6} {remark}".rstrip(), flush=True)


def show_ratio(name: str, number: float, limit: str) -> None:
    """Prints a ratio beside what it should be."""
    show(name, number, "times", f"({limit})")


def _show_times(name: str, seconds: list[float]) -> None:
    median = statistics.median(seconds)
    unit, factor = ("s", 1) if median >= 0.1 else ("ms", 1000)
    each = ", ".join(f"{one * factor:.2f}" for one in seconds)
    show(name, median * factor, unit, f"({each})")


@contextmanager
def _connected(server: embedded.Server, name: str) -> Iterator[Database]:
    database = Database.connect(server.url(name), "BENCHMARK")
    try:
        yield database
    finally:
        database.dispose()
