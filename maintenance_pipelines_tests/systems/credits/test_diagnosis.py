"""The diagnosis: a month's credits on one page."""

from __future__ import annotations

import json

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.credits.diagnosis import diagnose
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    expire,
    reset,
    rows,
    write,
)


def scope(month: str | None = None) -> Scope:
    return Scope(NOW, month, CreditsOptions())


def test_it_says_what_is_to_be_run_and_then_that_nothing_is(year: Database) -> None:
    before = diagnose(year, scope())
    assert (str(before.month), before.running, before.reset) == ("2026-03", True, 2)
    assert [step.partition("`")[2].split()[2] for step in before.to_do] == [
        "monthly_credits_reset",
        "credit_expiry`:",
    ]
    assert "1 of 9" not in before.verdict and "nothing is wrong" in before.verdict
    reset(year)
    expire(year)
    after = diagnose(year, scope())
    assert after.to_do == ()
    assert after.reset >= after.verified
    assert after.credits.expired == 0


def test_its_numbers_are_those_of_the_tables(year: Database) -> None:
    found = diagnose(year, scope())
    sums = "SELECT sum(free_credits), sum(paid_credits) FROM credit_balances"
    assert [(found.credits.free, found.credits.paid)] == rows(year, sums)
    expiring = (
        "SELECT sum(remaining_amount) FROM credit_transactions WHERE credit_type = 'paid'"
        f" AND expires_at > '{NOW}' AND expires_at <= TIMESTAMPTZ '{NOW}' + INTERVAL '7 days'"
    )
    assert [(found.credits.expiring,)] == rows(year, expiring)


def test_a_past_month_is_looked_at_and_not_to_be_run(year: Database) -> None:
    found = diagnose(year, scope("2025-10"))
    assert not found.running
    assert not any("monthly_credits_reset" in step for step in found.to_do)
    assert {one.type for one in found.booked} >= {"spend", "purchase"}


def test_a_month_that_has_not_begun_is_refused(year: Database) -> None:
    with pytest.raises(BadInput, match="2026-04 is in the future"):
        diagnose(year, scope("2026-04"))


def test_it_is_told_to_people_and_to_programs_without_an_address(year: Database) -> None:
    write(year, "UPDATE credit_balances SET lifetime_spent = -1 WHERE free_credits = 30")
    found = diagnose(year, scope())
    assert found.verdict.startswith("Wrong")
    assert "# Credits in 2026-03" in found.markdown()
    assert "nothing_negative" in found.markdown()
    spelled = json.dumps(found.json())
    assert '"valid": false' in spelled
    assert "@" not in spelled + found.markdown()
