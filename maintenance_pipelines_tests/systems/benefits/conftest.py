"""The app's tables, as of August 2025 and as later versions have them."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.benefits.schema import create_app_tables


@pytest.fixture
def app_of_2025(app_database: Database) -> Database:
    """An empty database of the app as it was when the request was written."""
    with app_database.engine.begin() as connection:
        create_app_tables(connection, app_database.schema)
    return app_database


@pytest.fixture
def later_app(app_database: Database) -> Database:
    """An empty database of a later version: weekly benefits, benefits without a card."""
    with app_database.engine.begin() as connection:
        create_app_tables(connection, app_database.schema, with_later_columns=True)
        connection.execute(sa.text("""ALTER TYPE "BenefitFrequency" ADD VALUE 'WEEKLY'"""))
    return app_database
