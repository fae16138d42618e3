"""Guarantee 6: a transaction pooler in between is no obstacle."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.support.pooler import Pooler


@pytest.fixture
def pooled(gardens: Database, make_database: MakeDatabase, app_pooler: Pooler) -> Database:
    """The gardens, behind the pooler."""
    return make_database(app_pooler.url, toy.SMALL)


def test_the_whole_life_of_a_run_passes_through_a_transaction_pooler(
    gardens: Database, pooled: Database
) -> None:
    before = toy.snapshot(gardens)
    run = toy.plan(pooled, approval_above=10)
    runs.approve(pooled, run.id, "bob")
    toy.apply(pooled, run, rehearse=True)
    paused = toy.apply(pooled, run, progress=lambda *_: runs.request_pause(pooled, run.id))
    assert (paused.state, paused.applied) == ("paused", 20)
    verification = toy.finish(pooled, paused)
    assert verification.run.state == "verified"
    assert toy.plan(pooled).planned == 0
    assert toy.undo(pooled, verification.run).run.state == "verified"
    assert toy.snapshot(gardens) == before


def test_failing_rows_are_found_through_a_transaction_pooler(
    gardens: Database, pooled: Database
) -> None:
    run = toy.plan(pooled)
    toy.write(gardens, 'ALTER TABLE "Bed" ADD CHECK (slot <> 2) NOT VALID')
    left = toy.finish(pooled, run).run
    assert (left.state, left.applied, left.failed) == ("partial", 24, 6)


def test_a_pooler_between_sessions_with_other_time_zones_changes_no_digest(
    gardens: Database, pooled: Database
) -> None:
    run = toy.plan(gardens)
    with pooled.transaction() as connection:
        zone = "ALTER ROLE CURRENT_USER IN DATABASE \"{}\" SET timezone = 'America/New_York'"
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(zone.format(name))
    assert toy.finish(pooled, run).run.state == "verified"


def test_no_setting_of_the_jobs_stays_behind_in_a_session(gardens: Database) -> None:
    names = (
        *("TimeZone", "DateStyle", "statement_timeout", "lock_timeout"),
        *("work_mem", "jit", "random_page_cost"),
    )

    def settings() -> list[tuple[str, ...]]:
        with gardens.engine.connect() as connection:
            return [tuple(connection.exec_driver_sql(f"SHOW {name}").one()) for name in names]

    before = settings()
    with gardens.transaction() as connection:
        connection.exec_driver_sql("SET TimeZone = 'Asia/Tokyo'")
    theirs = settings()
    assert theirs != before
    toy.undo(gardens, toy.backfill(gardens).run)
    assert settings() == theirs
