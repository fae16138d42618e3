"""The recalculation: counters, or a past month's snapshots, from the records."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals import demo
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.systems.referrals.jobs import (
    broken,
    carry_out,
    creator_counters,
    creator_records,
    creator_snapshots,
    demand_verified,
    member_counters,
    member_records,
    member_snapshots,
    plan,
    roll_back,
    rows,
    scope_of,
)
from maintenance_pipelines_tests.systems.referrals.loading import load, write
from maintenance_pipelines_tests.systems.referrals.reference import Commission, Member, World

RUNNING, PAST = "2025-12", "2025-11"
NOW = datetime(2025, 12, 20, 12)
EARLIER = datetime(2025, 10, 1)
IN_DECEMBER = scope_of(RUNNING, NOW)
IN_NOVEMBER = scope_of(PAST, NOW)


def paid(id: str, member: str, created: datetime, sale: int = 1000) -> Commission:
    return Commission(id, member, "c1", created, sale, (sale // 10, sale * 7 // 10, sale // 5))


@pytest.fixture
def drifted(app: Database) -> Database:
    """m1 counts too much and m2 too little, m3 is right, m4's records exceed its total."""
    members = (
        Member("m1", "m1", "c1", EARLIER, total=9, month=5, earned=12345),
        Member("m2", "m2", "c1", EARLIER, total=1),
        Member("m3", "m3", "c1", EARLIER, earned=100),
        Member("m4", "m4", "c1", EARLIER, earned=77),
        Member("n1", "n1", "c1", NOW - timedelta(days=3), referred_by="m2"),
        Member("n2", "n2", "c1", NOW - timedelta(days=2), referred_by="m4"),
    )
    payments = tuple(paid(f"k{m.id}", m.id, NOW - timedelta(days=1)) for m in members[:4])
    with app.engine.begin() as connection:
        load(connection, World(members, (*payments, paid("old", "m1", datetime(2025, 11, 9), 500))))
    return app


RIGHT = {"m1": (0, 100), "m2": (1, 100), "m3": (0, 100), "m4": (0, 77), "n1": (0, 0), "n2": (0, 0)}


def test_counters_are_rebuilt_and_whoever_is_right_is_not_written(drifted: Database) -> None:
    write(drifted, """UPDATE "Member" SET "updatedAt" = '2025-10-02'""")
    found = carry_out(monthly_stats_recalculation, drifted, IN_DECEMBER)
    run = demand_verified(found)
    assert member_counters(drifted) == RIGHT
    assert creator_counters(drifted) == {"c1": 4000, "c2": 0}
    assert (run.planned, run.excluded) == (3, {"truth_exceeds_total": 1})
    assert broken(found) == {"records_within_total": 1}
    written = """SELECT id FROM "Member" WHERE "updatedAt" > '2025-10-02' ORDER BY id"""
    assert rows(drifted, written) == [("m1",), ("m2",)]
    assert plan(monthly_stats_recalculation, drifted, IN_DECEMBER).planned == 0


def test_each_change_is_audited_as_a_recalculation(drifted: Database) -> None:
    carry_out(monthly_stats_recalculation, drifted, IN_DECEMBER)
    found = rows(
        drifted,
        """SELECT "entityId", field, "oldValue", "newValue", "triggeredBy" FROM "AuditLog"
            ORDER BY 1, 2""",
    )
    assert found == [
        ("c1", "monthlyRevenue", "0", "40", "recalculation"),
        ("m1", "monthlyEarnings", "123.45", "1", "recalculation"),
        ("m1", "monthlyReferred", "5", "0", "recalculation"),
        ("m2", "monthlyEarnings", "0", "1", "recalculation"),
        ("m2", "monthlyReferred", "0", "1", "recalculation"),
    ]


def test_the_noise_of_adding_doubles_up_is_no_drift_and_what_is_no_number_is_one(
    app: Database,
) -> None:
    with app.engine.begin() as connection:
        members = (Member("m1", "m1", "c1", EARLIER), Member("m2", "m2", "c1", EARLIER))
        load(connection, World(members, (paid("k1", "m1", NOW, 3000), paid("k2", "m2", NOW, 300))))
    noisy = """UPDATE "Member" SET "monthlyEarnings" = 0.1::float8 + 0.2::float8 WHERE id = 'm2'"""
    write(app, noisy, """UPDATE "Member" SET "monthlyEarnings" = 'NaN' WHERE id = 'm1'""")
    write(app, """UPDATE "Creator" SET "monthlyRevenue" = 33 WHERE id = 'c1'""")
    run = demand_verified(carry_out(monthly_stats_recalculation, app, IN_DECEMBER))
    assert run.planned == 1
    assert rows(app, 'SELECT "monthlyEarnings" FROM "Member" ORDER BY id') == [
        (3.0,),
        (0.1 + 0.2,),
    ]


