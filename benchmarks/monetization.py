"""What the monetization jobs cost beside the same statements written by hand.

    .venv/bin/python -m benchmarks.monetization [--users 1000000] [--runs 3] [--only rollup …]

Every measurement starts from a fresh copy of one database. Times are the engine's, verification
included, without the start of a process and without Dagster.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from benchmarks import bare_monetization, monetization_data
from benchmarks.bench import (
    Work,
    autocommit,
    bare,
    bench,
    carry_out,
    ratio,
    show_ratio,
    timed,
    url_of,
    vacuum,
)
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup

SCOPE = Scope(datetime(2025, 11, 2, 9, tzinfo=UTC), None, MonetizationOptions())


def main() -> None:
    """Builds the database, measures every pair, prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    with bench(parser, _build) as (measured, arguments):
        for name in arguments.only:
            by_hand, ours = MEASUREMENTS[name]
            works = {f"{name}, by hand": by_hand, f"{name}, ours": ours}
            theirs, taken = measured.in_turns(arguments.runs, works).values()
            show_ratio(f"{name}, ours / by hand", ratio(taken, theirs), "at most 2")


def _build(database: Database, arguments: argparse.Namespace) -> str:
    with database.transaction(3600) as connection:
        monetization_data.build(connection, arguments.users)
    return f"{arguments.users:,} users"


def _bare(statement: str) -> Work:
    """The statement with as much memory as our planning has."""
    return bare(f"SET LOCAL work_mem = '{Limits().work_mem}'", statement)


def _rolled_up_before(work: Work) -> Work:
    def on_rolled_up(database: Database) -> float:
        ROLLUP(database)
        vacuum(database, "user_discipline_stats")
        return work(database)

    return on_rolled_up


def _delete_in_batches(database: Database) -> float:
    def delete() -> None:
        with autocommit(url_of(database)) as session:
            while session.execute(bare_monetization.DELETE_BATCH.encode()).rowcount:
                pass

    return timed(delete)


ROLLUP, OUR_ROLLUP = _bare(bare_monetization.ROLLUP), carry_out(discipline_stats_rollup, SCOPE)
MEASUREMENTS: dict[str, tuple[Work, Work]] = {
    "rollup": (ROLLUP, OUR_ROLLUP),
    "unchanged": (
        _rolled_up_before(_bare(bare_monetization.COMPARED)),
        _rolled_up_before(OUR_ROLLUP),
    ),
    "expiry": (_bare(bare_monetization.EXPIRE), carry_out(tier_expiration, SCOPE)),
    "redemptions": (_delete_in_batches, carry_out(promo_cleanup, SCOPE)),
}
"""By hand and ours: a first night's rollup, one of a night after which nothing changed, the
expiration of tiers, and the deletion of old redemptions.
"""


if __name__ == "__main__":
    main()
