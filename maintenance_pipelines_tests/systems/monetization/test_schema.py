"""The app's tables, as `schema.py` creates them for the demo and the tests."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.systems.monetization.expiry import expired, tier_expiration
from maintenance_pipelines.systems.monetization.schema import TABLES, create_app_tables
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.systems.monetization import people, working

TYPES = """
SELECT table_name || '.' || column_name || ' ' || udt_name FROM information_schema.columns
 WHERE table_schema = 'public'
"""
CONSTRAINTS = "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace"


def answers(database: Database, query: str) -> set[str]:
    with database.transaction() as connection:
        return {row[0] for row in connection.execute(sa.text(query))}


def test_columns_have_drizzles_types(app: Database) -> None:
    found = answers(app, TYPES)
    assert found >= {
        "users.id uuid",
        "users.tier user_tier",
        "users.tier_source tier_source",
        "users.tier_expires_at timestamptz",
        "users.referral_code varchar",
        "global_config.value json",
        "shots.stop_loss_honored bool",
        "aims.target_price_realistic numeric",
    }


def test_keys_have_drizzles_names(app: Database) -> None:
    assert answers(app, CONSTRAINTS) >= {
        "users_email_unique",
        "promo_codes_code_unique",
        "promo_redemptions_promo_code_id_promo_codes_id_fk",
        "shots_aim_id_aims_id_fk",
        "user_discipline_stats_user_id_unique",
    }


def test_ids_are_the_databases_own_where_none_is_given(app: Database) -> None:
    people.write(app, "INSERT INTO users (email, authentik_sub) VALUES ('a@example.com', 'a')")
    assert len(answers(app, "SELECT id::text FROM users")) == 1


def test_a_database_whose_other_columns_differ_will_do(app: Database) -> None:
    """What no job reads may be of any type, or not be there at all."""
    people.write(app, "ALTER TABLE users ADD COLUMN theme text NOT NULL DEFAULT 'dark'")
    people.write(app, "ALTER TABLE users DROP COLUMN referral_code, ALTER name TYPE varchar(40)")
    preflight(tier_expiration, app)
    people.paying(app, people.LONG_AGO)
    assert working.carry_out(tier_expiration, app).run.state == "verified"


def test_the_tables_can_be_in_a_schema_of_any_name(app_database: Database) -> None:
    schema = 'The "App"'
    with app_database.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
        create_app_tables(connection, schema)
        connection.execute(expired(people.scope_of(), None))
    assert set(sa.inspect(app_database.engine).get_table_names(schema)) == {
        table.name for table in TABLES
    }


def test_a_job_works_in_a_schema_of_another_name(make_database: MakeDatabase, app_url: str) -> None:
    joint = "&" if "?" in app_url else "?"
    elsewhere = make_database(f"{app_url}{joint}schema=journal")
    with elsewhere.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("journal"))
        create_app_tables(connection, "journal")
    people.paying(elsewhere, people.LONG_AGO)
    run = working.carry_out(tier_expiration, elsewhere).run
    assert (run.state, run.applied) == ("verified", 1)
    assert working.take_back(tier_expiration, elsewhere, run).run.state == "verified"
