"""The demo's data: the same every time, and the story that it is to tell."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals import demo, story
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.rules import RULES
from maintenance_pipelines.systems.referrals.schema import TABLES
from maintenance_pipelines.systems.referrals.story import SPREAD, Rows, tell

SCOPE = Scope(demo.NOW, None, ReferralsOptions())


@pytest.fixture(scope="module")
def rows() -> Rows:
    return tell(demo.SEED)


def broken(database: Database) -> dict[str, int]:
    found = consistency.judge(database, SCOPE, RULES).findings
    return {finding.rule.name: finding.count for finding in found if not finding.passed}


def test_the_same_seed_tells_the_same_story(rows: Rows) -> None:
    assert tell(demo.SEED) == rows
    assert tell(demo.SEED + 1) != rows


@pytest.mark.parametrize("seed", [demo.SEED, 1, 2])
def test_october_is_as_the_sources_own_trial_had_it(seed: int) -> None:
    rows = tell(seed)
    new = [row for row in rows.members if row["createdAt"].month == 10]
    assert len(new) == 11
    assert {row["createdAt"].day for row in new} <= set(range(1, story.LAST_DAY + 1))
    by_code = Counter(row["referredBy"] for row in new)
    top = sorted(rows.members, key=lambda row: -row["totalReferred"])[: len(SPREAD)]
    assert sorted(by_code.values(), reverse=True) == [count for count in SPREAD if count]
    assert set(by_code) <= {row["referralCode"] for row in top}
    paid = [row for row in rows.commissions if row["createdAt"].month == 10]
    kinds = Counter(row["paymentType"] for row in paid)
    older = sum(row["referredBy"] is not None for row in rows.members) - 11
    assert kinds == {"initial": 11, "recurring": older // 2}


def test_recurring_payments_raise_no_referrals(rows: Rows) -> None:
    initial = sum(row["paymentType"] == "initial" for row in rows.commissions)
    assert sum(row["totalReferred"] for row in rows.members) == initial
    assert initial == sum(row["referredBy"] is not None for row in rows.members)


def test_counters_of_726_members_are_stale_and_no_split_is_wrong(stale: Database) -> None:
    assert broken(stale) == {
        "monthly_sum_equals_referrals": 726,
        "earnings_equal_records": 726,
        "referred_with_referrer": 3,
    }


def test_nobody_in_it_is_real(rows: Rows) -> None:
    assert all(row["email"].endswith("@example.com") for row in rows.members)


def test_nothing_happens_after_the_demos_now(rows: Rows) -> None:
    now = demo.NOW.replace(tzinfo=None)
    for content in (rows.members, rows.commissions, rows.refunds):
        assert max(row["createdAt"] for row in content) < now


def test_a_scale_multiplies_communities_and_all_that_is_theirs(
    stale: Database, make_database: Any
) -> None:
    other: Database = make_database()
    with other.engine.begin() as connection:
        demo.build(connection, other.schema, scale=3)
    assert broken(other) == {rule: 3 * count for rule, count in broken(stale).items()}

    def counts(database: Database) -> list[int]:
        with database.transaction() as connection:
            numbers = [sa.select(sa.func.count()).select_from(table) for table in TABLES]
            return [connection.execute(number).scalar_one() for number in numbers]

    assert counts(other) == [3 * count for count in counts(stale)]
