"""Taking a reset back: as it would be without it, beside webhooks that go on writing."""

from __future__ import annotations

from datetime import datetime

import psycopg

from maintenance_pipelines.engine import undoing
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines.systems.referrals.webhook import Webhook
from maintenance_pipelines_tests.engine.sessions import meanwhile
from maintenance_pipelines_tests.systems.referrals.jobs import (
    carry_out,
    creator_counters,
    demand_verified,
    member_counters,
    roll_back,
    rows,
    scope_of,
)
from maintenance_pipelines_tests.systems.referrals.live import Traffic
from maintenance_pipelines_tests.systems.referrals.loading import write

OCTOBER = scope_of("2025-10", datetime(2025, 11, 1, 0, 5))
EVERYTHING = 'SELECT to_jsonb(t) FROM "{}" AS t ORDER BY id'


def test_a_reset_leaves_nothing_behind_but_audit_rows(stale: Database) -> None:
    before = [rows(stale, EVERYTHING.format(table)) for table in ("Member", "Creator")]
    run = demand_verified(carry_out(monthly_stats_reset, stale, OCTOBER))
    undo = demand_verified(roll_back(monthly_stats_reset, stale, run))
    assert undo.applied == run.applied
    assert [rows(stale, EVERYTHING.format(table)) for table in ("Member", "Creator")] == before
    assert rows(stale, 'SELECT count(*) FROM "MonthlySnapshot"') == [(0,)]
    causes = """SELECT "triggeredBy", count(*) FROM "AuditLog" GROUP BY 1 ORDER BY 1"""
    (manual, count), (rollback, reversed_) = rows(stale, causes)
    assert (manual, rollback) == ("manual", "rollback")
    assert count == reversed_ > 0
    changes = """SELECT array_agg("oldValue" || ' ' || "newValue" ORDER BY id) FROM "AuditLog"
        GROUP BY "entityId", field"""
    for (pair,) in rows(stale, changes):
        there, back = (each.split() for each in pair)
        assert there == back[::-1]


def test_what_webhooks_have_added_since_stays(stale: Database, app_url: str) -> None:
    best = """SELECT m.id, m."creatorId", "referralCode" FROM "Member" AS m
        ORDER BY "totalReferred" DESC, id LIMIT 1"""
    ((id, creator, code),) = rows(stale, best)
    before, revenue = member_counters(stale), creator_counters(stale)
    run = demand_verified(carry_out(monthly_stats_reset, stale, OCTOBER))
    with psycopg.connect(app_url, autocommit=True) as connection:
        hook = Webhook(connection, clock=lambda: datetime(2025, 11, 3))
        new = hook.refer(creator, code, 4999, "first")
        hook.pay(new, 1990, "second")
    demand_verified(roll_back(monthly_stats_reset, stale, run))
    after = member_counters(stale)
    assert after.pop(new) == (0, 0)
    assert after == {**before, id: (before[id][0] + 1, before[id][1] + 500 + 199)}
    assert creator_counters(stale) == {**revenue, creator: revenue[creator] + 4999 + 1990}


def test_webhooks_at_full_speed_lose_nothing_to_a_reset_and_its_rollback(
    app: Database, app_url: str
) -> None:
    """As if it had never been: every counter is what its webhooks have added up to."""
    traffic = Traffic(app, app_url)
    traffic.populate(members=12)
    with meanwhile(traffic.run):
        traffic.await_events(20)
        run = demand_verified(carry_out(monthly_stats_reset, app, traffic.scope(settle_seconds=0)))
        traffic.await_events(20)
        demand_verified(roll_back(monthly_stats_reset, app, run))
        traffic.await_events(10)
    assert traffic.counters() == traffic.added_up
    assert traffic.deadlocks == 0


def test_a_snapshot_that_somebody_has_changed_stays_with_its_counters(stale: Database) -> None:
    run = demand_verified(carry_out(monthly_stats_reset, stale, OCTOBER))
    ((id,),) = rows(stale, 'SELECT min("memberId") FROM "MonthlySnapshot"')
    write(
        stale, f"""UPDATE "MonthlySnapshot" SET "monthlyReferrals" = 9 WHERE "memberId" = '{id}'"""
    )
    undo = roll_back(monthly_stats_reset, stale, run).run
    assert undo.excluded == {"touched": 1}
    assert undoing.left_alone(monthly_stats_reset, stale, undo) == [(id, "touched")]
    assert rows(stale, 'SELECT "memberId", "monthlyReferrals" FROM "MonthlySnapshot"') == [(id, 9)]
    assert member_counters(stale)[id] == (0, 0)


def test_counters_that_were_reset_again_stay(stale: Database) -> None:
    run = demand_verified(carry_out(monthly_stats_reset, stale, OCTOBER))
    december = scope_of("2025-11", datetime(2025, 12, 1, 0, 5))
    demand_verified(carry_out(monthly_stats_reset, stale, december))
    undo = roll_back(monthly_stats_reset, stale, run).run
    assert (undo.planned, undo.excluded) == (0, {"touched": 1691})
    assert set(member_counters(stale).values()) == {(0, 0)}
