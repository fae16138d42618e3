"""Sessions are set up by whoever owns the server: no setting of theirs changes a plan."""

from __future__ import annotations

from datetime import UTC

import pytest

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy

SETTINGS = {
    "timezone": "America/New_York",
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "search_path": "pg_catalog",
    "default_transaction_isolation": "serializable",
    "standard_conforming_strings": "off",
    "statement_timeout": "25ms",
    "lock_timeout": "25ms",
    "idle_in_transaction_session_timeout": "0",
    "enable_seqscan": "off",
    "row_security": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "on",
}


def configure(database: Database, whose: str, name: str, value: str) -> None:
    """ALTER ROLE or ALTER DATABASE: the default of every later session."""
    toy.write(
        database,
        "DO $$BEGIN EXECUTE format('ALTER "
        + ("DATABASE %I" if whose == "DATABASE" else "ROLE CURRENT_USER IN DATABASE %I")
        + f" SET {name} = ''{value}''', current_database()); END$$",
    )


@pytest.mark.parametrize("whose", ["DATABASE", "ROLE"])
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati", "Asia/Kolkata"])
def test_a_plan_made_in_one_time_zone_is_applied_in_another(
    make_database: MakeDatabase, gardens: Database, app_url: str, whose: str, zone: str
) -> None:
    run = toy.plan(gardens)
    configure(gardens, whose, "timezone", zone)
    elsewhere = make_database(app_url, toy.SMALL)
    again = runs.find(elsewhere, run.id)
    assert (again.digest, again.as_of) == (run.digest, toy.AS_OF)
    assert again.as_of.tzinfo is not None
    assert again.as_of.utcoffset() == toy.AS_OF.astimezone(UTC).utcoffset()
    verification = toy.finish(elsewhere, again)
    assert (verification.run.state, verification.run.applied) == ("verified", 30)
    assert toy.undo(elsewhere, verification.run).run.state == "verified"


@pytest.mark.parametrize("name", SETTINGS)
def test_no_default_of_the_session_changes_what_is_written(
    make_database: MakeDatabase, gardens: Database, app_url: str, name: str
) -> None:
    run = toy.plan(gardens)
    configure(gardens, "DATABASE", name, SETTINGS[name])
    odd = make_database(app_url, toy.SMALL)
    assert toy.finish(odd, runs.find(odd, run.id)).run.state == "verified"
    expected = toy.AS_OF.replace(tzinfo=None)
    assert {row[3] for row in toy.contents(gardens)[20:]} == {expected}
    again = toy.plan(odd)
    assert (again.planned, again.excluded) == (0, {"already_present": 50})


def test_rows_planned_in_different_time_zones_are_the_same(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    def shown(database: Database) -> list[tuple[object, ...]]:
        run = toy.plan(database)
        columns = '"new_gardenId", new_slot, new_watered, "new_updatedAt", new_notes'
        return toy.rows(gardens, f"SELECT {columns} FROM maintenance.plan_{run.id} ORDER BY 1, 2")

    here = shown(gardens)
    configure(gardens, "DATABASE", "timezone", "America/New_York")
    configure(gardens, "DATABASE", "datestyle", "SQL, DMY")
    assert shown(make_database(app_url, toy.SMALL)) == here
