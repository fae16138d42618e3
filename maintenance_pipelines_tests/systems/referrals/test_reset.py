"""The reset: a month archived from the records, counters of the running month, whenever it runs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines.systems.referrals import closing
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines.systems.referrals.schema import TABLES
from maintenance_pipelines_tests.engine.sessions import holding
from maintenance_pipelines_tests.systems.referrals import reference
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
    rows,
    scope_of,
)
from maintenance_pipelines_tests.systems.referrals.loading import load, write
from maintenance_pipelines_tests.systems.referrals.reference import (
    Commission,
    Member,
    Refund,
    World,
)
from maintenance_pipelines_tests.systems.referrals.situations import (
    CREATORS,
    END,
    START,
    worlds,
)

DECEMBER = "2025-12"
ON_TIME = END + timedelta(minutes=5)
MILLISECOND = timedelta(milliseconds=1)
OCTOBER_CLOSED = scope_of("2025-10", datetime(2025, 11, 1, 0, 5))


def make(database: Database, *members: Member, paid: tuple[Commission, ...] = ()) -> None:
    """A world of these members, on top of two creators."""
    with database.engine.begin() as connection:
        load(connection, World(members, paid))


def empty(database: Database) -> None:
    names = ", ".join(f'"{table.name}"' for table in TABLES)
    write(database, f"TRUNCATE {names}")


def paid(id: str, member: str, created: datetime, sale: int = 1000) -> Commission:
    return Commission(id, member, "c1", created, sale, (sale // 10, sale * 7 // 10, sale // 5))


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds(sound=True))
def test_snapshots_and_counters_are_what_the_reference_says(app: Database, world: World) -> None:
    empty(app)
    with app.engine.begin() as connection:
        load(connection, World(world.members, world.commissions, world.refunds))
    before = rows(app, 'SELECT id, "totalReferred", "lifetimeEarnings" FROM "Member" ORDER BY id')
    found = carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME))
    demand_verified(found)

    there = {row.id for row in world.members if row.created < END}
    december = reference.of_members(world, 2025, 12)
    january = reference.of_members(world, 2026, 1)
    assert member_snapshots(app, DECEMBER) == {id: december[id] for id in there}
    kept = {row.id: (row.month, row.earned) for row in world.members}
    assert member_counters(app) == {id: january[id] if id in there else kept[id] for id in kept}
    assert creator_snapshots(app, DECEMBER) == reference.of_creators(world, CREATORS, 2025, 12)
    revenue = reference.of_creators(world, CREATORS, 2026, 1)
    assert creator_counters(app) == {id: cents for id, (_, cents) in revenue.items()}
    after = rows(app, 'SELECT id, "totalReferred", "lifetimeEarnings" FROM "Member" ORDER BY id')
    assert after == before

    again = plan(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME + timedelta(hours=1)))
    assert again.planned == 0


def test_of_the_demo_everybody_is_archived_and_starts_anew(stale: Database) -> None:
    run = demand_verified(carry_out(monthly_stats_reset, stale, OCTOBER_CLOSED))
    assert run.planned == run.applied == 1687 + 4
    assert member_snapshots(stale, "2025-10") == member_records(stale, "2025-10")
    assert creator_snapshots(stale, "2025-10") == creator_records(stale, "2025-10")
    assert set(member_counters(stale).values()) == {(0, 0)}
    assert set(creator_counters(stale).values()) == {0}
    reset = rows(stale, 'SELECT DISTINCT "lastMonthReset" FROM "Member"')
    assert reset == [(datetime(2025, 11, 1, 0, 5),)]


def test_planning_changes_nothing(stale: Database) -> None:
    before = member_counters(stale)
    run = plan(monthly_stats_reset, stale, OCTOBER_CLOSED)
    assert run.planned == 1691
    assert member_counters(stale) == before
    assert member_snapshots(stale, "2025-10") == {}


def test_days_late_the_counters_are_those_of_the_running_month(app: Database) -> None:
    late = END + timedelta(days=9)
    make(
        app,
        Member("m1", "m1", "c1", START, month=7, earned=700),
        Member("m2", "m2", "c1", END - MILLISECOND, referred_by="m1"),
        Member("m3", "m3", "c1", END, referred_by="m1"),
        paid=(
            paid("k1", "m1", END - MILLISECOND, 1000),
            paid("k2", "m1", END, 2000),
            paid("k3", "m1", late - timedelta(hours=1), 3000),
            paid("k4", "m1", START - MILLISECOND, 9000),
        ),
    )
    demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, late)))
    assert member_snapshots(app, DECEMBER) == {"m1": (1, 100), "m2": (0, 0)}
    assert member_counters(app) == {"m1": (1, 500), "m2": (0, 0), "m3": (0, 0)}
    assert creator_snapshots(app, DECEMBER) == {"c1": (1, 1000), "c2": (0, 0)}
    assert creator_counters(app) == {"c1": 5000, "c2": 0}


def test_months_can_be_reset_in_any_order_and_each_keeps_its_own_truth(app: Database) -> None:
    make(
        app,
        Member("m1", "m1", "c1", datetime(2025, 9, 3), month=9, earned=900),
        paid=(
            paid("k1", "m1", datetime(2025, 10, 5), 1000),
            paid("k2", "m1", datetime(2025, 11, 5), 2000),
            paid("k3", "m1", datetime(2025, 12, 5), 3000),
        ),
    )
    now = datetime(2025, 12, 9)
    for month in ("2025-11", "2025-09", "2025-10"):
        demand_verified(carry_out(monthly_stats_reset, app, scope_of(month, now)))
        assert member_counters(app) == {"m1": (0, 300)}
    assert [member_snapshots(app, f"2025-{n:02}")["m1"] for n in (9, 10, 11)] == [
        (0, 0),
        (0, 100),
        (0, 200),
    ]


@pytest.mark.parametrize("reset", [END, END + timedelta(days=40), ON_TIME])
def test_counters_of_a_newer_month_are_never_touched(app: Database, reset: datetime) -> None:
    make(app, Member("m1", "m1", "c1", START, month=3, earned=300))
    write(app, f"""UPDATE "Member" SET "lastMonthReset" = '{reset}'""")
    write(app, f"""UPDATE "Creator" SET "lastMonthReset" = '{reset}', "monthlyRevenue" = 5""")
    demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, datetime(2026, 3, 1))))
    assert member_counters(app) == {"m1": (3, 300)}
    assert creator_counters(app) == {"c1": 500, "c2": 500}
    assert member_snapshots(app, DECEMBER) == {"m1": (0, 0)}
    assert rows(app, 'SELECT DISTINCT "lastMonthReset" FROM "Member"') == [(reset,)]
    assert rows(app, 'SELECT count(*) FROM "AuditLog"') == [(0,)]


def test_counters_that_were_last_reset_in_the_month_itself_are_due(app: Database) -> None:
    make(app, Member("m1", "m1", "c1", START, month=3, earned=300))
    write(app, f"""UPDATE "Member" SET "lastMonthReset" = '{END - MILLISECOND}'""")
    demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME)))
    assert member_counters(app) == {"m1": (0, 0)}


def test_who_was_created_after_the_month_is_left_alone_and_counted(app: Database) -> None:
    make(
        app,
        Member("m1", "m1", "c1", END - MILLISECOND, month=1, earned=100),
        Member("m2", "m2", "c1", END, month=2, earned=200),
    )
    write(app, f"""UPDATE "Creator" SET "createdAt" = '{END}'""")
    run = demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME)))
    # A community that has an older member was there before, whatever its own row says.
    assert run.excluded == {"created_after_month": 2}
    assert member_snapshots(app, DECEMBER) == {"m1": (0, 0)}
    assert member_counters(app) == {"m1": (0, 0), "m2": (2, 200)}
    assert creator_snapshots(app, DECEMBER) == {"c1": (0, 0)}
    assert rows(app, """SELECT "lastMonthReset" FROM "Member" WHERE id = 'm2'""") == [(None,)]


def test_one_new_creator_does_not_make_it_run_again(stale: Database) -> None:
    demand_verified(carry_out(monthly_stats_reset, stale, OCTOBER_CLOSED))
    write(
        stale,
        """INSERT INTO "Creator" (id, "companyId", "companyName", "productId", "createdAt",
           "updatedAt") VALUES ('new', 'new', 'New', 'p', '2025-11-02', '2025-11-02')""",
        """UPDATE "Member" SET "monthlyReferred" = 5 WHERE "totalReferred" > 20""",
    )
    before = member_counters(stale)
    again = carry_out(monthly_stats_reset, stale, scope_of("2025-10", datetime(2025, 11, 3)))
    assert (again.run.planned, again.run.state) == (0, "verified")
    assert again.run.excluded == {"already_reset": 1691, "created_after_month": 1}
    assert member_counters(stale) == before


def test_a_creator_is_archived_once_however_often_it_runs(app: Database) -> None:
    make(app, Member("m1", "m1", "c1", START))
    for hours in range(3):
        carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME + timedelta(hours=hours)))
    count = """SELECT count(*), count("memberId") FROM "MonthlySnapshot" """
    assert rows(app, count) == [(3, 1)]


def test_half_a_reset_is_completed(app: Database) -> None:
    """As the original leaves it: snapshots there and counters not, or the other way round."""
    make(
        app,
        *(Member(id, id, "c1", START, month=4, earned=400) for id in ("m1", "m2")),
        paid=(paid("k1", "m2", START, 1000),),
    )
    write(
        app,
        f"""INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "memberId")
            VALUES ('s', '{DECEMBER}', 'c1', 'm1')""",
        f"""UPDATE "Member" SET "lastMonthReset" = '{END}', "monthlyReferred" = 0,
            "monthlyEarnings" = 0 WHERE id = 'm2'""",
    )
    demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME)))
    assert member_snapshots(app, DECEMBER) == {"m1": (0, 0), "m2": (0, 100)}
    assert member_counters(app) == {"m1": (0, 0), "m2": (0, 0)}


def test_an_existing_snapshot_is_kept_and_its_difference_reported(app: Database) -> None:
    make(app, Member("m1", "m1", "c1", START), paid=(paid("k1", "m1", START, 1000),))
    write(
        app,
        f"""INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "memberId", "monthlyEarnings")
            VALUES ('s', '{DECEMBER}', 'c1', 'm1', 77)""",
        f"""INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "monthlyRevenue")
            SELECT n, '{DECEMBER}', 'c1', 10 FROM unnest(ARRAY['d1', 'd2']) AS n""",
    )
    found = carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME))
    demand_verified(found)
    assert member_snapshots(app, DECEMBER) == {"m1": (0, 7700)}
    assert broken(found) == {"member_archive_equals_records": 1, "creators_archived_once_by_all": 1}
    assert broken(found, warnings=False) == {}


def test_refunds_count_where_they_happen_or_not_at_all(app: Database) -> None:
    with app.engine.begin() as connection:
        world = World(
            (Member("m1", "m1", "c1", datetime(2025, 10, 1)),),
            (paid("k1", "m1", datetime(2025, 11, 20), 1000),),
            (Refund("r1", "k1", START, 1000, 100),),
        )
        load(connection, world)
    demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME)))
    assert member_snapshots(app, DECEMBER) == {"m1": (0, -100)}
    assert creator_snapshots(app, DECEMBER) == {"c1": (0, -1000), "c2": (0, 0)}
    november = scope_of("2025-11", ON_TIME, ignore_refunds=True)
    demand_verified(carry_out(monthly_stats_reset, app, november))
    assert member_snapshots(app, "2025-11") == {"m1": (0, 100)}


def test_a_database_without_a_table_of_refunds_is_reset_too(app_without_refunds: Database) -> None:
    with app_without_refunds.engine.begin() as connection:
        members, payments = (Member("m1", "m1", "c1", START),), (paid("k1", "m1", START, 1000),)
        load(connection, World(members, payments), with_refunds=False)
    scope = scope_of(DECEMBER, ON_TIME)
    run = demand_verified(carry_out(monthly_stats_reset, app_without_refunds, scope))
    assert run.options["ignore_refunds"] is True
    assert member_snapshots(app_without_refunds, DECEMBER) == {"m1": (0, 100)}


def test_each_counter_that_changes_has_one_audit_row(app: Database) -> None:
    make(
        app,
        Member("m1", "m1", "c1", START, month=2, earned=2499),
        Member("m2", "m2", "c1", START, month=0, earned=50),
        Member("m3", "m3", "c1", START),
        paid=(paid("k1", "m1", END, 1000),),
    )
    run = demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME)))
    found = rows(
        app,
        """SELECT entity, "entityId", field, "oldValue", "newValue", "triggeredBy",
                  metadata ->> 'run', metadata ->> 'month' FROM "AuditLog" ORDER BY 1, 2, 3""",
    )
    why = ("manual", run.id, DECEMBER)
    assert found == [
        ("Creator", "c1", "monthlyRevenue", "0", "10", *why),
        ("Member", "m1", "monthlyEarnings", "24.99", "1", *why),
        ("Member", "m1", "monthlyReferred", "2", "0", *why),
        ("Member", "m2", "monthlyEarnings", "0.5", "0", *why),
    ]


@pytest.mark.parametrize("as_of", [END - MILLISECOND, START + timedelta(days=3)])
def test_a_month_that_is_not_over_is_refused(app: Database, as_of: datetime) -> None:
    with pytest.raises(BadInput, match="2025-12 is not over, it ends at 2026-01-01 00:00 UTC"):
        plan(monthly_stats_reset, app, scope_of(DECEMBER, as_of))
    assert plan(monthly_stats_reset, app, scope_of(DECEMBER, END)).planned == 0


def test_a_month_is_not_closed_while_a_transaction_from_before_its_end_is_open(
    app: Database, app_url: str
) -> None:
    now = datetime.now().astimezone()
    ended = scope_of(f"{now.year}-{now.month:02}", (now + timedelta(days=40)).replace(tzinfo=None))

    def ask(scope: Scope) -> None:
        with app.transaction() as connection:
            closing.demand_closable(connection, scope)

    ask(ended)
    with holding(app_url, "SELECT 1"):
        with pytest.raises(Guarded, match="1 transactions that began before its end"):
            ask(ended)
        ask(scope_of(DECEMBER, ON_TIME))  # it began after the end of that


def test_a_snapshots_id_is_a_cuid_and_no_two_are_alike(stale: Database) -> None:
    carry_out(monthly_stats_reset, stale, OCTOBER_CLOSED)
    ids = [row[0] for row in rows(stale, 'SELECT id FROM "MonthlySnapshot"')]
    ids += [row[0] for row in rows(stale, 'SELECT id FROM "AuditLog"')]
    assert Counter(ids).most_common(1)[0][1] == 1
    assert all(len(id) == 25 and id.startswith("c") for id in ids)


def test_no_column_is_changed_but_those_of_the_month(stale: Database) -> None:
    others = """SELECT to_jsonb(m) - ARRAY['monthlyReferred', 'monthlyEarnings', 'monthlyRevenue',
        'lastMonthReset', 'updatedAt'] FROM "{}" AS m ORDER BY id"""
    tables = [table.name for table in TABLES if table.name not in ("MonthlySnapshot", "AuditLog")]
    before = [rows(stale, others.format(table)) for table in tables]
    carry_out(monthly_stats_reset, stale, OCTOBER_CLOSED)
    assert [rows(stale, others.format(table)) for table in tables] == before


def test_the_apps_later_write_is_not_dated_back(app: Database) -> None:
    make(app, Member("m1", "m1", "c1", START, month=1))
    later = ON_TIME + timedelta(hours=2)
    write(app, f"""UPDATE "Member" SET "updatedAt" = '{later}'""")
    demand_verified(carry_out(monthly_stats_reset, app, scope_of(DECEMBER, ON_TIME)))
    assert rows(app, 'SELECT "updatedAt", "lastMonthReset" FROM "Member"') == [(later, ON_TIME)]
