"""The app's tables, empty, with the ledger beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.schema import create_app_tables
from maintenance_pipelines_tests.support.clusters import Cluster
from maintenance_pipelines_tests.support.templates import Templates


@pytest.fixture
def app_url(request: pytest.FixtureRequest, server: Cluster, templates: Templates) -> Iterator[str]:
    """The URL of a database of the app where a test wants one, else of an empty one."""
    if "app" not in request.fixturenames:
        make_url = request.getfixturevalue("make_url")
        yield make_url()
        return
    name = templates.copy("monetization", create_app_tables)
    yield server.url(name)
    templates.drop(name)


@pytest.fixture
def app(app_database: Database) -> Database:
    """An empty database of the app, as Drizzle would have made it."""
    return app_database
