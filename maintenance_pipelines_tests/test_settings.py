"""What the environment and `.env` may say, and how a bad value is refused."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg
import pytest
import yaml
from pydantic import BaseModel

from maintenance_pipelines.engine.database import Limits
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured
from maintenance_pipelines.settings import PROJECT, Settings


class _Options(BaseModel):
    fixed_cycles: Literal["yearly-window", "quarterly-repeating"] = "yearly-window"
    include_created_after_cycle: bool = False


@dataclass(frozen=True)
class _Declared:
    """As much of a job as settings look at."""

    system: str
    options: type[BaseModel]


@pytest.fixture
def job() -> _Declared:
    return _Declared("benefits", _Options)


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / ".env"
    monkeypatch.setenv("MAINTENANCE_ENV_FILE", str(file))
    return file


def test_without_any_variable_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINTENANCE_HOME")
    settings = Settings.load()
    assert settings.home == PROJECT / ".maintenance"
    assert settings.limits == Limits()
    assert (settings.plan_hours, settings.retention_days) == (24, 90)
    assert settings.operator


def test_a_missing_url_is_refused_with_the_name_of_its_variable() -> None:
    with pytest.raises(Misconfigured, match="BENEFITS_DATABASE_URL is not set"):
        Settings.load().url("benefits")


def test_a_url_is_read_from_the_env_file(env_file: Path) -> None:
    env_file.write_text("BENEFITS_DATABASE_URL='postgresql://u:p#1@host/db'\n")
    assert Settings.load().url("benefits") == "postgresql://u:p#1@host/db"


def test_the_environment_wins_over_the_env_file(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("BENEFITS_DATABASE_URL=embedded:file\nMAINTENANCE_PLAN_HOURS=5\n")
    monkeypatch.setenv("BENEFITS_DATABASE_URL", "embedded:environment")
    monkeypatch.setenv("MAINTENANCE_PLAN_HOURS", "6")
    assert Settings.load().url("benefits") == "embedded:environment"
    assert Settings.load().plan_hours == 6


def test_an_empty_variable_counts_as_absent(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("BENEFITS_DATABASE_URL=embedded:file\n")
    monkeypatch.setenv("BENEFITS_DATABASE_URL", "")
    monkeypatch.setenv("MAINTENANCE_PLAN_HOURS", "")
    assert Settings.load().url("benefits") == "embedded:file"
    assert Settings.load().plan_hours == 24


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAINTENANCE_PLAN_HOURS", "soon"),
        ("MAINTENANCE_BATCH_ROWS", "-70"),
        ("MAINTENANCE_WORK_MEM", "1GB; DROP TABLE x"),
        ("MAINTENANCE_POSTGRES_VERSION", "17"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable_and_not_echoed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Misconfigured) as refusal:
        Settings.load()
    assert str(refusal.value).startswith(f"{variable} should ")
    assert value not in str(refusal.value).removeprefix(variable)


def test_secrets_are_in_no_representation_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENEFITS_DATABASE_URL", "postgresql://u:hunter2@host/db")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://u:hunter2@host/db")
    settings = Settings.load()
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_options_are_read_from_variables_with_the_system_before_their_name(
    monkeypatch: pytest.MonkeyPatch, job: _Declared
) -> None:
    assert Settings.load().options(job) == _Options()
    monkeypatch.setenv("BENEFITS_FIXED_CYCLES", "quarterly-repeating")
    monkeypatch.setenv("BENEFITS_INCLUDE_CREATED_AFTER_CYCLE", "true")
    assert Settings.load().options(job) == _Options(
        fixed_cycles="quarterly-repeating", include_created_after_cycle=True
    )


def test_an_unknown_option_value_is_refused_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, job: _Declared
) -> None:
    monkeypatch.setenv("BENEFITS_FIXED_CYCLES", "weekly")
    with pytest.raises(Misconfigured) as refusal:
        Settings.load().options(job)
    assert str(refusal.value) == (
        "BENEFITS_FIXED_CYCLES should be 'yearly-window' or 'quarterly-repeating'."
    )


def test_a_number_of_rows_for_approval_is_optional_and_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().approval_above("benefits") is None
    monkeypatch.setenv("BENEFITS_APPROVAL_ABOVE", "0")
    assert Settings.load().approval_above("benefits") == 0
    monkeypatch.setenv("BENEFITS_APPROVAL_ABOVE", "-1")
    with pytest.raises(Misconfigured, match="BENEFITS_APPROVAL_ABOVE"):
        Settings.load().approval_above("benefits")


def test_allowed_triggers_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().allowed_triggers("benefits") == frozenset()
    monkeypatch.setenv("BENEFITS_ALLOWED_TRIGGERS", "audit, Stamp,,")
    assert Settings.load().allowed_triggers("benefits") == {"audit", "Stamp"}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_dagster_gets_an_address_that_says_psycopg2(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"{scheme}://u:p%40@host:5433/db?schema=public")
    given = Settings.load().dagster_environment()["DAGSTER_POSTGRES_URL"]
    assert given == "postgresql+psycopg2://u:p%40@host:5433/db"


def test_a_malformed_address_of_dagster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "mysql://hunter2@host/db")
    with pytest.raises(BadInput, match="DAGSTER_POSTGRES_URL") as refusal:
        Settings.load().dagster_environment()
    assert "hunter2" not in str(refusal.value)


def test_a_relative_home_is_meant_from_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINTENANCE_HOME", "somewhere")
    assert Settings.load().home == PROJECT / "somewhere"


def test_pyproject_and_workspace_name_the_same_code_location() -> None:
    chosen = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dagster"]
    [entry] = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"] == {
        "module_name": chosen["module_name"],
        "location_name": chosen["code_location_name"],
    }


def test_dagster_keeps_its_history_in_postgresql_and_its_files_out_of_the_project(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    before = set(PROJECT.iterdir())
    for name, value in Settings.load().dagster_environment().items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
        assert instance.event_log_storage.supports_global_concurrency_limits
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
        assert str(home) in instance.storage_directory()
    assert os.environ["DAGSTER_HOME"] == str(PROJECT)
    assert set(PROJECT.iterdir()) == before


def test_every_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINTENANCE_WORKERS", "1")
    monkeypatch.setenv("MAINTENANCE_LOCK_PATIENCE", "7")
    limits = Settings.load().limits
    assert (limits.workers, limits.lock_patience) == (1, 7)
