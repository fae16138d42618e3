"""What the eight consistency rules cost beside one bare reading of the tables, and other answers.

    .venv/bin/python -m benchmarks.referral_checks [--members 100000] [--commissions 3000000]

The bare query reads `"Member"` and `"Commission"` whole and adds up the columns that the rules
are about. Times are the engine's, without the start of a process and without Dagster.
"""

from __future__ import annotations

import sqlalchemy as sa

from benchmarks import referrals_data, referrals_template
from benchmarks.bench import autocommit, bench, in_turns, ratio, show_ratio, timed, url_of
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
    parser = referrals_template.parser(__doc__)
    with (
        bench(parser, referrals_template.build, runs=5) as (measured, arguments),
        measured.copy() as database,
    ):
        _measure_checks(database, arguments.runs)
        _measure_top_referrers(database, arguments.runs)


def _measure_checks(database: Database, runs: int) -> None:
    bare, rules, _ = in_turns(
        runs,
        {
            "one bare reading": lambda: timed(lambda: _read(database)),
            "the eight rules": lambda: timed(lambda: _check(database)),
            "the diagnosis of a month": lambda: timed(lambda: diagnose(database, SCOPE)),
        },
    ).values()
    show_ratio("rules / bare", ratio(rules, bare), "at most 4")


def _measure_top_referrers(database: Database, runs: int) -> None:
    with database.transaction() as connection:
        some_creator = connection.scalars(sa.select(creator.c.id).order_by(creator.c.id)).first()
        wanted = [one.ddl for one in absent(connection, database.schema) if "Member" in one.what]
    _top(database, "top referrers, without its index", None, runs)
    with autocommit(url_of(database)) as session:
        for ddl in wanted:
            session.execute(ddl.encode())
    _top(database, "top referrers", None, runs)
    _top(database, "top referrers of a creator", some_creator, runs)


def _read(database: Database) -> None:
    with database.analysis() as connection:
        for table, columns in SUMMED:
            connection.execute(sa.select(*(sa.func.sum(table.c[name]) for name in columns))).all()


def _check(database: Database) -> None:
    found = consistency.judge(database, SCOPE, RULES)
    assert found.valid, found.json()


def _top(database: Database, name: str, creator_id: str | None, runs: int) -> None:
    with database.transaction() as connection:

        def ask() -> object:
            return connection.execute(top_referrers(10, creator_id)).all()

        ask()
        in_turns(runs, {name: lambda: timed(ask)})


if __name__ == "__main__":
    main()
