"""plan, run, apply, verify, resume: what they change, what they say, how they end."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import (
    JOB,
    MONTH,
    App,
    Said,
    command,
    environment,
    wait_for_batches,
)

KEYS = {
    "run_id", "job", "partition", "state", "digest", "rehearsed", "as_of",
    "planned", "applied", "skipped", "conflicts", "failed", "excluded",
    "appeared_since", "touched_since", "checks", "seconds",
    "planned_by", "approval_due", "approved_by", "held", "error",
}  # fmt: skip
"""What `--json` promises of every run; a refusal adds `exit_code` and is told in `error`."""

CHECKS = {
    "plan_within_expected_scope", "every_planned_row_accounted_for", "nothing_left_missing",
    "no_duplicate", "no_overlapping_cycle", "existing_rows_untouched", "new_rows_as_specified",
}  # fmt: skip


def plant(app: App) -> int:
    """A constraint that refuses the statuses of one user of the plan; returns how many."""
    user, rows = app.sql(
        f'SELECT "new_userId", count(*) FROM maintenance.plan_{newest(app)}'
        " GROUP BY 1 ORDER BY 2 DESC, 1"
    )[0]
    app.sql(
        'ALTER TABLE "BenefitStatus" ADD CONSTRAINT planted '
        f"CHECK (\"userId\" <> '{user}' OR \"createdAt\" < '2025-12-01') NOT VALID"
    )
    return int(rows)


def newest(app: App) -> str:
    return str(app.sql("SELECT id FROM maintenance.run ORDER BY created_at DESC")[0][0])


def test_a_plan_shows_what_is_missing_and_leaves_the_app_alone(
    terminal: Terminal, app: App
) -> None:
    before = app.statuses()
    said = terminal("plan", JOB, "--partition", MONTH, "--json")
    assert (said.code, said.json["state"]) == (0, "planned")
    assert said.json["planned"] > 100
    assert said.json["excluded"]["already_present"] > 100
    assert app.statuses() == before


def test_a_run_fills_the_month_and_proves_it(terminal: Terminal, app: App) -> None:
    rows, _ = app.statuses()
    said = terminal("run", JOB, "--partition", MONTH, "--json")
    assert (said.code, said.json["state"]) == (0, "verified")
    assert app.statuses()[0] == rows + said.json["planned"]
    assert said.json["applied"] == said.json["planned"]
    assert set(said.json) == KEYS
    assert said.json["checks"] == dict.fromkeys(CHECKS, True)


def test_a_second_run_finds_nothing_to_do(terminal: Terminal, app: App) -> None:
    terminal("run", JOB, "--partition", MONTH)
    before = app.statuses()
    said = terminal("run", JOB, "--partition", MONTH, "--json")
    assert (said.code, said.json["state"], said.json["planned"]) == (0, "verified", 0)
    assert app.statuses() == before


@pytest.mark.long
def test_log_lines_name_the_job_and_end_with_the_result(terminal: Terminal) -> None:
    lines = terminal("run", JOB, "--partition", MONTH).err.splitlines()
    assert lines[0] == f"[benefit-status-backfill] Planning {MONTH}"
    assert lines[-1].startswith('[benefit-status-backfill] Result: {"run_id": ')


@pytest.mark.long
def test_people_are_told_the_next_command(terminal: Terminal) -> None:
    said = terminal("plan", JOB, "--partition", MONTH)
    assert "Next: ./maintenance apply " in said.out
    assert "# benefit_status_backfill 2025-08: plan" in said.out


def test_what_was_planned_is_what_apply_applies(terminal: Terminal, app: App) -> None:
    planned = terminal("plan", JOB, "--partition", MONTH, "--json").json
    said = terminal("apply", planned["run_id"][:6], "--digest", planned["digest"], "--json")
    assert (said.code, said.json["state"]) == (0, "verified")
    assert (said.json["run_id"], said.json["applied"]) == (planned["run_id"], planned["planned"])


def test_a_wrong_digest_is_refused(terminal: Terminal, app: App) -> None:
    planned = terminal("plan", JOB, "--partition", MONTH, "--json").json
    before = app.statuses()
    said = terminal("apply", planned["run_id"], "--digest", "0" * 64, "--json")
    assert (said.code, said.json["exit_code"], said.json["state"]) == (1, 1, "planned")
    assert "digest" in said.json["error"]
    assert app.statuses() == before


@pytest.mark.long
def test_a_plan_that_was_superseded_is_refused(terminal: Terminal, app: App) -> None:
    older = terminal("plan", JOB, "--partition", MONTH, "--json").json
    terminal("plan", JOB, "--partition", MONTH)
    said = terminal("apply", older["run_id"], "--json")
    assert said.code == 1
    assert "stale" in said.json["error"]


@pytest.mark.long
def test_what_is_verified_cannot_be_applied_again(terminal: Terminal) -> None:
    done = terminal("run", JOB, "--partition", MONTH, "--json").json
    said = terminal("apply", done["run_id"])
    assert said.code == 1
    assert said.sentence == f"Run {done['run_id']} is verified; there is nothing to apply."


@pytest.mark.long
def test_verify_proves_the_newest_run_once_more(terminal: Terminal) -> None:
    done = terminal("run", JOB, "--partition", MONTH, "--json").json
    said = terminal("verify", JOB, "--partition", MONTH, "--json")
    assert (said.code, said.json["run_id"], said.json["state"]) == (0, done["run_id"], "verified")


@pytest.mark.long
def test_verify_without_anything_applied_is_refused(terminal: Terminal) -> None:
    said = terminal("verify", JOB, "--partition", MONTH, "--json")
    assert said.code == 1
    assert "nothing to verify" in said.json["error"]


@pytest.mark.parametrize("bounds", ["1..10", "100000.."])
def test_a_plan_outside_the_expected_rows_is_not_applied(
    terminal: Terminal, app: App, bounds: str
) -> None:
    before = app.statuses()
    said = terminal("run", JOB, "--partition", MONTH, "--expected-rows", bounds, "--json")
    assert (said.code, said.json["state"]) == (1, "planned")
    assert "rows are planned; expected were" in said.json["error"]
    assert app.statuses() == before


def test_a_rehearsal_finds_what_would_fail_and_writes_nothing(terminal: Terminal, app: App) -> None:
    terminal("plan", JOB, "--partition", MONTH)
    rows = plant(app)
    before = app.statuses()
    said = terminal("run", JOB, "--partition", MONTH, "--rehearse", "--json")
    assert (said.code, said.json["rehearsed"], said.json["failed"]) == (1, True, rows)
    assert said.json["state"] == "planned"
    assert app.statuses() == before


@pytest.mark.long
def test_a_rehearsal_without_failures_ends_well(terminal: Terminal, app: App) -> None:
    before = app.statuses()
    said = terminal("run", JOB, "--partition", MONTH, "--rehearse", "--json")
    assert (said.code, said.json["rehearsed"], said.json["failed"]) == (0, True, 0)
    assert app.statuses() == before


def test_rows_that_the_database_refuses_make_the_run_partial_and_resume_finishes_it(
    terminal: Terminal, app: App
) -> None:
    planned = terminal("plan", JOB, "--partition", MONTH, "--json").json
    rows = plant(app)
    said = terminal("apply", planned["run_id"], "--json")
    assert (said.code, said.json["state"], said.json["failed"]) == (1, "partial", rows)
    assert said.json["applied"] == planned["planned"] - rows
    shown = terminal("runs", planned["run_id"], "--json").json
    assert "planted" in shown["failures"][0]["error"]

    app.sql('ALTER TABLE "BenefitStatus" DROP CONSTRAINT planted')
    said = terminal("resume", planned["run_id"], "--json")
    assert (said.code, said.json["state"]) == (0, "verified")
    assert (said.json["applied"], said.json["failed"]) == (planned["planned"], 0)


def test_every_month_is_run_and_one_that_is_refused_does_not_stop_the_others(
    terminal: Terminal, app: App
) -> None:
    everything = ("run", JOB, "--partition", "all", "--as-of", "2025-09-15T12:00:00Z")
    said = terminal(*everything, "--expected-rows", "1..", "--json")
    found = {run["partition"]: run for run in said.json["runs"]}
    assert said.code == 1
    assert found[MONTH]["state"] == "verified"
    empty = [run for run in found.values() if run["planned"] == 0]
    assert empty and all(run["exit_code"] == 1 for run in empty)
    assert list(found) == [f"2025-0{month}" for month in range(1, 10)]


def test_a_person_is_shown_and_never_named(terminal: Terminal, app: App, dagster_url: str) -> None:
    email, user = app.sql('SELECT email, id FROM "User" ORDER BY id')[0]
    said = terminal("plan", JOB, "--partition", MONTH, "--user", email)
    assert "The person asked for, before" in said.out
    assert email not in said.out + said.err
    stored = App(dagster_url).sql(
        f"SELECT count(*) FROM runs WHERE run_body LIKE '%{email}%' OR run_body LIKE '%{user}%'"
    )
    assert stored == [(0,)]


@pytest.mark.long
def test_a_month_that_is_being_applied_is_left_to_who_applies_it(
    terminal: Terminal, app: App
) -> None:
    planned = terminal("plan", JOB, "--partition", MONTH, "--json").json
    app.sql(
        "UPDATE maintenance.run SET state = 'applying', heartbeat_at = clock_timestamp(),"
        " owner = 'another-host|1|1|aa'"
    )
    before = app.statuses()
    said = terminal("run", JOB, "--partition", MONTH, "--json")
    assert said.code == 1
    assert planned["run_id"] in said.json["error"]
    assert app.statuses() == before


@pytest.mark.long
def test_of_two_runs_at_once_one_applies_and_nothing_is_doubled(
    settings: dict[str, str], app: App, terminal: Terminal
) -> None:
    terminal("runs")
    rows, _ = app.statuses()
    slow = environment({**settings, "MAINTENANCE_BATCH_ROWS": "1", "MAINTENANCE_GRANULE_ROWS": "1"})
    both = [
        subprocess.Popen(
            command("run", JOB, "--partition", MONTH, "--json"),
            env=slow,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [(p.communicate(timeout=120), p.returncode) for p in both]
    said = [Said(code, out, err) for (out, err), code in ended]
    codes = sorted(each.code for each in said)
    assert codes in ([0, 1], [0, 0]), [each.err for each in said]
    applied = [each.json.get("applied", 0) for each in said if each.code == 0]
    assert app.statuses()[0] == rows + max(applied)
    refused = [each for each in said if each.code == 1]
    assert all("appl" in each.json["error"] or "stale" in each.json["error"] for each in refused)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_an_interrupted_run_is_paused_and_resume_finishes_it(
    settings: dict[str, str], app: App, terminal: Terminal, number: signal.Signals
) -> None:
    rows, _ = app.statuses()
    slow = {"MAINTENANCE_BATCH_ROWS": "1", "MAINTENANCE_GRANULE_ROWS": "1"}
    process = subprocess.Popen(
        command("run", JOB, "--partition", MONTH),
        env=environment({**settings, **slow}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_batches(app, 20)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    run = newest(app)
    assert process.returncode == 1
    assert err.strip().splitlines()[-1] == (
        f"Interrupted. Run {run} is paused; `./maintenance resume {run}` goes on with it."
    )
    assert f"Next: ./maintenance resume {run[:8]}" in out

    said = terminal("resume", run, "--json")
    assert (said.code, said.json["state"]) == (0, "verified")
    assert app.statuses()[0] == rows + said.json["planned"]
