"""Units: all rows of a subject change together, by its facts as they are under the lock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maintenance_pipelines.engine import reports, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import purses


@pytest.fixture
def sewn(make_database: MakeDatabase, app_url: str) -> Database:
    """Thirty purses with two lots each, and five expired notes."""
    made = make_database(app_url, purses.SMALL)
    purses.sew(made, 30, notes=5)
    return made


def test_a_run_writes_every_row_of_every_unit(sewn: Database) -> None:
    verification = purses.fill(sewn)
    run = verification.run
    assert (run.state, run.planned, run.applied) == ("verified", 35, 35), verification.checks
    assert purses.rows(sewn, 'SELECT DISTINCT coins FROM "Purse"') == [(100,)]
    assert purses.rows(sewn, 'SELECT count(*), sum("left") FROM "Lot" WHERE "left" > 0') == [
        (30, 3000)
    ]
    assert purses.rows(sewn, 'SELECT count(*), sum(after - before) FROM "Log"') == [
        (30, 3000 - 465)
    ]
    assert purses.rows(sewn, 'SELECT * FROM "Note"') == []


def test_planning_writes_nothing_and_a_second_run_finds_nothing(sewn: Database) -> None:
    before = purses.contents(sewn)
    purses.plan(sewn)
    assert purses.contents(sewn) == before
    purses.fill(sewn)
    after = purses.contents(sewn)
    again = purses.fill(sewn).run
    assert (again.state, again.planned, dict(again.excluded)) == ("verified", 0, {"filled": 30})
    assert purses.contents(sewn) == after


def test_a_unit_that_changed_since_the_plan_is_written_as_it_is_now(sewn: Database) -> None:
    run = purses.plan(sewn)
    purses.write(sewn, "UPDATE \"Purse\" SET coins = coins - 3 WHERE id = 'p000010'")
    purses.write(sewn, 'UPDATE "Lot" SET "left" = "left" - 3 WHERE id = \'l10a\'')
    run = purses.apply(sewn, run)
    assert run.applied == 35
    logged = 'SELECT before, after FROM "Log" WHERE "purseId" = \'p000010\''
    assert purses.rows(sewn, logged) == [(7, 100)]
    assert verifying.verify(purses.job, sewn, run).run.state == "verified"


def test_a_strict_unit_that_changed_since_the_plan_is_left_alone(sewn: Database) -> None:
    run = purses.plan(sewn, purses.strict)
    purses.write(sewn, "UPDATE \"Purse\" SET coins = 7 WHERE id = 'p000010'")
    run = purses.apply(sewn, run, purses.strict)
    assert (run.applied, run.conflicts) == (34, 1)
    found = 'SELECT coins, "filledAt" FROM "Purse" WHERE id = \'p000010\''
    assert purses.rows(sewn, found) == [(7, None)]


def test_a_unit_that_is_no_longer_due_is_left_alone(sewn: Database) -> None:
    run = purses.plan(sewn)
    purses.write(sewn, "UPDATE \"Purse\" SET \"filledAt\" = '2025-09-02' WHERE id = 'p000010'")
    purses.write(sewn, "UPDATE \"Note\" SET \"expiresAt\" = '2026-01-01' WHERE id = 'n1'")
    run = purses.apply(sewn, run)
    assert (run.applied, run.skipped, run.conflicts) == (33, 1, 1)
    assert purses.rows(sewn, 'SELECT id FROM "Note"') == [("n1",)]


def test_a_unit_that_the_database_refuses_fails_wholly_and_alone(sewn: Database) -> None:
    purses.write(sewn, 'ALTER TABLE "Log" ADD CHECK ("purseId" <> \'p000013\')')
    verification = purses.fill(sewn)
    run = verification.run
    assert (run.state, run.applied, run.failed) == ("partial", 34, 1)
    assert purses.rows(sewn, "SELECT coins FROM \"Purse\" WHERE id = 'p000013'") == [(13,)]
    found = 'SELECT sum("left") FROM "Lot" WHERE "purseId" = \'p000013\''
    assert purses.rows(sewn, found) == [(13,)]
    failures = reports.failures(purses.job, sewn, run, 10)
    assert [row["id"] for row in failures] == ["p000013"]


def test_a_trigger_that_changes_what_is_written_is_found_out(sewn: Database) -> None:
    purses.write(
        sewn,
        "CREATE FUNCTION tax() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.coins := NEW.coins - 1; RETURN NEW; END';"
        ' CREATE TRIGGER tax BEFORE UPDATE ON "Purse" FOR EACH ROW EXECUTE FUNCTION tax()',
    )
    trusting = replace(purses.someone, allowed_triggers=frozenset({"tax"}))
    run = purses.planning.plan(purses.job, sewn, purses.scope, trusting)
    run, failures = purses.applying.apply(purses.job, sewn, run, purses.Order(), frozenset({"tax"}))
    assert (run.applied, run.failed) == (5, 30)
    assert "could not be written as planned" in failures[1]


def test_a_rollback_gives_everything_back_and_keeps_the_log(sewn: Database) -> None:
    before = purses.contents(sewn)
    run = purses.fill(sewn).run
    verification = purses.undo(sewn, run)
    assert (verification.run.state, verification.run.applied) == ("verified", 35)
    assert purses.contents(sewn) == before
    assert purses.rows(sewn, 'SELECT count(*), sum(after - before) FROM "Log"') == [(60, 0)]
    assert runs.find(sewn, run.id).state == "rolled_back"


def test_a_rollback_keeps_what_others_added_to_a_counter(sewn: Database) -> None:
    run = purses.fill(sewn).run
    purses.write(sewn, "UPDATE \"Purse\" SET coins = coins + 5 WHERE id = 'p000010'")
    assert purses.undo(sewn, run).run.state == "verified"
    assert purses.rows(sewn, "SELECT coins FROM \"Purse\" WHERE id = 'p000010'") == [(15,)]
    logged = 'SELECT before, after FROM "Log" WHERE "purseId" = \'p000010\' ORDER BY after'
    assert purses.rows(sewn, logged) == [(105, 15), (10, 100)]


def test_bookkeeping_that_the_app_has_written_since_is_kept(sewn: Database) -> None:
    run = purses.fill(sewn).run
    purses.write(sewn, "UPDATE \"Purse\" SET \"updatedAt\" = '2025-09-09' WHERE id = 'p000010'")
    purses.undo(sewn, run)
    stamps = 'SELECT id, "updatedAt"::date::text FROM "Purse" ORDER BY id LIMIT 2 OFFSET 8'
    assert purses.rows(sewn, stamps) == [("p000009", "2025-08-01"), ("p000010", "2025-09-09")]


def test_a_unit_with_one_touched_row_stays_wholly_and_is_listed(sewn: Database) -> None:
    run = purses.fill(sewn).run
    purses.write(
        sewn, 'UPDATE "Lot" SET "left" = 50 WHERE "purseId" = \'p000010\' AND "left" = 100'
    )
    purses.write(sewn, "DELETE FROM \"Purse\" WHERE id = 'p000011'")
    purses.write(sewn, "INSERT INTO \"Note\" VALUES ('n1', NULL, NULL, now())")
    undone = purses.undo(sewn, run).run
    assert (undone.state, undone.planned, dict(undone.excluded)) == (
        "verified",
        32,
        {"touched": 1, "gone": 1, "taken": 1},
    )
    left = purses.undoing.left_alone(purses.job, sewn, undone)
    assert left == [("n1", "taken"), ("p000010", "touched"), ("p000011", "gone")]
    assert purses.rows(sewn, "SELECT coins FROM \"Purse\" WHERE id = 'p000010'") == [(100,)]


def test_a_deleted_row_whose_parent_has_gone_is_not_put_back(sewn: Database) -> None:
    run = purses.fill(sewn).run
    purses.write(sewn, "DELETE FROM \"Purse\" WHERE id = 'p000001'")
    undone = purses.undo(sewn, run).run
    assert dict(undone.excluded) == {"gone": 1, "parent_gone": 5}
    assert purses.rows(sewn, 'SELECT count(*) FROM "Note"') == [(0,)]


def test_a_row_touched_after_the_rollback_was_planned_stays(sewn: Database) -> None:
    run = purses.fill(sewn).run
    planned = purses.undoing.plan_rollback(purses.job, sewn, run, purses.someone)
    assert planned.planned == 35
    purses.write(
        sewn, 'UPDATE "Lot" SET "left" = 50 WHERE "purseId" = \'p000010\' AND "left" = 100'
    )
    undone = purses.undo(sewn, run).run
    assert (undone.applied, undone.conflicts) == (34, 1)


def test_a_recomputed_unit_is_undone_by_what_was_really_written(sewn: Database) -> None:
    run = purses.plan(sewn)
    purses.write(sewn, "UPDATE \"Purse\" SET coins = 7 WHERE id = 'p000010'")
    purses.write(sewn, 'UPDATE "Lot" SET "left" = 2 WHERE id = \'l10a\'')
    before = purses.contents(sewn)
    run = purses.apply(sewn, run)
    purses.undo(sewn, verifying.verify(purses.job, sewn, run).run)
    assert purses.contents(sewn) == before


def test_no_batch_is_about_two_parts(sewn: Database) -> None:
    run = purses.apply(sewn, purses.plan(sewn))
    batches = f"SELECT first, rows FROM maintenance.batch WHERE run_id = '{run.id}' ORDER BY 1"
    assert purses.rows(sewn, batches) == [(1, 8), (9, 8), (17, 8), (25, 6), (32, 5)]


def test_a_plan_of_units_that_was_tampered_with_is_refused(sewn: Database) -> None:
    run = purses.plan(sewn)
    purses.write(sewn, f"UPDATE maintenance.plan_{run.id}_note SET id = 'n9' WHERE id = 'n5'")
    with pytest.raises(Guarded, match="digest"):
        purses.apply(sewn, run)


def test_the_report_shows_the_facts_of_each_part(sewn: Database) -> None:
    report = reports.before(purses.job, sewn, purses.plan(sewn))
    assert "p000001" in report
    assert "n5" in report
    assert "**Coins**" in report


def test_rules_are_judged_where_nothing_was_planned_if_the_job_wants_it(sewn: Database) -> None:
    purses.fill(sewn)
    purses.write(sewn, "UPDATE \"Purse\" SET coins = 99 WHERE id = 'p000010'")
    judged = replace(purses.job, judged_when_empty=True)
    run = purses.plan(sewn, judged)
    assert (run.state, run.planned) == ("planned", 0)
    verification = verifying.verify(judged, sewn, purses.apply(sewn, run, judged))
    assert (verification.run.state, dict(verification.run.checks)["lots_add_up"]) == (
        "failed",
        False,
    )
    tables = f"SELECT count(*) FROM pg_tables WHERE tablename LIKE '%{run.id}%'"
    assert purses.rows(sewn, tables) == [(0,)]
    assert purses.fill(sewn).run.state == "verified"
