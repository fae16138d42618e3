"""The report of a reset before it is carried out."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.systems.referrals.jobs import plan, rows, scope_of
from maintenance_pipelines_tests.systems.referrals.loading import session


def test_it_shows_what_counters_say_beside_what_records_say(stale: Database) -> None:
    run = plan(monthly_stats_reset, stale, scope_of("2025-10", datetime(2025, 11, 1, 0, 5)))
    change = change_of(monthly_stats_reset, run)
    with session(stale) as connection:
        tables = {
            summary.title: connection.execute(summary.rows(change.scope, planned)).all()
            for summary, planned in change.summaries()
        }
    sums = {row[0]: tuple(row[1:]) for row in tables["Counters of members beside the records"]}
    ((counted, earned),) = rows(
        stale, 'SELECT sum("monthlyReferred"), sum("monthlyEarnings")::numeric(12, 2) FROM "Member"'
    )
    assert sums["monthlyReferred"] == (1687, counted, 11, 726, 0)
    assert sums["monthlyEarnings"][:2] == (1687, earned)
    furthest = tables["Counters of members that are furthest from the records"]
    assert len(furthest) == 20
    assert all(row[2] != row[3] for row in furthest)
    ((says, archived, from_now_on),) = {
        (row[2], row[3], row[5]) for row in tables["Counters of creators beside the records"]
    }
    assert says > archived > 0
    assert from_now_on == Decimal(0)
