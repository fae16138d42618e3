"""Every job, and its way back, under a role that may do only what `grants` printed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.grants import grants
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.systems.monetization import demo
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.override_check import global_override_check
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup
from maintenance_pipelines.systems.monetization.schema import TABLES
from maintenance_pipelines.systems.monetization.trials import trial_reminder
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine.conftest import Hiring, hire
from maintenance_pipelines_tests.systems.monetization import people, working

__all__ = ["hire"]

JOBS = (
    tier_expiration,
    global_override_check,
    promo_cleanup,
    discipline_stats_rollup,
    trial_reminder,
)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_and_its_rollback_need_no_more_than_grants_says_and_leave_no_trace(
    make_database: MakeDatabase, app_database: Database, hire: Hiring, job: Job
) -> None:
    with app_database.engine.begin() as connection:
        demo.build(connection, app_database.schema, now=people.NOW)
    ledger.install(app_database)
    url = hire("clerk")
    role = sa.make_url(url).username
    assert role is not None
    people.write(app_database, grants(job, "public", role, undo=True))
    clerk, scope = make_database(url), people.scope_of()
    before = [contents(app_database, table) for table in TABLES]
    run = working.carry_out(job, clerk, scope).run
    assert (run.state, run.applied) == ("verified", run.planned)
    assert working.take_back(job, clerk, run).run.state == "verified"
    assert [contents(app_database, table) for table in TABLES] == before


def test_a_table_that_is_updated_needs_no_further_right_to_be_locked() -> None:
    asked = grants(promo_cleanup, "public", "clerk").splitlines()
    assert [line for line in asked if "UPDATE" in line and "promo_codes" in line] == [
        'GRANT UPDATE ("is_active") ON "public"."promo_codes" TO "clerk";'
    ]


def contents(database: Database, table: sa.Table) -> list[tuple[object, ...]]:
    """Every row of a table, whole."""
    with database.transaction() as connection:
        whole = sa.cast(table.table_valued(), sa.Text)
        return [tuple(row) for row in connection.execute(sa.select(whole).order_by(whole))]
