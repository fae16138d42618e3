"""The app's tables, empty with a clock that can be set, and with the demo's year in them.

Both are built once and copied for each test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.credits import demo
from maintenance_pipelines.systems.credits.schema import create_app_tables
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.support.clusters import Cluster
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    begin_with_clock,
    install_clock,
    set_clock,
)

_numbers = itertools.count(1)


@contextmanager
def _template(
    server: Cluster, name: str, build: Callable[[sa.Connection, str], None]
) -> Iterator[str]:
    server.drop(name)
    server.create(name)
    made = Database.connect(server.url(name), "TEMPLATE")
    with made.engine.begin() as connection:
        build(connection, made.schema)
    install_clock(made)
    ledger.install(made)
    made.dispose()  # whoever is connected to it keeps it from being copied
    yield name
    server.drop(name)


@pytest.fixture(scope="session")
def empty_template(server: Cluster, worker_id: str) -> Iterator[str]:
    """A database with the app's tables."""
    with _template(server, f"credits_{worker_id}", create_app_tables) as name:
        yield name


@pytest.fixture(scope="session")
def year_template(server: Cluster, worker_id: str) -> Iterator[str]:
    """A database with the demo's year, which ends at the tests' now."""

    def build(connection: sa.Connection, schema: str) -> None:
        demo.build(connection, schema, now=NOW)

    with _template(server, f"credits_year_{worker_id}", build) as name:
        yield name


@pytest.fixture
def copy(server: Cluster, worker_id: str) -> Iterator[Callable[[str], str]]:
    """A function that copies a database and returns the copy's URL; its clock shows the now."""
    with ExitStack() as stack:

        def make(template: str) -> str:
            name = f"credits_{worker_id}_{next(_numbers)}"
            server.drop(name)
            with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
            stack.callback(server.drop, name)
            begin_with_clock(server.url(name))
            return server.url(name)

        yield make


@pytest.fixture
def app_url(copy: Callable[[str], str], empty_template: str) -> str:
    """The URL of an empty database of the app."""
    return copy(empty_template)


@pytest.fixture
def app(make_database: MakeDatabase, app_url: str) -> Database:
    """The database at `app_url`; small batches, one at a time, at noon of 10 March 2026."""
    made = make_database(app_url, toy.SMALL)
    set_clock(made, NOW)
    return made


@pytest.fixture
def year(make_database: MakeDatabase, copy: Callable[[str], str], year_template: str) -> Database:
    """The demo's year, which ends at the noon that the database's clock shows."""
    made = make_database(copy(year_template))
    set_clock(made, NOW)
    return made