def test_of_a_past_month_its_snapshots_are_rebuilt_and_no_counter(drifted: Database) -> None:
    demand_verified(carry_out(monthly_stats_reset, drifted, IN_NOVEMBER))
    before = member_counters(drifted)
    write(
        drifted,
        """UPDATE "MonthlySnapshot" SET "monthlyReferrals" = 1, "monthlyEarnings" = 9
            WHERE "memberId" = 'm2'""",
        """DELETE FROM "MonthlySnapshot" WHERE "memberId" = 'm1'""",
        """UPDATE "MonthlySnapshot" SET "monthlyRevenue" = 1 WHERE "memberId" IS NULL""",
    )
    run = demand_verified(carry_out(monthly_stats_recalculation, drifted, IN_NOVEMBER))
    assert run.planned == 4
    assert member_snapshots(drifted, PAST) == {
        "m1": (0, 50),
        "m2": (0, 0),
        "m3": (0, 0),
        "m4": (0, 0),
    }
    assert creator_snapshots(drifted, PAST) == {"c1": (0, 500), "c2": (0, 0)}
    assert member_counters(drifted) == before
    audited = """SELECT field, "oldValue", "newValue" FROM "AuditLog"
        WHERE entity = 'MonthlySnapshot' ORDER BY 1, 2, 3"""
    assert rows(drifted, audited) == [
        ("monthlyEarnings", "9", "0"),
        ("monthlyReferrals", "1", "0"),
        ("monthlyRevenue", "1", "0"),
        ("monthlyRevenue", "1", "5"),
    ]
    assert plan(monthly_stats_recalculation, drifted, IN_NOVEMBER).planned == 0


def test_a_past_month_with_more_referrals_than_there_are_in_all_is_left_alone(
    drifted: Database,
) -> None:
    write(drifted, """UPDATE "Member" SET "createdAt" = '2025-11-20' WHERE id = 'n2'""")
    run = plan(monthly_stats_recalculation, drifted, IN_NOVEMBER)
    assert run.excluded == {"truth_exceeds_total": 1}


def test_everybody_in_the_demo_is_mended(stale: Database) -> None:
    scope = scope_of("2025-10", demo.NOW.replace(tzinfo=None))
    run = demand_verified(carry_out(monthly_stats_recalculation, stale, scope))
    assert run.planned == 726 + 4
    assert member_counters(stale) == member_records(stale, "2025-10")
    records = creator_records(stale, "2025-10")
    assert creator_counters(stale) == {id: cents for id, (_, cents) in records.items()}


def test_a_rollback_gives_the_old_counters_back_and_audits_it(drifted: Database) -> None:
    before = member_counters(drifted), creator_counters(drifted)
    run = demand_verified(carry_out(monthly_stats_recalculation, drifted, IN_DECEMBER))
    write(
        drifted,
        """UPDATE "Member" SET "monthlyReferred" = "monthlyReferred" + 2,
        "monthlyEarnings" = "monthlyEarnings" + 0.1 WHERE id = 'm1'""",
    )
    demand_verified(roll_back(monthly_stats_recalculation, drifted, run))
    after = member_counters(drifted)
    assert after.pop("m1") == (5 + 2, 12345 + 10)
    assert after == {id: numbers for id, numbers in before[0].items() if id != "m1"}
    assert creator_counters(drifted) == before[1]
    reversed_ = """SELECT "entityId", field, "oldValue", "newValue" FROM "AuditLog"
        WHERE "triggeredBy" = 'rollback' AND "entityId" = 'm1' ORDER BY 2"""
    assert rows(drifted, reversed_) == [
        ("m1", "monthlyEarnings", "1.1", "123.55"),
        ("m1", "monthlyReferred", "2", "7"),
    ]
    kept = """SELECT count(*) FROM "AuditLog" WHERE "triggeredBy" = 'recalculation'"""
    assert rows(drifted, kept) == [(5,)]


def test_counters_that_were_reset_since_are_not_taken_back(drifted: Database) -> None:
    run = demand_verified(carry_out(monthly_stats_recalculation, drifted, IN_DECEMBER))
    january = scope_of(RUNNING, datetime(2026, 1, 1, 0, 5))
    demand_verified(carry_out(monthly_stats_reset, drifted, january))
    undo = roll_back(monthly_stats_recalculation, drifted, run).run
    assert (undo.planned, undo.excluded) == (0, {"reset_since": 3})
    assert set(member_counters(drifted).values()) == {(0, 0)}


def test_a_rollback_of_a_past_month_gives_its_snapshots_back(drifted: Database) -> None:
    demand_verified(carry_out(monthly_stats_reset, drifted, IN_NOVEMBER))
    write(
        drifted,
        """UPDATE "MonthlySnapshot" SET "monthlyEarnings" = 9 WHERE "memberId" IN ('m2', 'm3')""",
        """DELETE FROM "MonthlySnapshot" WHERE "memberId" = 'm1'""",
    )
    before = member_snapshots(drifted, PAST)
    run = demand_verified(carry_out(monthly_stats_recalculation, drifted, IN_NOVEMBER))
    write(drifted, """UPDATE "MonthlySnapshot" SET "monthlyEarnings" = 4 WHERE "memberId" = 'm3'""")
    undo = roll_back(monthly_stats_recalculation, drifted, run).run
    assert undo.excluded == {"touched": 1}
    assert member_snapshots(drifted, PAST) == {**before, "m3": (0, 400)}
