"""Fixtures for every test: a real PostgreSQL, fresh databases on it, and a clean environment.

`--postgres` (or MAINTENANCE_TEST_POSTGRES) chooses the server: 18 (default), 16, a folder of
PostgreSQL programs, or the URL of a superuser on a server that runs already.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines_tests.support.clusters import (
    Cluster,
    ThrowawayCluster,
    cluster,
    database,
    throwaway,
)
from maintenance_pipelines_tests.support.pooler import PROGRAMS, Pooler, pooler
from maintenance_pipelines_tests.support.templates import Templates

VARIABLE = "TEST_DATABASE_URL"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    parser.addoption(
        "--postgres",
        default=os.environ.get("MAINTENANCE_TEST_POSTGRES", "18"),
        help="16, 18, a folder of PostgreSQL programs, or a superuser's URL",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="runs with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A MAINTENANCE_HOME of this test process, with an embedded server where a test uses one."""
    folder = Path(tempfile.mkdtemp(prefix="maintenance-test-home-"))
    yield folder
    for version in embedded.VERSIONS:
        embedded.server(folder, version).release()
    shutil.rmtree(folder, ignore_errors=True)


OF_SYSTEMS = ("BENEFITS_", "CASHBACK_", "CREDITS_", "MONETIZATION_", "REFERRALS_")


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """What a developer has exported, or has in `.env` or `.maintenance`, is out of tests' reach."""
    for name in list(os.environ):
        if name.startswith(("MAINTENANCE_", "DAGSTER_", "PG", *OF_SYSTEMS)):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAINTENANCE_ENV_FILE", os.devnull)
    monkeypatch.setenv("MAINTENANCE_HOME", str(home))


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> str:
    """The server that the tests run on, as `--postgres` has it."""
    return str(pytestconfig.getoption("--postgres"))


@pytest.fixture(scope="session")
def server(postgres: str) -> Iterator[Cluster]:
    """The cluster of this test process, shared by its tests."""
    with cluster(postgres) as shared:
        yield shared


@pytest.fixture(scope="session")
def templates(server: Cluster, worker_id: str) -> Iterator[Templates]:
    """Databases that are built once and copied for each test."""
    with ExitStack() as stack:
        yield Templates(server, worker_id, stack)


@pytest.fixture
def own_server(postgres: str) -> Iterator[ThrowawayCluster]:
    """A cluster of the test's own, to kill, stop and restart."""
    if "://" in postgres:
        pytest.skip("the server is not ours to kill")
    with throwaway(postgres) as own:
        yield own


MakeUrl = Callable[[], str]
MakeDatabase = Callable[..., Database]


@pytest.fixture
def make_url(server: Cluster, worker_id: str) -> Iterator[MakeUrl]:
    """A function that makes a fresh empty database and returns its URL."""
    with ExitStack() as stack:
        yield lambda: server.url(stack.enter_context(database(server, f"test_{worker_id}")))


@pytest.fixture
def make_database(make_url: MakeUrl) -> Iterator[MakeDatabase]:
    """A function that connects to a fresh empty database, or to the one at `url`."""
    with ExitStack() as stack:

        def make(url: str | None = None, limits: Limits | None = None) -> Database:
            made = Database.connect(url or make_url(), VARIABLE, limits or Limits())
            stack.callback(made.engine.dispose)
            return made

        yield make


@pytest.fixture
def app_url(make_url: MakeUrl) -> str:
    """The URL of a fresh empty database, as a superuser."""
    return make_url()


@pytest.fixture
def app_database(make_database: MakeDatabase, app_url: str) -> Database:
    """A connection to the database at `app_url`."""
    return make_database(app_url)


@pytest.fixture(params=PROGRAMS)
def app_pooler(request: pytest.FixtureRequest, app_url: str) -> Iterator[Pooler]:
    """A transaction pooler in front of the database at `app_url`; see its `url`."""
    with pooler(app_url, request.param) as running:
        yield running
