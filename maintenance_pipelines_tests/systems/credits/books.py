"""What the tests of credits stand on: a clock that they set, the app at work, and the books."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import sqlalchemy as sa

from maintenance_pipelines.engine import applying, consistency, planning, undoing, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines.systems.credits.app import CreditService
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines.systems.credits.rules import RULES

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
"""What the database's clock is set to where a test does not say otherwise."""

# The server finds a function of its own first, unless the path says that another schema comes
# before: so the database's clock can be set, and goes on from there.
CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.shift (by interval NOT NULL);
INSERT INTO clock.shift VALUES ('0');
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + by FROM clock.shift';
"""
PATH = """
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = clock, pg_catalog, public',
        current_database());
END $$
"""


def install_clock(database: Database) -> None:
    """Gives the database a clock that `set_clock` sets."""
    with database.engine.begin() as connection:
        session = connection.connection.driver_connection
        assert session is not None
        session.execute(CLOCK + PATH)
    database.dispose()  # a session keeps the path that it began with


def begin_with_clock(url: str) -> None:
    """Lets the sessions of a copy begin with the clock; copying leaves that setting behind."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(PATH)


def set_clock(database: Database, moment: datetime) -> None:
    """Sets the database's clock; time goes on from there."""
    write(database, f"UPDATE clock.shift SET by = '{moment}' - pg_catalog.clock_timestamp()")


def now(database: Database) -> datetime:
    """What the database's clock says."""
    moment = rows(database, "SELECT clock_timestamp()")[0][0]
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """What a query answers."""
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def write(database: Database, *statements: str) -> None:
    """Carries out the statements in one transaction."""
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


@contextmanager
def service(url: str, at: datetime | None = None) -> Iterator[CreditService]:
    """The app's credit service in a session of its own, at a moment or by the database's clock."""
    with psycopg.connect(url, autocommit=True) as session:
        yield CreditService(session, clock=lambda: at or _clock_of(session))


def _clock_of(session: psycopg.Connection[Any]) -> datetime:
    row = session.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment.astimezone(UTC)


someone = Request(operator="ann")


def plan_reset(database: Database, as_of: datetime | None = None, **options: Any) -> Run:
    """Plans the reset of the month that is running."""
    moment = as_of or now(database)
    chosen = CreditsOptions.model_validate(options)
    scope = Scope(moment, f"{moment:%Y-%m}", chosen)
    return planning.plan(monthly_credits_reset, database, scope, someone)


def plan(job: Job, database: Database, as_of: datetime | None = None) -> Run:
    """Plans a job without partitions."""
    scope = Scope(as_of or now(database), None, CreditsOptions())
    return planning.plan(job, database, scope, someone)


def finish(job: Job, database: Database, run: Run) -> Verification:
    """What remains to be done of a run, as a new start of the job does it."""
    if run.state == "verified":
        return Verification(run, ())
    if run.state != "applied":
        run = applying.apply(job, database, run, Order())[0]
    return verifying.verify(job, database, run)


def reset(database: Database, as_of: datetime | None = None, **options: Any) -> Verification:
    """The whole reset of the running month."""
    run = plan_reset(database, as_of, **options)
    return finish(monthly_credits_reset, database, run)


def expire(database: Database, as_of: datetime | None = None) -> Verification:
    """The whole expiry."""
    return finish(credit_expiry, database, plan(credit_expiry, database, as_of))


def undo(job: Job, database: Database, run: Run) -> Verification:
    """Rolls a run back."""
    return undoing.rollback(job, database, run, someone, Order())


def failed(verification: Verification) -> set[str]:
    """The blocking checks that do not hold."""
    return {check.name for check in verification.checks if not (check.passed or check.warning)}


def broken(database: Database, as_of: datetime | None = None) -> dict[str, int]:
    """The ledger's rules that do not hold, and how many rows break each."""
    scope = Scope(as_of or now(database), None, CreditsOptions())
    found = consistency.judge(database, scope, RULES).findings
    assert not any(finding.failure for finding in found), found
    return {finding.rule.name: finding.count for finding in found if not finding.passed}


def balance(database: Database, professional: str) -> tuple[int, int, int] | None:
    """Total, free and paid credits; None without a balance row."""
    found = rows(
        database,
        "SELECT total_balance, free_credits, paid_credits FROM credit_balances"
        f" WHERE professional_id = '{professional}'",
    )
    return (found[0][0], found[0][1], found[0][2]) if found else None


def history(database: Database, professional: str) -> list[tuple[str, int, int, int, int]]:
    """Type, amount, balances before and after, and remainder of every transaction, in order."""
    found = rows(
        database,
        "SELECT type::text, amount, balance_before, balance_after, remaining_amount"
        f" FROM credit_transactions WHERE professional_id = '{professional}'"
        " ORDER BY created_at, balance_after",
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the app's tables, but for when each was last updated."""
    tables = ("users", "pro_profiles", "credit_balances", "credit_purchases", "credit_transactions")
    return {
        table: rows(
            database,
            f"SELECT (to_jsonb(t) - 'updated_at')::text FROM {table} AS t ORDER BY 1",
        )
        for table in tables
    }
