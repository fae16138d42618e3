"""The app's tables as `schema.py` creates them for the demo and the tests."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.schema import TABLES, create_app_tables, refund


def tables(database: Database, schema: str = "public") -> set[str]:
    return set(sa.inspect(database.engine).get_table_names(schema))


def test_ids_and_updated_at_have_no_default_and_money_is_double(app: Database) -> None:
    for table in TABLES:
        found = {c["name"]: c for c in sa.inspect(app.engine).get_columns(table.name)}
        assert set(found) == set(table.c.keys())
        assert found["id"]["default"] is None
        if "updatedAt" in found:
            assert found["updatedAt"]["default"] is None
            assert not found["updatedAt"]["nullable"]
        amounts = [c for c in found.values() if isinstance(c["type"], sa.Float)]
        assert all(str(column["type"]) == "DOUBLE PRECISION" for column in amounts)


def test_refunds_may_be_absent_and_the_options_know(
    app_without_refunds: Database,
) -> None:
    assert tables(app_without_refunds) == {t.name for t in TABLES if t is not refund}
    with app_without_refunds.transaction() as connection:
        assert ReferralsOptions().on(connection, "public").ignore_refunds


def test_where_refunds_are_the_options_stay_as_chosen(app: Database) -> None:
    with app.transaction() as connection:
        for chosen in (False, True):
            options = ReferralsOptions(ignore_refunds=chosen)
            assert options.on(connection, "public") == options


def test_the_apps_own_key_lets_a_creators_snapshot_double(app: Database) -> None:
    with app.engine.begin() as connection:
        connection.execute(
            sa.text(
                """INSERT INTO "Creator" (id, "companyId", "companyName", "productId", "updatedAt")
                VALUES ('c', 'c', 'c', 'c', now())"""
            )
        )
        twice = sa.text(
            """INSERT INTO "MonthlySnapshot" (id, month, "creatorId")
                VALUES (:id, '2025-10', 'c')"""
        )
        connection.execute(twice, [{"id": "1"}, {"id": "2"}])


def test_a_deleted_referrer_leaves_referred_members_without_one(stale: Database) -> None:
    with stale.engine.begin() as connection:
        code = connection.execute(
            sa.text('SELECT "referredBy" FROM "Member" WHERE "referredBy" IS NOT NULL LIMIT 1')
        ).scalar_one()
        connection.execute(sa.text('DELETE FROM "Member" WHERE "referralCode" = :c'), {"c": code})
        left = connection.execute(
            sa.text('SELECT count(*) FROM "Member" WHERE "referredBy" = :c'), {"c": code}
        ).scalar_one()
    assert left == 0


def test_the_tables_can_be_created_in_a_schema_of_any_name(app_database: Database) -> None:
    schema = 'The "App"'
    with app_database.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
        create_app_tables(connection, schema)
    assert tables(app_database, schema) == {table.name for table in TABLES}
