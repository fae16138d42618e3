"""approve, rollback, pause, cancel."""

from __future__ import annotations

import pytest

from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import JOB, MONTH, App

RUN = ("run", JOB, "--partition", MONTH, "--json")


@pytest.fixture
def approval(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of more than ten rows need a second person."""
    monkeypatch.setenv("BENEFITS_APPROVAL_ABOVE", "10")


@pytest.mark.usefixtures("approval")
def test_a_run_stops_at_planned_where_approval_is_due(terminal: Terminal, app: App) -> None:
    before = app.statuses()
    said = terminal(*RUN)
    assert (said.code, said.json["state"], said.json["approval_due"]) == (1, "planned", True)
    assert "approve" in said.json["error"]
    assert app.statuses() == before


@pytest.mark.long
@pytest.mark.usefixtures("approval")
def test_who_planned_may_not_approve(terminal: Terminal) -> None:
    run = terminal("plan", *RUN[1:]).json["run_id"]
    said = terminal("approve", run, "--json")
    assert said.code == 1
    assert "ada" in said.json["error"]


@pytest.mark.usefixtures("approval")
def test_an_approved_plan_is_applied(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    run = terminal("plan", *RUN[1:]).json["run_id"]
    monkeypatch.setenv("MAINTENANCE_OPERATOR", "grace")
    approved = terminal("approve", run[:8], "--json")
    assert (approved.code, approved.json["approved_by"]) == (0, "grace")
    monkeypatch.setenv("MAINTENANCE_OPERATOR", "ada")
    assert terminal("apply", run, "--json").json["state"] == "verified"


def test_a_rollback_is_planned_before_it_takes_anything_back(terminal: Terminal, app: App) -> None:
    before = app.statuses()
    done = terminal(*RUN).json
    filled = app.statuses()

    shown = terminal("rollback", done["run_id"], "--plan", "--json")
    assert (shown.code, shown.json["state"], shown.json["planned"]) == (
        0,
        "planned",
        done["planned"],
    )
    assert app.statuses() == filled

    said = terminal("rollback", done["run_id"][:8], "--json")
    assert (said.code, said.json["run_id"], said.json["state"]) == (
        0,
        done["run_id"],
        "rolled_back",
    )
    assert app.statuses() == before


@pytest.mark.long
def test_what_is_rolled_back_cannot_be_rolled_back_again(terminal: Terminal) -> None:
    run = terminal(*RUN).json["run_id"]
    terminal("rollback", run)
    said = terminal("rollback", run)
    assert said.code == 1
    assert said.sentence == f"Run {run} has already been rolled back."


def test_a_rollback_lists_the_rows_that_somebody_has_touched(terminal: Terminal, app: App) -> None:
    rows, _ = app.statuses()
    done = terminal(*RUN).json
    app.sql(
        'UPDATE "BenefitStatus" SET "isCompleted" = true WHERE id ='
        f' (SELECT "new_id" FROM maintenance.plan_{done["run_id"]} ORDER BY position LIMIT 1)'
    )
    said = terminal("rollback", done["run_id"])
    assert said.code == 0
    assert "left alone" in said.out
    assert app.statuses()[0] == rows + 1


@pytest.mark.long
def test_a_planned_run_can_be_cancelled_and_then_not_applied(terminal: Terminal) -> None:
    run = terminal("plan", *RUN[1:]).json["run_id"]
    said = terminal("cancel", run, "--json")
    assert (said.code, said.json["state"]) == (0, "cancelled")
    assert terminal("apply", run).code == 1
    assert terminal("resume", run).code == 1


def test_a_run_that_is_not_under_way_cannot_be_paused(terminal: Terminal) -> None:
    run = terminal("plan", *RUN[1:]).json["run_id"]
    said = terminal("pause", run, "--json")
    assert said.code == 1
    assert "planned" in said.json["error"]


@pytest.mark.long
def test_a_rollback_of_rows_has_nothing_to_force(terminal: Terminal, app: App) -> None:
    run = terminal(*RUN).json["run_id"]
    filled = app.statuses()
    said = terminal("rollback", run, "--force", "--json")
    assert said.code == 2
    assert "nothing to force" in said.json["error"]
    assert app.statuses() == filled
