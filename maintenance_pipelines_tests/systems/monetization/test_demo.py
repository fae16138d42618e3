"""The demo's data: the same every time, with every awkward case in it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.systems.monetization import demo
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.override_check import global_override_check
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup
from maintenance_pipelines.systems.monetization.schema import (
    TABLES,
    global_config,
    promo_codes,
    promo_redemptions,
    shots,
    users,
)
from maintenance_pipelines.systems.monetization.story import tell
from maintenance_pipelines.systems.monetization.trials import trial_reminder
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import NOW, scope_of

DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
JOBS = (
    tier_expiration,
    global_override_check,
    promo_cleanup,
    discipline_stats_rollup,
    trial_reminder,
)


def built(database: Database, scale: int = 1) -> Database:
    with database.engine.begin() as connection:
        demo.build(connection, database.schema, scale=scale, now=NOW)
    return database


def size(database: Database, table: sa.Table) -> int:
    with database.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_the_same_seed_tells_the_same_story() -> None:
    assert tell(7, NOW) == tell(7, NOW)
    assert tell(7, NOW) != tell(8, NOW)


def test_every_job_has_something_to_do_and_leaves_nothing_to_do(app_database: Database) -> None:
    demonstrated = built(app_database)
    now = scope_of(NOW)
    for job in JOBS:
        verification = working.carry_out(job, demonstrated, now)
        assert verification.run.state == "verified", job.name
        assert verification.run.applied == verification.run.planned > 0, job.name
        assert working.plan(job, demonstrated, now).planned == 0, job.name


def test_without_a_moment_it_ends_at_the_servers_own(app_database: Database) -> None:
    with app_database.engine.begin() as connection:
        demo.build(connection, app_database.schema)
        as_of = connection.execute(sa.select(sa.func.now())).scalar_one()
    for job in JOBS:
        assert working.plan(job, app_database, scope_of(as_of)).planned > 0, job.name


def test_every_warning_finds_something(app_database: Database) -> None:
    demonstrated = built(app_database)
    found: set[str] = set()
    for job in (global_override_check, tier_expiration, promo_cleanup):
        found |= set(working.warnings(working.carry_out(job, demonstrated, scope_of(NOW))))
    assert found >= {
        "free_tier_without_remains",
        "no_other_grant_in_force",
        "override_tier_while_override",
        "active_code_has_uses_left",
        "redemptions_within_uses",
    }


@pytest.mark.parametrize(
    ("job", "reasons"),
    [
        (promo_cleanup, {"grant_still_running", "code_still_redeemable"}),
        (trial_reminder, set()),
    ],
)
def test_every_reason_to_keep_something_occurs(
    app_database: Database, job: Job, reasons: set[str]
) -> None:
    run = working.plan(job, built(app_database), scope_of(NOW))
    assert set(run.excluded) == reasons


def test_the_awkward_cases_are_there(app_database: Database) -> None:
    demonstrated = built(app_database)
    expiries = {row["tier_expires_at"] for row in people.rows(demonstrated, users)}
    assert {None, NOW, NOW - MICROSECOND, NOW + MICROSECOND} <= expiries
    ends = {
        (row["valid_until"], row["is_active"]) for row in people.rows(demonstrated, promo_codes)
    }
    assert {(NOW, True), (NOW - DAY, False)} <= ends
    ages = {NOW - row["redeemed_at"] for row in people.rows(demonstrated, promo_redemptions)}
    assert {365 * DAY, 365 * DAY + MICROSECOND} <= ages
    assert None in {row["aim_id"] for row in people.rows(demonstrated, shots)}
    assert len(people.rows(demonstrated, global_config)) == 2


def test_nobody_in_it_is_real(app_database: Database) -> None:
    addresses = [row["email"] for row in people.rows(built(app_database), users)]
    assert all(address.endswith("@example.com") for address in addresses)


def test_a_scale_multiplies_everything_but_the_configuration(
    make_database: MakeDatabase,
) -> None:
    once, thrice = built(make_database()), built(make_database(), scale=3)
    for table in TABLES:
        factor = 1 if table is global_config else 3
        assert size(thrice, table) == factor * size(once, table), table.name
    one, all_ = (working.plan(tier_expiration, each, scope_of(NOW)) for each in (once, thrice))
    assert all_.planned == 3 * one.planned
