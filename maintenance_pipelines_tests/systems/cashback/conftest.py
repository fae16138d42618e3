"""Fixtures: instances of each kind, made by the application's own models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger as ledgers
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines_tests.conftest import VARIABLE, MakeDatabase, MakeUrl
from maintenance_pipelines_tests.support.clusters import Cluster, database
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.lending import (
    Lending,
    postgres_lending,
    sqlite_lending,
)

KINDS = ("delete", "wal", "postgres")
BRIEF = Limits(lock_timeout_ms=100, attempts=4)

MakeLending = Callable[..., Lending]


@pytest.fixture(scope="session")
def storage(server: Cluster, worker_id: str) -> Iterator[Database]:
    """What stands for Dagster's storage."""
    with database(server, f"ledger_{worker_id}") as name:
        made = Database.connect(server.url(name), VARIABLE, BRIEF)
        ledgers.ensure(made)
        yield made
        made.dispose()


@pytest.fixture
def ledger(storage: Database) -> Iterator[Database]:
    """The ledger of SQLite files, empty."""
    yield storage
    with storage.transaction() as book:
        book.execute(sa.text("TRUNCATE maintenance.run CASCADE"))


@pytest.fixture
def make_lending(
    tmp_path: Path, make_database: MakeDatabase, make_url: MakeUrl, request: pytest.FixtureRequest
) -> MakeLending:
    """A function that makes an instance of a kind, with these tables in it."""

    def make(kind: str, names: Collection[str] = app_models.BEFORE, name: str = "prod") -> Lending:
        if kind == "postgres":
            url = make_url()
            return postgres_lending(tmp_path, make_database(url, BRIEF), url, names)
        ledger = request.getfixturevalue("ledger")
        return sqlite_lending(tmp_path, ledger, kind, names, name)

    return make


@pytest.fixture(params=KINDS)
def lending(request: pytest.FixtureRequest, make_lending: MakeLending) -> Lending:
    """An instance with all parents and none of the six: an SQLite file in either journal mode,
    and a PostgreSQL database.
    """
    return make_lending(request.param)


@pytest.fixture(params=KINDS[:2])
def file(request: pytest.FixtureRequest, make_lending: MakeLending) -> Lending:
    """An SQLite file with all parents and none of the six, in either journal mode."""
    return make_lending(request.param)
