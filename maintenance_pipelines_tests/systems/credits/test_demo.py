"""The demo's data: the same every time, with every awkward case in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.credits import demo
from maintenance_pipelines.systems.credits.app import months_after
from maintenance_pipelines.systems.credits.schema import TABLES
from maintenance_pipelines.systems.credits.story import Rows, tell
from maintenance_pipelines_tests.systems.credits.books import NOW, broken, rows


@pytest.fixture(scope="module")
def story() -> Rows:
    return tell(demo.SEED, NOW)


def account(database: Database, name: str) -> dict[str, Any]:
    """The balance row of a business, and its transactions."""
    with database.transaction() as connection:
        found = connection.execute(
            sa.text(
                "SELECT b.*, p.verification_status::text AS verification, u.role::text AS role"
                " FROM pro_profiles p JOIN users u ON u.id = p.user_id"
                " JOIN credit_balances b ON b.professional_id = u.id WHERE business_name = :name"
            ),
            {"name": name},
        )
        row = dict(found.mappings().one())
        mine = sa.text(
            "SELECT * FROM credit_transactions WHERE professional_id = :id ORDER BY created_at"
        )
        found = connection.execute(mine, {"id": row["professional_id"]})
        return row | {"transactions": [dict(one) for one in found.mappings()]}


def test_the_same_seed_tells_the_same_story(story: Rows) -> None:
    assert tell(demo.SEED, NOW) == story
    assert tell(demo.SEED + 1, NOW) != story


def test_every_id_is_24_hexadecimal_digits_and_unique_without_its_end(story: Rows) -> None:
    for content in (story.users, story.balances, story.purchases, story.transactions):
        ids = [row["id"] for row in content]
        assert all(len(id_) == 24 and int(id_, 16) for id_ in ids)
        assert len({id_[: demo.DISTINCT] for id_ in ids}) == len(ids)


def test_nobody_in_it_is_real(story: Rows) -> None:
    assert all(row["email"].endswith("@example.com") for row in story.users)


def test_nothing_happens_after_the_demos_now(story: Rows) -> None:
    for content in (story.users, story.balances, story.purchases, story.transactions):
        assert max(row["created_at"] for row in content) < NOW


def test_every_purchase_expires_after_six_months_but_for_the_cases(story: Rows) -> None:
    as_usual = [p for p in story.purchases if p["expires_at"] == months_after(p["created_at"])]
    assert len(story.purchases) - 12 < len(as_usual) < len(story.purchases)


@pytest.mark.parametrize("moment", ["2026-03-01 00:00", "2024-02-29 23:59"])
def test_the_books_are_right_on_any_day(make_database: Any, moment: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    database: Database = make_database()
    with database.engine.begin() as connection:
        demo.build(connection, database.schema, now=at)
    assert set(broken(database, at)) == {"expired_credits_closed", "paid_credits_expire"}


def test_the_awkward_cases_are_as_they_are_called(year: Database) -> None:
    def free(name: str) -> int:
        return int(account(year, name)["free_credits"])

    assert free("Thirty Left") == 30
    assert free("A Hundred and Twenty Left") == 120
    assert free("Nothing Left") == 0
    assert account(year, "Lost Verification")["verification"] == "rejected"
    assert account(year, "No Professional Any More")["role"] == "homeowner"
    exactly = account(year, "Expires Exactly Now")["transactions"]
    assert exactly[-1]["expires_at"] == NOW
    partly = account(year, "Partly Spent")["transactions"]
    assert [t["remaining_amount"] for t in partly if t["type"] == "purchase"] == [40]
    three = account(year, "Three Expire at Once")["transactions"]
    bought = [t for t in three if t["type"] == "purchase"]
    assert len({t["expires_at"] for t in bought}) == 1
    assert sum(t["remaining_amount"] > 0 for t in bought) == 3
    without = account(year, "Purchase Without Expiry")["transactions"]
    assert [t["expires_at"] for t in without if t["type"] == "purchase"] == [None]
    reset = account(year, "Reset Today")["transactions"][-1]
    assert (reset["type"], reset["created_at"] > NOW - timedelta(hours=3)) == (
        "monthly_reset",
        True,
    )
    never = account(year, "Never Reset")["transactions"]
    assert "monthly_reset" not in {t["type"] for t in never}


def test_a_spend_that_waited_is_stamped_before_the_one_it_followed(year: Database) -> None:
    spends = [t for t in account(year, "A Spend That Waited")["transactions"] if t["amount"] < 0]
    assert [t["balance_before"] for t in spends] == [88, 100]


def test_a_scale_multiplies_people_and_all_that_is_theirs(
    year: Database, make_database: Any
) -> None:
    other: Database = make_database()
    with other.engine.begin() as connection:
        demo.build(connection, other.schema, scale=3, now=NOW)
    assert broken(other, NOW) == {rule: 3 * count for rule, count in broken(year, NOW).items()}
    for table in TABLES:
        count = f"SELECT count(*) FROM {table.name}"
        assert rows(other, count)[0][0] == 3 * rows(year, count)[0][0]


def test_without_a_moment_the_data_ends_now(make_database: Any) -> None:
    database: Database = make_database()
    with database.engine.begin() as connection:
        demo.build(connection, database.schema)
    last = "SELECT now() - max(created_at) < INTERVAL '5 minutes' FROM credit_transactions"
    assert rows(database, last) == [(True,)]
