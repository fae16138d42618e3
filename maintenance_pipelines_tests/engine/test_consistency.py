"""Consistency rules: counted over all rows, errors apart from warnings, and no rule forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.consistency import ConsistencyRule, Severity
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.job import NoOptions, Scope
from maintenance_pipelines.engine.refusals import Unreachable
from maintenance_pipelines_tests.conftest import MakeDatabase

SCOPE = Scope(datetime(2025, 10, 25, tzinfo=UTC), None, NoOptions())
HASTY = Limits(lock_timeout_ms=100, attempts=2)


def rule(
    query: str, severity: Severity = "error", columns: tuple[str, ...] = ("id", "detail")
) -> ConsistencyRule:
    def offenders(scope: Scope) -> sa.Select[Any]:
        text = sa.text(query).columns(*(sa.column(name, sa.Text) for name in columns))
        return sa.select(text.subquery())

    return ConsistencyRule("a_rule", "Something holds", offenders, severity)


NUMBERS = (
    "SELECT lpad(n::text, 4, '0') AS id, 'is ' || n AS detail FROM generate_series(1, {}) AS n"
)
NOBODY = rule(NUMBERS.format(0))


def judge(database: Database, *rules: ConsistencyRule) -> consistency.Consistency:
    return consistency.judge(database, SCOPE, rules)


def test_a_rule_that_nobody_breaks_holds(app_database: Database) -> None:
    found = judge(app_database, NOBODY)
    assert found.valid
    assert found.findings[0].passed
    answer = found.json()
    assert (answer["valid"], answer["errors"], answer["warnings"]) == (True, [], [])
    assert answer["checks"][0]["name"] == "a_rule"


def test_all_offenders_are_counted_and_the_first_are_named(app_database: Database) -> None:
    finding = judge(app_database, rule(NUMBERS.format(1234))).findings[0]
    assert (finding.count, finding.errors, finding.warnings) == (1234, 1234, 0)
    assert [one.id for one in finding.first] == [f"{n:04}" for n in range(1, 11)]
    assert finding.first[0].detail == "is 1"


def test_warnings_leave_data_valid_and_errors_do_not(app_database: Database) -> None:
    warned = judge(app_database, rule(NUMBERS.format(1), "warning"), NOBODY)
    assert warned.valid
    assert warned.json()["warnings"] == ["a_rule: 1 offenders, first 0001 (is 1)"]
    found = judge(app_database, rule(NUMBERS.format(2)), rule(NUMBERS.format(1), "warning"))
    assert not found.valid
    assert (len(found.json()["errors"]), len(found.json()["warnings"])) == (1, 1)


def test_a_row_can_say_that_it_is_only_a_warning(app_database: Database) -> None:
    query = f"""SELECT id, detail, CASE WHEN id < '0100' THEN 'warning' ELSE 'error' END AS severity
        FROM ({NUMBERS}) AS numbers"""
    by_row = ("id", "detail", "severity")
    finding = judge(app_database, rule(query.format(120), columns=by_row)).findings[0]
    assert (finding.errors, finding.warnings, finding.severity) == (21, 99, "error")
    assert finding.first[0].id == "0100"
    finding = judge(app_database, rule(query.format(99), columns=by_row)).findings[0]
    assert (finding.errors, finding.warnings, finding.severity) == (0, 99, "warning")


def test_a_rule_that_cannot_be_evaluated_has_failed_and_the_others_go_on(
    app_database: Database,
) -> None:
    impossible = rule("SELECT 'x' AS id, 'y' AS detail FROM nowhere", "warning")
    found = judge(app_database, impossible, NOBODY)
    assert not found.valid
    assert [finding.passed for finding in found.findings] == [False, True]
    assert found.findings[0].failure == 'relation "nowhere" does not exist'
    assert "could not be evaluated" in found.json()["errors"][0]


def test_an_error_repeats_no_address(app_database: Database) -> None:
    query = "SELECT 'x' AS id, 'ada@example.com'::integer::text AS detail"
    assert "ada@" not in str(judge(app_database, rule(query)).json())


def test_a_table_that_stays_locked_fails_its_rule_only(
    app_database: Database, app_url: str, make_database: MakeDatabase
) -> None:
    hasty = make_database(app_url, HASTY)
    with app_database.engine.begin() as app:
        app.execute(sa.text("CREATE TABLE bed (id text)"))
    with app_database.engine.begin() as app:
        app.execute(sa.text("LOCK TABLE bed IN ACCESS EXCLUSIVE MODE"))
        found = judge(hasty, rule("SELECT id, 'here' AS detail FROM bed"), NOBODY)
    assert [finding.passed for finding in found.findings] == [False, True]


def test_an_unreachable_database_is_refused(make_database: MakeDatabase) -> None:
    nowhere = make_database("postgresql://postgres@/x?host=/nonexistent", HASTY)
    with pytest.raises(Unreachable):
        judge(nowhere, NOBODY)


def test_the_time_is_told_in_milliseconds(app_database: Database) -> None:
    slow = rule("SELECT 'x' AS id, 'y' AS detail FROM pg_sleep(0.05)")
    answer = judge(app_database, slow).json()
    assert 50 <= answer["executionTime"] < 5000
    assert answer["executionTime"] == answer["checks"][0]["executionTime"]
