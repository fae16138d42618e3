"""The job's declaration and its identifiers."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.identifiers import base36, cuid
from maintenance_pipelines.engine.job import Insert
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill
from maintenance_pipelines.systems.benefits.schema import benefit_status
from maintenance_pipelines_tests.systems.benefits.loading import scope_of, session

SCOPE = scope_of(Month(2025, 8), datetime(2025, 9, 1, 12, 0, 0, 7000))
assert isinstance(benefit_status_backfill.change, Insert)
CHANGE = benefit_status_backfill.change


def ids(database: Database) -> list[str]:
    position = sa.func.generate_series(1, 5000).table_valued("position")
    column = position.render_derived().c.position
    with session(database) as connection:
        return list(connection.scalars(sa.select(cuid(SCOPE, column)).order_by(column)))


def test_identifiers_are_cuids_that_grow_with_the_position(app_database: Database) -> None:
    made = ids(app_database)
    assert all(re.fullmatch(r"c[a-z0-9]{24}", one) for one in made)
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_two_plans_of_the_same_moment_have_different_identifiers(app_database: Database) -> None:
    assert not set(ids(app_database)) & set(ids(app_database))


def test_an_identifier_begins_with_the_moment_as_the_apps_own_do() -> None:
    assert base36(1_756_728_000_007) == "mf12hs07"
    assert int("mf12hs07", 36) == 1_756_728_000_007
    assert base36(35) == "0000000z"


def test_a_new_status_is_as_the_app_would_have_created_it() -> None:
    given = dict(CHANGE.constants(SCOPE))
    now = datetime(2025, 9, 1, 12, 0, 0, 7000)
    assert given == {
        "isCompleted": False,
        "completedAt": None,
        "isNotUsable": False,
        "orderIndex": None,
        "createdAt": now,
        "updatedAt": now,
    }
    keyed = {*CHANGE.key, "cycleEndDate", "id"}
    required = {column.name for column in benefit_status.c if not column.nullable}
    assert required - {"usedAmount"} <= {*given, *keyed}


@pytest.mark.parametrize("name", ["benefit_status_backfill", "benefit-status-backfill"])
def test_a_job_is_found_by_its_name(name: str) -> None:
    assert registry.find(name) is benefit_status_backfill


def test_an_unknown_job_is_refused_with_the_names_of_those_that_exist() -> None:
    with pytest.raises(BadInput, match="benefit_status_backfill"):
        registry.find("backfill")
