"""view: what people look at, of everything or of one member or creator."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals import demo
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import Said
from maintenance_pipelines_tests.systems.referrals.loading import write
from maintenance_pipelines_tests.systems.referrals.test_archives import (
    AUDITED,
    archive,
    first,
    session,
)

AS_OF = ("--as-of", demo.NOW.isoformat())


@pytest.fixture
def referrals(stale: Database, app_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The demo's members with two months archived, where the settings find them."""
    monkeypatch.setenv("REFERRALS_DATABASE_URL", app_url)
    archive(stale)
    write(stale, AUDITED)
    return stale


def assert_refused(said: Said, *words: str) -> None:
    assert (said.code, said.out) == (2, "")
    assert all(word in said.err for word in words)


def id_of(database: Database, table: str) -> str:
    with session(database) as connection:
        return first(connection, table)


def test_a_months_archive_by_community(terminal: Terminal, referrals: Database) -> None:
    said = terminal("view", "referrals", "monthly_archive", "--month", "2025-09", *AS_OF)
    assert said.code == 0, said.err
    assert "Archive of 2025-09" in said.out
    assert "1,234.5" in said.out or "1234.5" in said.out


@pytest.mark.parametrize("table", ["Member", "Creator"])
def test_the_archived_months_of_one(terminal: Terminal, referrals: Database, table: str) -> None:
    one = id_of(referrals, table)
    said = terminal("view", "referrals", "monthly_archive", "--subject", one, *AS_OF)
    assert said.code == 0, said.err
    assert "2025-08" in said.out and "2025-09" in said.out
    assert ("revenue" in said.out) == (table == "Creator")


def test_the_changes_of_one(terminal: Terminal, referrals: Database) -> None:
    one = id_of(referrals, "Member")
    said = terminal("view", "referrals", "audit_trail", "--subject", one, *AS_OF)
    assert said.code == 0, said.err
    assert said.out.count("monthlyReferred") == 4


def test_an_id_that_nobody_has_is_refused(terminal: Terminal, referrals: Database) -> None:
    said = terminal("view", "referrals", "audit_trail", "--subject", "nobody", *AS_OF)
    assert_refused(said, "No member and no creator has that id")


def test_a_view_that_knows_no_subjects_is_refused_one(
    terminal: Terminal, referrals: Database
) -> None:
    one = id_of(referrals, "Member")
    said = terminal("view", "referrals", "top_referrers", "--subject", one, *AS_OF)
    assert_refused(said, "top_referrers")


def test_an_unknown_view_is_refused_with_those_there_are(terminal: Terminal) -> None:
    assert_refused(terminal("view", "referrals", "everything"), "everything", "audit_trail")
