"""The app's tables as `schema.py` creates them for the demo and the tests."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.credits.schema import TABLES, create_app_tables
from maintenance_pipelines_tests.systems.credits.books import rows, service, write


def test_the_enums_have_the_apps_values(app: Database) -> None:
    found = rows(
        app,
        "SELECT t.typname, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)"
        " FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY 1",
    )
    values = dict(found)
    assert values["user_role"] == ["guest", "homeowner", "pro", "admin"]
    assert values["verification_status"][-2:] == ["comprehensive", "rejected"]
    assert "monthly_reset" in values["credit_transaction_type"]
    assert values["credit_type"] == ["free", "paid"]


def test_transactions_have_the_apps_seven_indexes(app: Database) -> None:
    found = rows(app, "SELECT indexdef FROM pg_indexes WHERE tablename = 'credit_transactions'")
    columns = {row[0].partition("USING btree ")[2] for row in found}
    assert columns == {
        "(id)",
        "(professional_id)",
        "(type)",
        "(credit_type)",
        "(expires_at)",
        "(professional_id, created_at DESC)",
        "(credit_type, expires_at)",
        "(professional_id, remaining_amount)",
    }


def test_no_balance_can_be_negative(app: Database, app_url: str) -> None:
    with service(app_url) as shop:
        shop.look(shop.sign_up())
    for column in ("total_balance", "free_credits", "paid_credits"):
        with pytest.raises(IntegrityError) as refusal:
            write(app, f"UPDATE credit_balances SET {column} = -1")
        assert isinstance(refusal.value.orig, psycopg.errors.CheckViolation)


def test_every_time_has_a_zone(app: Database) -> None:
    kinds = rows(
        app,
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type LIKE 'timestamp%'",
    )
    assert kinds == [("timestamp with time zone",)]


def test_the_tables_can_be_created_in_a_schema_of_any_name(app_database: Database) -> None:
    schema = 'The "App"'
    with app_database.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
        create_app_tables(connection, schema)
    tables = sa.inspect(app_database.engine).get_table_names(schema)
    assert set(tables) == {table.name for table in TABLES}
