"""What a month's reset costs beside the same rows written by hand, and the original's way.

    .venv/bin/python -m benchmarks.credits [--people 100000] [--runs 3]

Every measurement starts from a fresh copy of one database. Times are the engine's, without the
start of a process and without Dagster. Ours is the whole job: plan, apply, and verification with
the ledger's rules over all rows.
"""

from __future__ import annotations

import argparse
import secrets
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

from benchmarks import credits_data
from maintenance_pipelines import embedded
from maintenance_pipelines.engine import applying, ledger, planning, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset as job

DEFAULTS = {"listen_addresses": "", "unix_socket_permissions": "0700"}
"""PostgreSQL as it comes, but for being reachable by socket only."""
ONE_BY_ONE = 2_000
"""Professionals that are reset the original's way."""

ELIGIBLE = """
    SELECT b.id, b.professional_id, b.total_balance, b.free_credits, b.paid_credits
    FROM credit_balances b JOIN users u ON u.id = b.professional_id
    JOIN pro_profiles p ON p.user_id = u.id
    WHERE u.role = 'pro' AND p.verification_status IN ('basic', 'comprehensive')
"""
BARE = (
    f"""
    UPDATE credit_transactions t SET remaining_amount = 0, updated_at = now()
    FROM ({ELIGIBLE}) AS eligible WHERE eligible.professional_id = t.professional_id
    AND t.credit_type = 'free' AND t.remaining_amount > 0
    """,
    f"""
    INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type,
        balance_before, balance_after, description, remaining_amount, previous_free_credits)
    SELECT left(replace(gen_random_uuid()::text, '-', ''), 24), professional_id, 'monthly_reset',
           100 - free_credits, 'free', total_balance, 100 + paid_credits, 'Monthly reset', 100,
           free_credits
    FROM ({ELIGIBLE}) AS eligible
    """,
    f"""
    UPDATE credit_balances b
    SET free_credits = 100, total_balance = 100 + b.paid_credits, last_reset_date = now(),
        lifetime_earned = b.lifetime_earned + greatest(100 - b.free_credits, 0), updated_at = now()
    FROM ({ELIGIBLE}) AS eligible WHERE eligible.id = b.id
    """,
)


def main() -> None:
    """Builds the database, measures every way of resetting it, prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the database's copies in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.home or Path(temporary)) / "benchmark"
        with embedded.Server(folder, embedded.binaries(18), DEFAULTS) as server:
            Bench(server, arguments.runs).measure(arguments.people)


class Bench:
    """One cluster with a template database, copied for every measurement."""

    def __init__(self, server: embedded.Server, runs: int) -> None:
        self.server, self.runs = server, runs

    def measure(self, people: int) -> None:
        """Prints the table."""
        self._build(people)
        # In turns: what else the machine does then weighs on both.
        pairs = [(self._timed(_bare), self._timed(_ours)) for _ in range(self.runs)]
        _print("three statements by hand", [bare for bare, _ in pairs])
        _print("plan + apply + verify", [ours for _, ours in pairs])
        original = self._timed(_original) / ONE_BY_ONE * people
        _print(f"the original's way, of {ONE_BY_ONE:,}", [original])
        ours = statistics.median(ours for _, ours in pairs)
        ratio = statistics.median(ours / bare for bare, ours in pairs)
        print(f"\nours / by hand              {ratio:5.2f}   (at most 2.5)")
        print(f"the original's way / ours   {original / ours:5.1f}")

    def _build(self, people: int) -> None:
        started = time.monotonic()
        self.server.drop("bench")
        self.server.create("bench")
        with _open(self.server.url("bench")) as database:
            with database.transaction(3600) as connection:
                credits_data.build(connection, people=people)
            ledger.install(database)
        with _autocommit(self.server.url("bench")) as connection:
            connection.execute("VACUUM ANALYZE")
        print(f"{people:,} professionals, made in {time.monotonic() - started:.0f} s", flush=True)

    def _timed(self, work: Callable[[str], float]) -> float:
        """Seconds that the work takes on a fresh copy of the database, all of it on disk."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with _autocommit(self.server.url("postgres")) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE bench STRATEGY file_copy".encode())
            connection.execute("CHECKPOINT")
        try:
            return work(self.server.url(name))
        finally:
            self.server.drop(name)


def _bare(url: str) -> float:
    started = time.monotonic()
    with psycopg.connect(url) as connection:
        for statement in BARE:
            connection.execute(statement.encode())
        connection.commit()
    return time.monotonic() - started


def _ours(url: str) -> float:
    now = datetime.now(UTC)
    with _open(url) as database:
        marks = [time.monotonic()]
        scope = Scope(now, f"{now:%Y-%m}", CreditsOptions())
        run = planning.plan(job, database, scope, Request(operator="benchmark"))
        marks.append(time.monotonic())
        run, _ = applying.apply(job, database, run, Order())
        marks.append(time.monotonic())
        verification = verifying.verify(job, database, run)
        marks.append(time.monotonic())
    assert verification.run.state == "verified", verification
    plan, apply, verify = (after - before for before, after in pairwise(marks))
    print(
        f"    {run.planned:,} professionals: plan {plan:.1f}, apply {apply:.1f},"
        f" verify {verify:.1f}",
        flush=True,
    )
    return marks[-1] - marks[0]


def _original(url: str) -> float:
    """A session a professional: the balance read, then three writes, then the commit."""
    with _autocommit(url) as connection:
        limited = f"SELECT professional_id FROM ({ELIGIBLE}) AS e ORDER BY 1 LIMIT {ONE_BY_ONE}"
        people = [row[0] for row in connection.execute(limited.encode()).fetchall()]
    started = time.monotonic()
    for who in people:
        with psycopg.connect(url) as session:
            _reset_one(session, who)
    return time.monotonic() - started


def _reset_one(session: psycopg.Connection[tuple[Any, ...]], who: str) -> None:
    read = "SELECT id, total_balance, free_credits, paid_credits FROM credit_balances"
    row = session.execute(f"{read} WHERE professional_id = %s".encode(), (who,)).fetchone()
    assert row is not None
    balance, total, free, paid = row
    session.execute(
        "UPDATE credit_balances SET free_credits = 100, total_balance = %s,"
        " last_reset_date = now(), updated_at = now() WHERE id = %s",
        (100 + paid, balance),
    )
    session.execute(
        "INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type,"
        " balance_before, balance_after, description, remaining_amount, previous_free_credits)"
        " VALUES (%s, %s, 'monthly_reset', %s, 'free', %s, %s, 'Monthly reset', 100, %s)",
        (secrets.token_hex(12), who, 100 - free, total, 100 + paid, free),
    )
    session.commit()


def _print(name: str, seconds: list[float]) -> None:
    each = ", ".join(f"{one:.1f}" for one in seconds)
    print(f"{name:36} {statistics.median(seconds):7.1f} s   ({each})", flush=True)


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
