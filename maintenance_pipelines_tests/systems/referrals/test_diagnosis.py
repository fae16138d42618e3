"""The diagnosis of a month, on the demo's story."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals import demo
from maintenance_pipelines.systems.referrals.diagnosis import Diagnosis, diagnose
from maintenance_pipelines.systems.referrals.story import SPREAD, tell
from maintenance_pipelines_tests.systems.referrals.loading import scope_of, write

NOW = demo.NOW.replace(tzinfo=None)
NOVEMBER = datetime(2025, 11, 3)
ARCHIVED = """
INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "memberId", "monthlyReferrals",
    "monthlyEarnings")
SELECT 's' || id, '2025-{}', "creatorId", id, "monthlyReferred", "monthlyEarnings" FROM "Member"
 WHERE "createdAt" < '2025-11-01'
"""


def diagnosed(database: Database, month: str | None = None, now: datetime = NOW) -> Diagnosis:
    return diagnose(database, scope_of(now, month))


def test_stale_counters_are_diagnosed(stale: Database) -> None:
    found = diagnosed(stale)
    assert found.new_referrals == sum(SPREAD)
    assert not found.sum_is_right
    assert [one.reality for one in found.top] == list(SPREAD)
    assert all(one.field == one.total for one in found.top)
    assert found.top[0].status == f"too high by {found.top[0].total - SPREAD[0]}"
    broken = {f.rule.name: f.count for f in found.consistency.findings if not f.passed}
    assert broken["monthly_sum_equals_referrals"] == 726
    assert found.verdict == ("Something is wrong: of 8 rules, 1 found errors and 2 found warnings.")
    assert "monthly_stats_reset --partition 2025-09" in found.to_do[0]
    assert "monthly_stats_recalculation --partition 2025-10" in found.to_do[1]
    assert found.to_do[2].startswith("`referred_with_referrer`")


def test_commissions_are_counted_by_payment_type(stale: Database) -> None:
    october = [row for row in tell(demo.SEED).commissions if row["createdAt"].month == 10]
    for one in diagnosed(stale).payments:
        of_kind = [row for row in october if row["paymentType"] == one.kind]
        assert one.count == len(of_kind)
        assert one.sales == sum(round(row["saleAmount"] * 100) for row in of_kind)
        assert one.earned == sum(round(row["memberShare"] * 100) for row in of_kind)
    assert {one.kind for one in diagnosed(stale).payments} == {"initial", "recurring"}


def test_healthy_data_needs_nothing(healthy: Database) -> None:
    write(healthy, ARCHIVED.format("09"))
    found = diagnosed(healthy)
    assert found.verdict == "Everything is right."
    assert found.to_do == ()
    assert found.sum_is_right
    assert {one.status for one in found.top} == {"right"}
    assert "Nothing." in found.markdown()


def test_a_month_that_was_never_archived_says_so(healthy: Database) -> None:
    found = diagnosed(healthy, "2025-10", NOVEMBER)
    assert found.verdict.startswith("2025-10 is not archived: 1,687 of 1,687 members")
    assert [step.split("`")[1] for step in found.to_do] == [
        "./maintenance run monthly_stats_reset --partition 2025-10"
    ]
    assert {one.status for one in found.top} == {"no snapshot"}


def test_snapshots_that_differ_want_a_recalculation(healthy: Database) -> None:
    write(healthy, ARCHIVED.format("10"))
    assert diagnosed(healthy, "2025-10", NOVEMBER).verdict == "Everything is right."
    write(healthy, 'UPDATE "MonthlySnapshot" SET "monthlyReferrals" = "monthlyReferrals" + 1')
    found = diagnosed(healthy, "2025-10", NOVEMBER)
    assert "snapshots differ from the records" in found.to_do[0]
    assert found.top[0].status == "too high by 1"


def test_the_report_shows_it_all_and_no_address(stale: Database) -> None:
    found = diagnosed(stale)
    report = found.markdown()
    assert "# Referrals in 2025-10" in report
    assert "New referrals: **11**" in report and "NOT equal" in report
    for heading in ("Commissions", "The top 10", "Rules", "The first offenders"):
        assert f"**{heading}**" in report
    assert "@" not in report + str(found.json())


def test_the_object_has_the_answer_of_the_check_in_it(stale: Database) -> None:
    answer = diagnosed(stale).json()
    assert {"valid", "errors", "warnings", "checks", "executionTime"} <= set(answer)
    assert answer["newReferrals"] == 11
    assert len(answer["topReferrers"]) == 10


def test_an_empty_app_is_diagnosed(app: Database) -> None:
    found = diagnosed(app)
    assert found.verdict == "Everything is right."
    assert found.top == ()
    assert "**Commissions**: none." in found.markdown()
    with app.transaction() as connection:
        assert connection.execute(sa.text('SELECT count(*) FROM "Member"')).scalar_one() == 0
