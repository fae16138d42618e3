"""jobs, runs, grants, doctor, install, prune."""

from __future__ import annotations

import pytest

from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import JOB, MONTH, App


def test_jobs_are_listed_with_their_partitions_schedules_and_kinds(terminal: Terminal) -> None:
    (job,) = [each for each in terminal("jobs", "--json").json["jobs"] if each["job"] == JOB]
    assert job["system"] == "benefits"
    assert job["partitions"] == "months since 2025-01"
    assert job["change"] == "insert missing"
    assert job["schedule"]
    assert JOB in terminal("jobs").out


def test_runs_are_listed_newest_first_rollbacks_included(terminal: Terminal) -> None:
    assert terminal("runs", "--json").json == {"runs": []}
    run = terminal("run", JOB, "--partition", MONTH, "--json").json["run_id"]
    terminal("rollback", run)
    undone, done = terminal("runs", "--json").json["runs"]
    assert (done["run_id"], done["state"]) == (run, "rolled_back")
    assert (undone["reverts"], undone["run_id"]) == (run, run)
    assert f"rollback of {run[:8]}" in terminal("runs").out


def test_one_run_is_shown_in_full_by_the_beginning_of_its_id(terminal: Terminal) -> None:
    run = terminal("plan", JOB, "--partition", MONTH, "--json").json
    shown = terminal("runs", run["run_id"][:5], "--json").json
    assert run.items() <= shown.items()
    assert shown["failures"] == []
    assert "already_present" in terminal("runs", run["run_id"]).out


def test_doctor_finds_a_database_fit_and_writes_nothing(terminal: Terminal, app: App) -> None:
    said = terminal("doctor", "--json")
    assert said.code == 0
    assert all(finding["ok"] for finding in said.json["findings"])
    assert app.tables() == set()


def test_grants_are_printed_for_the_role_that_is_named(terminal: Terminal) -> None:
    said = terminal("grants", JOB, "--role", "keeper")
    assert said.code == 0
    assert 'TO "keeper"' in said.out
    assert "DELETE" not in said.out.split("maintenance")[0]
    assert "DELETE" in terminal("grants", JOB, "--undo").out


def test_grants_need_no_database(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENEFITS_DATABASE_URL")
    assert "GRANT" in terminal("grants", JOB, "--json").json["sql"]


def test_install_makes_the_ledger_ahead_of_time(terminal: Terminal, app: App) -> None:
    said = terminal("install", "benefits", "--json")
    assert (said.code, said.json["system"]) == (0, "benefits")
    assert "run" in app.tables()


def test_a_pruned_run_stays_known_and_cannot_be_taken_back(terminal: Terminal, app: App) -> None:
    run = terminal("run", JOB, "--partition", MONTH, "--json").json["run_id"]
    assert terminal("prune", "--json").json["pruned"] == {"benefits": []}
    assert terminal("prune", "--days", "0", "--json").json["pruned"] == {"benefits": [run]}
    assert terminal("runs", run, "--json").json["state"] == "verified"
    said = terminal("rollback", run)
    assert said.code == 1
    assert "pruned" in said.sentence
