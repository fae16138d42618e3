"""The app's tables, empty, with the ledger beside them."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.schema import create_app_tables


@pytest.fixture
def app(app_database: Database) -> Database:
    """An empty database of the app, as Drizzle would have made it."""
    with app_database.engine.begin() as connection:
        create_app_tables(connection, app_database.schema)
    ledger.install(app_database)
    return app_database
