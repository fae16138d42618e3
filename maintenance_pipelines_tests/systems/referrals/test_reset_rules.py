"""The rules after a job: each broken by hand before it is verified, and what breaks none."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from maintenance_pipelines.engine import applying, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.systems.referrals.jobs import broken, plan, scope_of
from maintenance_pipelines_tests.systems.referrals.loading import load, write
from maintenance_pipelines_tests.systems.referrals.reference import Commission, Member, World

NOVEMBER = datetime(2025, 11, 10)
NOW = datetime(2025, 12, 5)
RESET = scope_of("2025-11", NOW)


def paid(id: str, member: str, created: datetime) -> Commission:
    return Commission(id, member, "c1", created, 1000, (100, 700, 200))


@pytest.fixture
def world(app: Database) -> Database:
    members = tuple(Member(f"m{n}", f"m{n}", "c1", NOVEMBER, total=5, month=3) for n in (1, 2))
    payments = (paid("k1", "m1", NOVEMBER), paid("k2", "m1", NOW - timedelta(days=2)))
    with app.engine.begin() as connection:
        load(connection, World(members, payments))
    return app


def disturbed(job: Job, database: Database, scope: Scope, *statements: str) -> dict[str, int]:
    """What verification says where the statements come between it and the job."""
    run = plan(job, database, scope)
    run, failures = applying.apply(job, database, run, Order())
    assert not failures
    write(database, *statements)
    found = verifying.verify(job, database, run)
    blocking = broken(found, warnings=False)
    assert found.run.state == ("failed" if blocking else "verified")
    return broken(found)


LATER = """INSERT INTO "Commission" (id, "whopPaymentId", "whopMembershipId", "saleAmount",
    "memberShare", "creatorShare", "platformShare", "paymentType", status, "memberId",
    "creatorId", "createdAt")
    VALUES ('x', 'x', 'x', 10, 1, 7, 2, 'recurring', 'paid', 'm1', 'c1', '{}')"""


@pytest.mark.parametrize(
    ("statement", "rules"),
    [
        ("""DELETE FROM "MonthlySnapshot" WHERE "memberId" = 'm1'""", {"every_member_archived"}),
        (
            """DELETE FROM "MonthlySnapshot" WHERE "creatorId" = 'c2'""",
            {"every_creator_archived"},
        ),
        (
            """UPDATE "MonthlySnapshot" SET "monthlyEarnings" = 2 WHERE "memberId" = 'm1'""",
            {"member_snapshots_equal_records", "member_archive_equals_records"},
        ),
        (
            """UPDATE "MonthlySnapshot" SET "monthlyRevenue" = 2 WHERE "memberId" IS NULL
                AND "creatorId" = 'c1'""",
            {"creator_snapshots_equal_records", "creator_archive_equals_records"},
        ),
        (
            """INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "monthlyRevenue")
                VALUES ('twice', '2025-11', 'c1', 10)""",
            {"creators_archived_once", "creators_archived_once_by_all"},
        ),
        (
            """UPDATE "Member" SET "monthlyReferred" = 1 WHERE id = 'm2'""",
            {"member_counters_equal_records"},
        ),
        (
            """UPDATE "Creator" SET "monthlyRevenue" = 1 WHERE id = 'c2'""",
            {"creator_counters_equal_records"},
        ),
    ],
)
def test_each_rule_finds_what_breaks_it(world: Database, statement: str, rules: set[str]) -> None:
    found = disturbed(monthly_stats_reset, world, RESET, statement)
    found.pop("touched_since", None)
    found.pop("appeared_since", None)
    assert found == dict.fromkeys(rules, 1)


@pytest.mark.parametrize(
    ("statements", "warnings"),
    [
        (
            (LATER.format(NOVEMBER),),
            {"member_archive_equals_records": 1, "creator_archive_equals_records": 1},
        ),
        ((LATER.format(NOW + timedelta(seconds=1)),), {}),
        (
            (
                LATER.format(NOW - timedelta(hours=1)),
                """UPDATE "Member" SET "updatedAt" = now()""",
                """UPDATE "Creator" SET "updatedAt" = now()""",
            ),
            {},
        ),
        (("""DELETE FROM "Member" WHERE id = 'm2'""",), {"touched_since": 1}),
    ],
    ids=[
        "a late record",
        "a record since",
        "an older one, counted since",
        "a member deleted since",
    ],
)
def test_what_the_app_does_since_is_no_failure(
    world: Database, statements: tuple[str, ...], warnings: dict[str, int]
) -> None:
    assert disturbed(monthly_stats_reset, world, RESET, *statements) == warnings


def test_a_recalculated_value_that_is_wrong_is_found(world: Database) -> None:
    wrong = """UPDATE "Member" SET "monthlyEarnings" = 77 WHERE id = 'm2'"""
    found = disturbed(monthly_stats_recalculation, world, scope_of("2025-12", NOW), wrong)
    assert found["member_values_equal_records"] == 1


def test_a_recalculated_snapshot_that_is_wrong_is_found(world: Database) -> None:
    wrong = """UPDATE "MonthlySnapshot" SET "monthlyRevenue" = 77 WHERE "creatorId" = 'c2'"""
    found = disturbed(monthly_stats_recalculation, world, RESET, wrong)
    assert found["creator_values_equal_records"] == 1
