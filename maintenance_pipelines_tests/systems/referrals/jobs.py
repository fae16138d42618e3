"""Carries out the system's jobs, and looks at what they have left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import applying, planning, undoing, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.schema import creator, member, monthly_snapshot

REQUEST = Request(operator="tests")

Numbers = dict[str, tuple[int, int]]
"""By id: referrals and cents."""


def scope_of(month: str, as_of: datetime, **options: Any) -> Scope:
    """What is asked of a job at a moment (naive UTC). Nobody is put off, unless asked for."""
    chosen = ReferralsOptions.model_validate({"settle_seconds": 0, **options})
    return Scope(as_of.replace(tzinfo=UTC), month, chosen)


def plan(job: Job, database: Database, scope: Scope) -> Run:
    """The job's plan."""
    return planning.plan(job, database, scope, REQUEST)


def carry_out(job: Job, database: Database, scope: Scope) -> Verification:
    """Plans, applies and verifies the job, or what is left of it to do."""
    run = plan(job, database, scope)
    if run.planned and run.state != "applied":
        run, failures = applying.apply(job, database, run, Order())
        assert not failures, failures
    return verifying.verify(job, database, run)


def demand_verified(found: Verification) -> Run:
    """The run, where every check holds; names those that do not."""
    assert found.run.state == "verified", [c for c in found.checks if not c.passed] or found.run
    return found.run


def broken(found: Verification, warnings: bool = True) -> dict[str, int]:
    """How many break each check that does not hold."""
    checks = [check for check in found.checks if not check.passed]
    return {check.name: check.count for check in checks if warnings or not check.warning}


def roll_back(job: Job, database: Database, run: Run) -> Verification:
    """Takes the run back."""
    return undoing.rollback(job, database, run, REQUEST, Order())


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """What a statement selects."""
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def member_counters(database: Database) -> Numbers:
    """What every member's counters say."""
    m = member.c
    return _numbers(database, sa.select(m.id, m.monthlyReferred, truth.cents(m.monthlyEarnings)))


def creator_counters(database: Database) -> dict[str, int]:
    """What every creator's counter of revenue says, in cents."""
    c = creator.c
    with database.transaction() as connection:
        found = connection.execute(sa.select(c.id, truth.cents(c.monthlyRevenue)))
        return {row[0]: row[1] for row in found}


def member_snapshots(database: Database, month: str) -> Numbers:
    """What every member's snapshot of the month says."""
    s = monthly_snapshot.c
    found = sa.select(s.memberId, s.monthlyReferrals, truth.cents(s.monthlyEarnings))
    return _numbers(database, found.where(s.month == month, s.memberId.is_not(None)))


def creator_snapshots(database: Database, month: str) -> Numbers:
    """What every creator's snapshot of the month says; no creator may have two."""
    s = monthly_snapshot.c
    found = sa.select(s.creatorId, s.monthlyReferrals, truth.cents(s.monthlyRevenue))
    return _numbers(database, found.where(s.month == month, s.memberId.is_(None)))


def member_records(database: Database, month: str) -> Numbers:
    """What the records say of every member."""
    return _numbers(database, truth.members(Month.parse(month)))


def creator_records(database: Database, month: str) -> Numbers:
    """What the records say of every creator."""
    return _numbers(database, truth.creators(Month.parse(month)))


def _numbers(database: Database, statement: sa.Select[Any]) -> Numbers:
    with database.transaction() as connection:
        found = connection.execute(statement).all()
    numbers = {row[0]: (row[1], row[2]) for row in found}
    assert len(numbers) == len(found), "somebody is there twice"
    return numbers
