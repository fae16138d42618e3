"""Guarantee 7: verification accounts for every row, and each check fails when it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import planning, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Rule, Scope
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines_tests.engine import toy

MINE = "id LIKE 'b%-%'"
"""Beds that the job has made."""

BLOCKING = {
    "plan_within_expected_scope",
    "every_planned_row_accounted_for",
    "existing_rows_untouched",
    "new_rows_as_specified",
    "no_duplicate",
    "nothing_left_missing",
}


def applied_then(database: Database, tampering: str) -> Verification:
    """A run that was applied as it should, verified after something else has happened."""
    toy.apply(database, toy.plan(database))
    toy.write(database, tampering)
    return toy.backfill(database)


def broken(verification: Verification) -> set[str]:
    return {name for name, held in toy.checks(verification).items() if not held}


def test_every_check_holds_after_an_undisturbed_run(gardens: Database) -> None:
    verification = toy.backfill(gardens)
    assert toy.checks(verification) == dict.fromkeys(BLOCKING, True)
    assert toy.numbers(verification) == {"appeared_since": 0, "touched_since": 0}
    run = runs.find(gardens, verification.run.id)
    assert run.state == "verified"
    assert run.checks == dict.fromkeys(BLOCKING, True)
    assert run.finished_at is not None


@pytest.mark.parametrize(
    ("check", "tampering"),
    [
        ("every_planned_row_accounted_for", "DELETE FROM maintenance.batch WHERE first = 21"),
        ("every_planned_row_accounted_for", "UPDATE maintenance.batch SET applied = applied - 1"),
        ("every_planned_row_accounted_for", "UPDATE maintenance.batch SET rows = rows - 1"),
        (
            "every_planned_row_accounted_for",
            "INSERT INTO maintenance.exception SELECT id, 4, 'skipped' FROM maintenance.run",
        ),
        ("plan_within_expected_scope", "UPDATE maintenance.run SET expected_max = 29"),
        ("existing_rows_untouched", "UPDATE maintenance.batch SET updated = 1 WHERE first = 1"),
        ("existing_rows_untouched", "UPDATE maintenance.batch SET deleted = 1 WHERE first = 1"),
        ("existing_rows_untouched", "UPDATE maintenance.batch SET inserted = inserted + 1"),
        ("new_rows_as_specified", f'UPDATE "Bed" SET slot = slot + 100 WHERE {MINE}'),
        (
            "new_rows_as_specified",
            'UPDATE "Bed" SET "gardenId" = \'g000001\', slot = 77'
            " WHERE \"gardenId\" = 'g000005' AND slot = 1",
        ),
        (
            "no_duplicate",
            'DROP INDEX bed_key; INSERT INTO "Bed" SELECT \'again\', "gardenId", slot, true,'
            ' "updatedAt" FROM "Bed" WHERE "gardenId" = \'g000010\' AND slot = 5',
        ),
    ],
)
def test_a_check_fails_when_what_it_guards_is_broken(
    gardens: Database, check: str, tampering: str
) -> None:
    applied = toy.apply(gardens, toy.plan(gardens))
    toy.write(gardens, tampering)
    verification = verifying.verify(toy.job, gardens, runs.find(gardens, applied.id))
    assert check in broken(verification)
    assert verification.run.state in ("failed", "partial")
    assert runs.find(gardens, applied.id).checks[check] is False


def test_a_granule_marked_done_that_no_batch_has_written_is_found(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, "UPDATE maintenance.granule SET done_at = now() WHERE first = 11")
    verification = toy.finish(gardens, run)
    assert "every_planned_row_accounted_for" in broken(verification)
    assert verification.run.state == "partial"
    assert toy.beds(gardens) == 45


def test_rows_that_failed_are_left_missing(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, 'ALTER TABLE "Bed" ADD CHECK (slot <> 5) NOT VALID')
    verification = toy.finish(gardens, run)
    assert broken(verification) == {"nothing_left_missing"}
    (check,) = [c for c in verification.checks if c.name == "nothing_left_missing"]
    assert check.count == 6


def test_a_failed_row_that_the_app_has_added_since_is_not_missing(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(
        gardens,
        'ALTER TABLE "Bed" ADD CONSTRAINT c CHECK (slot <> 5 OR "gardenId" < \'g000010\')'
        " NOT VALID",
    )
    left = toy.apply(gardens, run)
    toy.write(gardens, 'ALTER TABLE "Bed" DROP CONSTRAINT c')
    toy.write(gardens, """INSERT INTO "Bed" VALUES ('a', 'g000010', 5, true, '2025-09-01', '')""")
    verification = verifying.verify(toy.job, gardens, left)
    assert toy.checks(verification)["nothing_left_missing"]


def test_what_has_become_due_since_is_a_number_and_no_failure(gardens: Database) -> None:
    verification = applied_then(gardens, "UPDATE \"Garden\" SET slots = 7 WHERE id <= 'g000003'")
    assert broken(verification) == set()
    assert toy.numbers(verification)["appeared_since"] == 6
    run = runs.find(gardens, verification.run.id)
    assert (run.state, run.appeared_since) == ("verified", 6)


def test_rules_are_judged_as_of_the_plan(gardens: Database) -> None:
    verification = applied_then(
        gardens, """INSERT INTO "Garden" VALUES ('new', 9, '2025-09-01 00:00:01')"""
    )
    assert toy.numbers(verification)["appeared_since"] == 0


@pytest.mark.parametrize(
    ("act", "touched"),
    [
        (f'UPDATE "Bed" SET watered = true WHERE {MINE} AND slot = 1', 6),
        (f"UPDATE \"Bed\" SET notes = 'mine' WHERE {MINE} AND slot = 1", 6),
        (f'DELETE FROM "Bed" WHERE {MINE} AND slot = 1', 6),
        (f'UPDATE "Bed" SET "updatedAt" = now() WHERE {MINE}', 0),
        (f'UPDATE "Bed" SET watered = true WHERE NOT {MINE}', 0),
    ],
)
def test_what_the_app_has_done_to_new_rows_since_is_a_number_and_no_failure(
    gardens: Database, act: str, touched: int
) -> None:
    verification = applied_then(gardens, act)
    assert broken(verification) == set()
    assert verification.run.state == "verified"
    assert runs.find(gardens, verification.run.id).touched_since == touched


def test_a_row_that_the_app_has_replaced_by_its_own_is_no_duplicate(gardens: Database) -> None:
    verification = applied_then(
        gardens,
        f'DELETE FROM "Bed" WHERE {MINE} AND slot = 1;'
        ' INSERT INTO "Bed" SELECT md5(id), id, 1, true, now() FROM "Garden"'
        " WHERE id > 'g000004'",
    )
    assert broken(verification) == set()
    assert toy.numbers(verification)["touched_since"] == 6


def verify_with_rule(database: Database, rule: Rule) -> Verification:
    job = replace(toy.job, rules=(rule,))
    run = planning.plan(job, database, toy.scope, toy.someone)
    return verifying.verify(job, database, toy.apply(database, run))


def fifth_beds(scope: Scope, applied: sa.FromClause) -> sa.Select[tuple[str]]:
    return sa.select(applied.c.new_gardenId).where(applied.c.new_slot == 5).order_by("new_gardenId")


def test_a_rule_that_is_broken_names_its_first_offenders(gardens: Database) -> None:
    verification = verify_with_rule(gardens, Rule("no_fifth", "No fifth bed", fifth_beds))
    check = verification.checks[-1]
    assert (check.name, check.passed, check.count) == ("no_fifth", False, 6)
    assert check.sample[:2] == ("g000005", "g000006")
    assert verification.run.state == "failed"
    assert runs.find(gardens, verification.run.id).checks["no_fifth"] is False


def test_a_rule_that_only_warns_fails_nothing(gardens: Database) -> None:
    rule = Rule("no_fifth", "No fifth bed", fifth_beds, severity="warning")
    job = replace(toy.job, rules=(rule,))
    run = toy.apply(gardens, planning.plan(job, gardens, toy.scope, toy.someone))
    verification = verifying.verify(job, gardens, run)
    assert verification.run.state == "verified"


def test_a_check_that_cannot_be_evaluated_has_failed(gardens: Database) -> None:
    def impossible(scope: Scope, applied: sa.FromClause) -> sa.Select[tuple[str]]:
        return sa.select(sa.cast(sa.literal_column("1 / (SELECT 0)"), sa.Text))

    verification = verify_with_rule(gardens, Rule("divides", "It divides", impossible))
    check = verification.checks[-1]
    assert (check.name, check.passed) == ("divides", False)
    assert check.says == "could not be evaluated: division by zero"
    assert verification.run.state == "failed"


def test_a_warning_that_cannot_be_evaluated_has_failed(gardens: Database) -> None:
    def impossible(scope: Scope, applied: sa.FromClause) -> sa.Select[tuple[str]]:
        return sa.select(sa.cast(sa.literal_column("1 / (SELECT 0)"), sa.Text))

    rule = Rule("divides", "It divides", impossible, severity="warning")
    assert verify_with_rule(gardens, rule).run.state == "failed"


def test_a_plan_table_that_has_gone_fails_every_check_that_needs_it(gardens: Database) -> None:
    run = toy.apply(gardens, toy.plan(gardens))
    toy.write(gardens, f"DROP TABLE maintenance.plan_{run.id}")
    verification = verifying.verify(toy.job, gardens, run)
    assert {"new_rows_as_specified", "no_duplicate"} <= broken(verification)
    assert verification.run.state == "failed"


def test_a_failed_run_can_be_verified_again_once_it_is_repaired(gardens: Database) -> None:
    applied = toy.apply(gardens, toy.plan(gardens))
    toy.write(gardens, f'UPDATE "Bed" SET slot = slot + 100 WHERE {MINE} AND slot = 1')
    assert verifying.verify(toy.job, gardens, applied).run.state == "failed"
    toy.write(gardens, f'UPDATE "Bed" SET slot = 1 WHERE {MINE} AND slot = 101')
    again = runs.find(gardens, applied.id)
    assert verifying.verify(toy.job, gardens, again).run.state == "verified"


@pytest.mark.parametrize("state", ["planned", "cancelled"])
def test_a_run_that_was_not_applied_is_not_verified(gardens: Database, state: str) -> None:
    run = toy.plan(gardens)
    if state == "cancelled":
        run = runs.request_cancel(gardens, run.id)
    with pytest.raises(Guarded, match=f"is {state}; only a run that was applied"):
        verifying.verify(toy.job, gardens, run)


def test_verification_leaves_the_app_as_it_is(gardens: Database) -> None:
    run = toy.apply(gardens, toy.plan(gardens))
    before = toy.snapshot(gardens)
    verifying.verify(toy.job, gardens, run)
    assert toy.snapshot(gardens) == before
