"""check: the rules of a system on its database, and the diagnosis of a month."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals import demo
from maintenance_pipelines.systems.referrals.rules import RULES
from maintenance_pipelines_tests.commands.test_refusals import assert_refused
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.systems.referrals.loading import write

CHECK = ("check", "referrals", "--as-of", demo.NOW.isoformat())
ONE_TOO_MANY = """
UPDATE "Member" SET "monthlyReferred" = "monthlyReferred" + 1
 WHERE id = (SELECT min(id) FROM "Member")
"""
ONE_REFUND = """
INSERT INTO "Refund" (id, "commissionId", "refundAmount", "memberShareReversed",
    "creatorShareReversed", "platformShareReversed", "createdAt")
SELECT 'r', id, "saleAmount", 5, 0, 0, '2025-10-20'
  FROM "Commission" WHERE "memberShare" > 0 ORDER BY id LIMIT 1
"""


@pytest.fixture
def referrals(healthy: Database, app_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The demo's members with right counters, where the settings find them."""
    monkeypatch.setenv("REFERRALS_DATABASE_URL", app_url)
    return healthy


def test_consistent_data_is_valid(terminal: Terminal, referrals: Database) -> None:
    said = terminal(*CHECK, "--json")
    assert said.code == 0, said.err
    assert set(said.json) == {"valid", "errors", "warnings", "checks", "executionTime"}
    assert said.json["valid"] is True
    assert [one["name"] for one in said.json["checks"]] == [rule.name for rule in RULES]


def test_one_wrong_row_is_invalid_and_named(terminal: Terminal, referrals: Database) -> None:
    write(referrals, ONE_TOO_MANY)
    said = terminal(*CHECK, "--json")
    assert said.code == 1
    assert said.json["valid"] is False
    assert said.json["errors"][0].startswith("monthly_sum_equals_referrals: 1 offenders, first ")
    for_people = terminal(*CHECK)
    assert for_people.code == 1
    assert said.json["checks"][0]["offenders"][0]["id"] in for_people.out
    assert "The data is NOT valid." in for_people.out


def test_a_month_is_diagnosed(terminal: Terminal, referrals: Database) -> None:
    running = terminal(*CHECK, "--month", "2025-10", "--json")
    assert running.code == 0, running.err
    assert (running.json["month"], running.json["sumIsRight"]) == ("2025-10", True)
    write(referrals, ONE_TOO_MANY)
    assert terminal(*CHECK, "--month", "2025-10", "--json").code == 1
    for_people = terminal(*CHECK, "--month", "2025-10")
    assert for_people.code == 1
    assert for_people.out.startswith("# Referrals in 2025-10")


def test_refunds_are_left_out_where_the_settings_say_so(
    terminal: Terminal, referrals: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(referrals, ONE_REFUND)
    said = terminal(*CHECK, "--json")
    assert said.code == 0, "a warning leaves data valid"
    assert any(text.startswith("earnings_equal_records") for text in said.json["warnings"])
    monkeypatch.setenv("REFERRALS_IGNORE_REFUNDS", "true")
    assert terminal(*CHECK, "--json").json["warnings"] == []
    monkeypatch.setenv("REFERRALS_IGNORE_REFUNDS", "perhaps")
    assert_refused(terminal(*CHECK, "--json"), 2, "REFERRALS_IGNORE_REFUNDS")


@pytest.mark.parametrize(
    ("month", "words"),
    [("2025-11", ("2025-11", "future")), ("10/2025", ("10/2025", "YYYY-MM"))],
)
def test_a_month_in_the_future_or_malformed_is_refused(
    terminal: Terminal, referrals: Database, month: str, words: tuple[str, ...]
) -> None:
    assert_refused(terminal(*CHECK, "--month", month, "--json"), 2, *words)


@pytest.mark.parametrize("system", ["nothing", "benefits"])
def test_a_system_without_rules_is_refused_with_those_that_have_them(
    terminal: Terminal, system: str
) -> None:
    assert_refused(terminal("check", system, "--json"), 2, system, "referrals")


def test_a_missing_url_is_refused_by_its_variable(terminal: Terminal) -> None:
    assert_refused(terminal(*CHECK, "--json"), 2, "REFERRALS_DATABASE_URL")


def test_a_server_that_is_down_ends_with_3(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFERRALS_DATABASE_URL", "postgresql://ada:secret@127.0.0.1:1/app")
    said = terminal(*CHECK, "--json")
    assert_refused(said, 3, "reached")
    assert "secret" not in said.out + said.err
