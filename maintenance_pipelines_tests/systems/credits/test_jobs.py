"""What the three jobs have in common: they find the app's tables wherever they are."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import planning
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.systems.credits import demo
from maintenance_pipelines.systems.credits.diagnosis import diagnose
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines.systems.credits.warning import credit_expiry_warning
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    finish,
    set_clock,
    someone,
    undo,
)

JOBS = (monthly_credits_reset, credit_expiry, credit_expiry_warning)


def test_they_work_in_a_schema_of_any_name(make_database: MakeDatabase, app_url: str) -> None:
    elsewhere = make_database(f"{app_url}&schema=The%20%22App%22")
    with elsewhere.engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(elsewhere.schema))
        demo.build(connection, elsewhere.schema, now=NOW)
    set_clock(elsewhere, NOW)
    ran = {}
    for job in JOBS:
        scope = Scope(NOW, "2026-03" if job.partitions else None, CreditsOptions())
        run = planning.plan(job, elsewhere, scope, someone)
        done = finish(job, elsewhere, run)
        assert (done.run.state, done.run.applied) == ("verified", run.planned), done
        assert run.planned > 5
        ran[job.name] = run
    assert diagnose(elsewhere, scope).consistency.valid
    for job in JOBS[::-1]:
        undone = undo(job, elsewhere, ran[job.name])
        assert (undone.run.state, undone.run.applied > 5) == ("verified", True)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_each_is_declared_as_its_source_has_it(job: Job) -> None:
    schedules = {
        "monthly_credits_reset": "1 0 1 * *",
        "credit_expiry": "0 2 * * *",
        "credit_expiry_warning": "0 9 * * *",
    }
    assert job.schedule == schedules[job.name]
    assert job.system == "credits"
    assert (job.partitions is not None) == (job is monthly_credits_reset)
