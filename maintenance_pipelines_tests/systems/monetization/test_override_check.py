"""global_override_check: cleared, active, none or malformed; beside the app, and back again."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.override import OVERRIDE
from maintenance_pipelines.systems.monetization.override_check import (
    global_override_check as job,
)
from maintenance_pipelines.systems.monetization.override_check import state
from maintenance_pipelines.systems.monetization.schema import global_config
from maintenance_pipelines_tests.engine.sessions import holding
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import NOW

MICROSECOND = timedelta(microseconds=1)
EXTENDED = f'{{"tier": "premium", "expires_at": "{(NOW + timedelta(days=7)).isoformat()}"}}'


def ending(expires: object, tier: str = "premium") -> str:
    return f'{{ "tier":"{tier}",  "expires_at":"{expires}", "tier":"{tier}" }}'


def test_an_expired_override_is_deleted_and_nothing_else(app: Database) -> None:
    people.write(app, "INSERT INTO global_config VALUES ('theme', '\"dark\"')")
    people.override(app, ending((NOW - MICROSECOND).isoformat()))
    verification = working.carry_out(job, app)
    assert (verification.run.state, verification.run.applied) == ("verified", 1)
    assert [row["key"] for row in people.rows(app, global_config)] == ["theme"]


@pytest.mark.parametrize("left", [timedelta(), MICROSECOND, timedelta(days=3)])
def test_an_override_is_active_up_to_and_at_the_very_instant_of_its_expiry(
    app: Database, left: timedelta
) -> None:
    people.override(app, ending((NOW + left).isoformat()))
    before = people.rows(app, global_config)
    run = working.plan(job, app)
    assert (run.planned, run.excluded) == (0, {"active": 1})
    assert working.finish(job, app, run).run.state == "verified"
    assert people.rows(app, global_config) == before


def test_an_active_override_is_reported_with_its_remaining_time(app: Database) -> None:
    people.override(app, ending((NOW + timedelta(days=3, hours=2)).isoformat()))
    with people.session(app) as connection:
        found = connection.execute(state(people.scope_of(), global_config)).one()
    assert (found.state, found.tier, found.remaining) == ("active", "premium", "3 days 02:00:00")


def test_no_override_is_a_result_and_no_error(app: Database) -> None:
    run = working.plan(job, app)
    assert (run.planned, run.excluded) == (0, {})
    assert working.finish(job, app, run).run.state == "verified"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('"premium"', "its value is not an object"),
        (ending("2025-11-01T00:00:00"), 'its "expires_at" has no time zone'),
        (ending("2025-11-01T00:00:00Z", "gold"), 'its "tier" is none of free, premium'),
        ('{"tier": "premium"}', 'it has no "expires_at"'),
        (ending("yesterday"), 'its "expires_at" is not a time'),
    ],
)
def test_a_malformed_override_fails_a_check_with_a_clear_sentence_and_stays(
    app: Database, value: str, says: str
) -> None:
    people.override(app, value)
    before = [(row["key"], row["updated_at"]) for row in people.rows(app, global_config)]
    run = working.plan(job, app)
    assert (run.planned, run.excluded) == (0, {"malformed": 1})
    verification = working.finish(job, app, run)
    check = next(c for c in verification.checks if c.name == "global_override_readable")
    assert not check.passed and not check.warning
    assert check.sample[0].startswith(f"{OVERRIDE}: {says}")
    assert verification.run.state == "failed"
    assert [(row["key"], row["updated_at"]) for row in people.rows(app, global_config)] == before


@pytest.mark.parametrize("value", [EXTENDED, '{"tier": "premium"}'])
def test_an_override_that_changes_between_detection_and_the_delete_stays(
    app: Database, value: str
) -> None:
    people.override(app, ending((NOW - MICROSECOND).isoformat()))
    run = working.plan(job, app)
    people.write(app, "UPDATE global_config SET value = CAST(:value AS json)", value=value)
    after = people.rows(app, global_config)
    run = working.finish(job, app, run).run
    assert working.counts(run) == (0, 0, 1, 0)
    assert people.rows(app, global_config) == after


def test_an_override_that_is_being_extended_at_the_very_moment_of_the_delete_stays(
    app: Database, app_url: str
) -> None:
    people.override(app, ending((NOW - MICROSECOND).isoformat()))
    run = working.plan(job, app)
    theirs = f"UPDATE global_config SET value = '{EXTENDED}'"
    with holding(app_url, theirs) as connection:
        later = threading.Timer(0.3, connection.commit)
        later.start()
        run = working.finish(job, app, run).run
        later.join()
    assert working.counts(run) == (0, 0, 1, 0)
    assert len(people.rows(app, global_config)) == 1


def test_a_rollback_brings_the_override_back_to_the_last_byte(app: Database) -> None:
    admin = people.user(app, role="admin")
    people.override(app, ending((NOW - MICROSECOND).isoformat()))
    people.write(app, "UPDATE global_config SET updated_by = :admin", admin=admin)
    spelled = "SELECT value::text, updated_at, updated_by FROM global_config"

    def contents() -> list[tuple[object, ...]]:
        with app.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(spelled)]

    before = contents()
    run = working.carry_out(job, app).run
    assert contents() == []
    assert working.take_back(job, app, run).run.state == "verified"
    assert contents() == before


def test_a_rollback_leaves_an_override_that_has_been_set_since(app: Database) -> None:
    people.override(app, ending((NOW - MICROSECOND).isoformat()))
    run = working.carry_out(job, app).run
    people.override(app, EXTENDED)
    theirs = people.rows(app, global_config)
    undo = working.take_back(job, app, run)
    assert working.left_alone(job, app, undo.run) == {OVERRIDE: "taken"}
    assert people.rows(app, global_config) == theirs


def test_a_second_run_finds_nothing_to_do(app: Database) -> None:
    people.override(app, ending((NOW - MICROSECOND).isoformat()))
    working.carry_out(job, app)
    assert working.plan(job, app).planned == 0
