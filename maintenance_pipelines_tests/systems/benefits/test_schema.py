"""The app's tables, as `schema.py` creates them for the demo and the tests."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.benefits.schema import TABLES, create_app_tables

KEY = ["benefitId", "userId", "cycleStartDate", "occurrenceIndex"]


def columns(database: Database, table: str) -> dict[str, object]:
    found = sa.inspect(database.engine).get_columns(table, schema=database.schema)
    return {column["name"]: column["default"] for column in found}


def test_the_app_of_2025_has_no_column_of_later_versions(app_of_2025: Database) -> None:
    assert not {"usedAmount", "notes"} & set(columns(app_of_2025, "BenefitStatus"))
    assert "userId" not in columns(app_of_2025, "Benefit")


def test_a_later_app_has_them(later_app: Database) -> None:
    assert {"usedAmount", "notes"} <= set(columns(later_app, "BenefitStatus"))
    assert "userId" in columns(later_app, "Benefit")


def test_neither_ids_nor_updated_at_have_a_default(later_app: Database) -> None:
    for table in TABLES:
        defaults = columns(later_app, table.name)
        assert defaults["id"] is None
        assert defaults["updatedAt"] is None


def test_the_key_is_a_unique_index_and_the_only_one(app_of_2025: Database) -> None:
    found = sa.inspect(app_of_2025.engine).get_indexes("BenefitStatus")
    assert [(index["unique"], index["column_names"]) for index in found] == [(True, KEY)]


def test_the_tables_can_be_created_in_a_schema_of_any_name(app_database: Database) -> None:
    schema = 'The "App"'
    with app_database.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
        create_app_tables(connection, schema)
    assert set(sa.inspect(app_database.engine).get_table_names(schema)) == {
        table.name for table in TABLES
    }
