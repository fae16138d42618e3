"""demo and up: what they set up by themselves, and what they refuse."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import App


@pytest.mark.long
def test_the_demo_starts_from_clean_data_each_time_and_touches_nothing_else(
    terminal: Terminal, app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = app.statuses()
    monkeypatch.setenv("BENEFITS_APPROVAL_ABOVE", "1")
    home = tmp_path / "demo data"
    first, second = (terminal("demo", "--data", str(home), "--json").json for _ in range(2))
    assert first["state"] == second["state"] == "verified"
    assert first["planned"] == second["planned"] > 100
    assert app.statuses() == before
    assert app.tables() == set()

    monkeypatch.delenv("BENEFITS_APPROVAL_ABOVE")
    monkeypatch.setenv("MAINTENANCE_HOME", str(home))
    monkeypatch.setenv("BENEFITS_DATABASE_URL", "embedded:benefits_demo")
    (run,) = terminal("runs", "--json").json["runs"]
    assert run["run_id"] == second["run_id"]
    assert terminal("rollback", run["run_id"], "--json").json["state"] == "rolled_back"


def test_the_demo_shows_both_reports_and_what_to_type_next(
    terminal: Terminal, tmp_path: Path
) -> None:
    said = terminal("demo", "--data", str(tmp_path / "demo"))
    assert said.code == 0
    assert "# benefit_status_backfill 2025-08: plan" in said.out
    assert "# benefit_status_backfill 2025-08: verified" in said.out
    assert "BENEFITS_DATABASE_URL=embedded:benefits_demo ./maintenance rollback " in said.out


def test_a_port_that_is_in_use_is_refused(terminal: Terminal) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = terminal("up", "--port", str(port))
    assert said.code == 2
    assert said.sentence == f"Port {port} is in use; give another one with --port."
