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
from datetime import UTC, datetime
from typing import Any

import psycopg

from benchmarks import credits_data
from benchmarks.bench import (
    Bench,
    autocommit,
    bare,
    bench,
    carry_out,
    ratio,
    show,
    show_ratio,
    timed,
    url_of,
)
from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset

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
    with bench(parser, _build) as (measured, arguments):
        now = datetime.now(UTC)
        scope = Scope(now, f"{now:%Y-%m}", CreditsOptions())
        works = {
            "three statements by hand": bare(*BARE),
            "plan, apply, verify": carry_out(monthly_credits_reset, scope),
        }
        by_hand, ours = measured.in_turns(arguments.runs, works).values()
        original = _seconds_one_by_one(measured) * arguments.people
    show("the original's way", original, "s", f"(from at most {ONE_BY_ONE:,} people)")
    show_ratio("ours / by hand", ratio(ours, by_hand), "at most 2.5")
    show("the original's way / ours", original / statistics.median(ours), "times")


def _build(database: Database, arguments: argparse.Namespace) -> str:
    with database.transaction(3600) as connection:
        credits_data.build(connection, people=arguments.people)
    ledger.install(database)
    return f"{arguments.people:,} professionals"


def _seconds_one_by_one(measured: Bench) -> float:
    """Seconds for one professional the original's way, with a session for each."""
    limited = f"SELECT professional_id FROM ({ELIGIBLE}) AS e ORDER BY 1 LIMIT {ONE_BY_ONE}"
    with measured.copy() as database:
        url = url_of(database)
        with autocommit(url) as session:
            people = session.execute(limited.encode()).fetchall()

        def reset() -> None:
            for (who,) in people:
                with psycopg.connect(url) as session:
                    _reset_one(session, who)

        return timed(reset) / len(people)


def _reset_one(session: psycopg.Connection[tuple[Any, ...]], who: str) -> None:
    """The balance read, then two writes, then the commit."""
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


if __name__ == "__main__":
    main()
