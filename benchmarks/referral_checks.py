"""What the eight consistency rules cost beside one bare reading of the tables, and other answers.

    .venv/bin/python -m benchmarks.referral_checks [--members 100000] [--commissions 3000000]

The bare query reads `"Member"` and `"Commission"` whole and adds up the columns that the rules
are about. Times are the engine's, without the start of a process and without Dagster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks import referrals_data
from maintenance_pipelines import embedded
from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals.absent import absent
from maintenance_pipelines.systems.referrals.diagnosis import diagnose
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.rules import RULES
from maintenance_pipelines.systems.referrals.schema import commission, creator, member
from maintenance_pipelines.systems.referrals.top_referrers import top_referrers

SCOPE = Scope(referrals_data.AS_OF, None, ReferralsOptions())
SUMMED = (
    (member, ("monthlyReferred", "totalReferred", "monthlyEarnings")),
    (commission, ("saleAmount", "memberShare", "creatorShare", "platformShare")),
)


def main() -> None:
    """Builds the database and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--commissions", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--home", type=Path, help="keep the database in this folder, and use it")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        embedded.server(arguments.home or Path(temporary)) as server,
    ):
        name = f"referrals_{arguments.members}_{arguments.commissions}"
        server.create(name)
        database = Database.connect(server.url(name), "BENCHMARK")
        try:
            if not sa.inspect(database.engine).has_table(member.name):
                _build(database, server.url(name), arguments)
            _measure(database, server.url(name), arguments.runs)
        finally:
            database.dispose()


def _build(database: Database, url: str, arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    with database.transaction(3600) as connection:
        referrals_data.build(
            connection, members=arguments.members, commissions=arguments.commissions
        )
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("VACUUM ANALYZE")
    print(f"made in {time.monotonic() - started:.0f} s", flush=True)


def _measure(database: Database, url: str, runs: int) -> None:
    # In turns: what else the machine does then weighs on both.
    pairs = [
        (_timed(lambda: _bare(database)), _timed(lambda: _check(database))) for _ in range(runs)
    ]
    _print("one bare reading", [bare for bare, _ in pairs])
    _print("the eight rules", [rules for _, rules in pairs])
    ratio = statistics.median(rules / bare for bare, rules in pairs)
    print(f"{'rules / bare':32} {ratio:8.2f}   (at most 4)")
    _print("diagnosis", [_timed(lambda: diagnose(database, SCOPE)) for _ in range(runs)])
    with database.transaction() as connection:
        some_creator = connection.scalars(sa.select(creator.c.id).order_by(creator.c.id)).first()
        wanted = [one for one in absent(connection, database.schema) if "Member" in one.what]
    _top(database, "top referrers, without its index", None, runs)
    with psycopg.connect(url, autocommit=True) as session:
        for one in wanted:
            session.execute(one.ddl.encode())
    try:
        _top(database, "top referrers", None, runs)
        _top(database, "top referrers of a creator", some_creator, runs)
    finally:
        with psycopg.connect(url, autocommit=True) as session:
            for one in wanted:
                name = one.ddl.split('"')[1]
                session.execute(f'DROP INDEX "{name}"'.encode())


def _bare(database: Database) -> None:
    with database.analysis() as connection:
        for table, columns in SUMMED:
            connection.execute(sa.select(*(sa.func.sum(table.c[name]) for name in columns))).all()


def _check(database: Database) -> None:
    found = consistency.judge(database, SCOPE, RULES)
    assert found.valid, found.json()


def _top(database: Database, name: str, creator_id: str | None, runs: int) -> None:
    def ask(connection: sa.Connection) -> Any:
        return connection.execute(top_referrers(10, creator_id)).all()

    with database.transaction() as connection:
        ask(connection)
        _print(name, [_timed(lambda: ask(connection)) for _ in range(runs)])


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _print(name: str, seconds: list[float]) -> None:
    each = ", ".join(f"{one * 1000:.1f}" for one in seconds)
    print(f"{name:32} {statistics.median(seconds) * 1000:8.1f} ms   ({each})", flush=True)


if __name__ == "__main__":
    main()
