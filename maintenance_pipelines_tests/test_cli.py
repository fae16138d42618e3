"""The command line as a process: what it costs to start, what it says, where it says it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from maintenance_pipelines.cli import app
from maintenance_pipelines_tests.orchestration.household import command, environment

VERBS = {
    "demo", "up", "test", "jobs", "doctor", "check", "install", "grants", "plan", "apply", "run",
    "verify", "approve", "rollback", "restore", "pause", "resume", "cancel", "runs", "prune",
    "alerts", "watch", "health", "send", "view", "export",
}  # fmt: skip


def type_(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment({}), capture_output=True, text=True, timeout=60
    )


def test_the_help_lists_every_verb_and_the_exit_codes() -> None:
    said = type_("--help")
    assert said.returncode == 0
    assert all(verb in said.stdout for verb in VERBS)
    assert {info.name or info.callback.__name__ for info in app.registered_commands} == VERBS  # type: ignore[union-attr]
    assert "3 database unreachable" in said.stdout


def test_a_bad_command_line_ends_with_2_and_one_sentence() -> None:
    said = type_("run")
    assert said.returncode == 2
    assert said.stdout == ""
    assert len(said.stderr.strip().splitlines()) == 1


def test_json_is_alone_on_standard_output() -> None:
    said = type_("run", "nothing", "--json")
    assert said.returncode == 2
    assert json.loads(said.stdout)["exit_code"] == 2
    assert "nothing" in said.stderr


@pytest.mark.parametrize("module", ["dagster", "pandas"])
def test_verbs_that_need_no_dagster_do_not_wait_for_its_import(module: str) -> None:
    script = f"import sys, maintenance_pipelines.cli; sys.exit('{module}' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=environment({}), timeout=60)
    assert done.returncode == 0
