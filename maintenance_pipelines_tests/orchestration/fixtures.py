"""Fixtures for the tests of orchestration, of the commands and of everything together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maintenance_pipelines.cli import execute
from maintenance_pipelines_tests.orchestration.household import App, Said, copy, make_template
from maintenance_pipelines_tests.support.clusters import Cluster, database

Terminal = Callable[..., Said]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def benefits_template(server: Cluster, worker_id: str) -> str:
    """The name of a database with the demo data."""
    return make_template(server, f"template_{worker_id}")


@pytest.fixture(scope="session")
def dagster_url(server: Cluster, worker_id: str) -> Iterator[str]:
    """Dagster's storage, shared by the tests of a process."""
    with database(server, f"dagster_{worker_id}") as name:
        yield server.url(name)


@pytest.fixture
def app(server: Cluster, benefits_template: str, worker_id: str) -> Iterator[App]:
    """The benefits app's database with the demo data, fresh."""
    name = f"app_{worker_id}_{next(_numbers)}"
    yield App(copy(server, benefits_template, name))
    server.drop(name)


@pytest.fixture
def settings(
    app: App, dagster_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The settings of the test's environment, already in force."""
    chosen = {
        "BENEFITS_DATABASE_URL": app.url,
        "DAGSTER_POSTGRES_URL": dagster_url,
        "MAINTENANCE_HOME": str(tmp_path),
        "MAINTENANCE_OPERATOR": "ada",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    return chosen


@pytest.fixture
def terminal(settings: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Types a command in this process; returns what it said."""
    return typing(capsys)


def typing(capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal whose environment is the test's."""

    def type_(*arguments: str) -> Said:
        capsys.readouterr()
        code = execute(arguments)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return type_
