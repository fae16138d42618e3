"""The ledger's rules: each broken by one row among many."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.rules import RULES
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    broken,
    rows,
    service,
    write,
)

ODD = {"expired_credits_closed", "paid_credits_expire"}
"""What the demo's year breaks by itself, as warnings."""
WHO = "(SELECT min(professional_id) FROM credit_balances WHERE paid_credits > 20)"
SPEND = "(SELECT max(id) FROM credit_transactions WHERE type = 'spend')"
AGAIN = f"""
INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type, balance_before,
    balance_after, description, remaining_amount, created_at)
SELECT 'again' || n, professional_id, 'monthly_reset', 0, 'free', total_balance, total_balance,
    'again', 0, TIMESTAMPTZ '{{}}'
FROM credit_balances, generate_series(1, 2) n WHERE professional_id = {WHO}
"""

ALONE = {
    "total_is_free_plus_paid": (
        "UPDATE credit_balances SET free_credits = free_credits + 1 WHERE id ="
        " (SELECT min(id) FROM credit_balances)",
        {"balances_equal_remainders"},
    ),
    "nothing_negative": (
        f"UPDATE credit_balances SET lifetime_spent = -1 WHERE professional_id = {WHO}",
        set(),
    ),
    "balances_equal_remainders": (
        f"""UPDATE credit_balances SET free_credits = free_credits + 5,
            paid_credits = paid_credits - 5 WHERE professional_id = {WHO}""",
        set(),
    ),
    "amounts_add_up": (
        f"""UPDATE credit_transactions SET amount = amount - 1, balance_after = balance_after - 1
            WHERE id = {SPEND}""",
        {"balances_chain"},
    ),
    "amounts_are_steps": (
        f"UPDATE credit_transactions SET amount = amount - 1 WHERE id = {SPEND}",
        {"amounts_add_up"},
    ),
    "balances_chain": (
        f"""UPDATE credit_transactions SET balance_before = balance_before + 1,
            balance_after = balance_after + 1 WHERE id = {SPEND}""",
        set(),
    ),
    "one_reset_a_month": (AGAIN.format("2025-10-05"), set()),
}


def test_they_hold_on_a_year_of_the_apps_own_bookings(year: Database) -> None:
    assert set(broken(year)) == ODD
    scope = Scope(NOW, None, CreditsOptions())
    assert consistency.judge(year, scope, RULES).valid


@pytest.mark.parametrize("name", ALONE)
def test_one_row_among_many_breaks_one_rule(year: Database, name: str) -> None:
    statement, besides = ALONE[name]
    write(year, statement)
    found = broken(year)
    assert set(found) == {name} | besides | ODD
    assert found[name] == 1
    assert not consistency.judge(year, Scope(NOW, None, CreditsOptions()), RULES).valid


def test_a_remainder_below_zero_is_found_with_the_transaction(year: Database) -> None:
    write(year, f"UPDATE credit_transactions SET remaining_amount = -1 WHERE id = {SPEND}")
    assert broken(year)["nothing_negative"] == 1


def test_a_transaction_lost_breaks_chain_and_sum(year: Database) -> None:
    write(year, f"DELETE FROM credit_transactions WHERE id = {SPEND}")
    assert set(broken(year)) - ODD == {"amounts_add_up", "balances_chain"}


def test_a_balance_lost_is_found_by_its_transactions(year: Database) -> None:
    write(year, f"DELETE FROM credit_balances WHERE professional_id = {WHO}")
    found = broken(year)
    assert found["amounts_add_up"] == found["balances_equal_remainders"] == 1
    assert found["balances_chain"] == 1


def test_a_balance_without_transactions_is_found(year: Database) -> None:
    write(
        year,
        "INSERT INTO credit_balances (id, professional_id, total_balance, free_credits)"
        " SELECT 'new', id, 100, 100 FROM users WHERE role = 'homeowner' AND id NOT IN"
        " (SELECT professional_id FROM credit_balances) LIMIT 1",
    )
    assert broken(year)["amounts_add_up"] == 1


def test_the_order_of_the_stamps_does_not_matter(app: Database, app_url: str) -> None:
    with service(app_url, NOW) as shop:
        who = shop.sign_up()
        shop.look(who)
        shop.spend(who, 10)
    with service(app_url, NOW - timedelta(days=1)) as shop:
        shop.spend(who, 20)
    assert broken(app) == {}


@pytest.mark.parametrize(
    ("stamps", "twice"),
    [
        (("2026-02-01 00:00:00", "2026-02-28 23:59:59.999999"), True),
        (("2026-01-31 23:59:59.999999", "2026-02-01 00:00:00"), False),
        (("2024-02-01 00:00:00", "2024-02-29 23:59:59.999999"), True),
        (("2024-02-29 23:59:59.999999", "2024-03-01 00:00:00"), False),
    ],
)
def test_months_are_those_of_utc_to_the_microsecond(
    app: Database, app_url: str, stamps: tuple[str, str], twice: bool
) -> None:
    with service(app_url, NOW) as shop:
        who = shop.sign_up()
        shop.look(who)
    for number, stamp in enumerate(stamps):
        write(
            app,
            "INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type,"
            " balance_before, balance_after, description, created_at) VALUES"
            f" ('{number}', '{who}', 'monthly_reset', 0, 'free', 100, 100, '', '{stamp}+00')",
        )
    assert set(broken(app)) == ({"one_reset_a_month"} if twice else set())


@pytest.mark.parametrize("microseconds", [-1, 0, 1])
def test_credits_have_expired_from_the_very_moment(
    app: Database, app_url: str, microseconds: int
) -> None:
    with service(app_url, NOW) as shop:
        shop.purchase(shop.sign_up(), 10)
    expiry = rows(app, "SELECT max(expires_at) FROM credit_transactions")[0][0]
    moment = expiry + timedelta(microseconds=microseconds)
    assert ("expired_credits_closed" in broken(app, moment)) == (microseconds >= 0)


def test_no_address_is_in_the_answer(year: Database) -> None:
    write(year, *(statement for statement, _ in ALONE.values()))
    found = consistency.judge(year, Scope(NOW, None, CreditsOptions()), RULES)
    assert "@" not in str(found.json())
