"""Guarantee 3: one bad row never stops the rest; it is found, recorded and tried again later."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine import applying, reports, runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy


def forbid(database: Database, condition: str, name: str = "house_rule") -> None:
    """A constraint that comes after the plan and that some of its rows break."""
    check = f'ALTER TABLE "Bed" ADD CONSTRAINT {name} CHECK (NOT ({condition})) NOT VALID'
    toy.write(database, check)


def allow(database: Database, name: str = "house_rule") -> None:
    toy.write(database, f'ALTER TABLE "Bed" DROP CONSTRAINT {name}')


ONE_ROW = "\"gardenId\" = 'g000006' AND slot = 3"


def test_only_the_row_at_fault_fails_and_the_run_is_partial(gardens: Database) -> None:
    run = toy.plan(gardens)
    forbid(gardens, ONE_ROW)
    left = toy.apply(gardens, run)
    assert (left.state, left.applied, left.failed) == ("partial", 29, 1)
    assert toy.beds(gardens) == 49


def test_each_failed_row_is_recorded_with_its_key_and_the_databases_error(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    forbid(gardens, ONE_ROW)
    left, failures = applying.apply(toy.job, gardens, run, toy.now)
    message = 'new row for relation "Bed" violates check constraint "house_rule"'
    assert failures == {8: message}
    assert reports.failures(toy.job, gardens, left, 10) == [
        {"position": 8, "gardenId": "g000006", "slot": 3, "sqlstate": "23514", "error": message}
    ]


@pytest.mark.parametrize("condition", ["slot = 1", "slot IN (1, 5)", "slot <> 3"])
def test_bad_rows_in_every_batch_are_found_one_by_one(gardens: Database, condition: str) -> None:
    run = toy.plan(gardens)
    forbid(gardens, condition)
    left = toy.apply(gardens, run)
    (bad,) = toy.rows(
        gardens,
        f"SELECT count(*) FROM maintenance.plan_{run.id}, LATERAL"
        f" (SELECT new_slot AS slot) s WHERE {condition}",
    )
    assert (left.state, left.failed, left.applied) == ("partial", bad[0], 30 - bad[0])
    assert toy.rows(gardens, f"SELECT 1 FROM \"Bed\" WHERE {condition} AND id LIKE 'b%-%'") == []


def test_a_run_of_which_every_row_fails_has_failed(gardens: Database) -> None:
    run = toy.plan(gardens)
    forbid(gardens, "true")
    left = toy.apply(gardens, run)
    assert (left.state, left.failed, left.applied) == ("failed", 30, 0)
    assert toy.finish(gardens, toy.plan(gardens)).run.state == "failed"
    allow(gardens)
    assert toy.backfill(gardens).run.state == "verified"


def test_verification_of_a_partial_run_says_what_is_missing_and_leaves_it_partial(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    forbid(gardens, ONE_ROW)
    verification = toy.finish(gardens, run)
    broken = [name for name, held in toy.checks(verification).items() if not held]
    assert broken == ["nothing_left_missing"]
    assert verification.run.state == "partial"


def test_resuming_a_partial_run_tries_its_failed_rows_again(gardens: Database) -> None:
    run = toy.plan(gardens)
    forbid(gardens, "slot IN (2, 4)")
    assert toy.finish(gardens, run).run.failed == 12
    allow(gardens)
    forbid(gardens, ONE_ROW.replace("slot = 3", "slot = 4"))
    again = toy.finish(gardens, runs.find(gardens, run.id)).run
    assert (again.state, again.applied, again.failed) == ("partial", 29, 1)
    allow(gardens)
    last = toy.finish(gardens, again).run
    assert (last.state, last.applied, last.failed) == ("verified", 30, 0)
    assert toy.beds(gardens) == 50


def test_a_failed_row_that_the_app_adds_itself_is_skipped_on_resuming(gardens: Database) -> None:
    run = toy.plan(gardens)
    forbid(gardens, ONE_ROW)
    toy.finish(gardens, run)
    allow(gardens)
    toy.write(
        gardens,
        """INSERT INTO "Bed" VALUES ('theirs', 'g000006', 3, true, '2025-09-01', 'by hand')""",
    )
    last = toy.finish(gardens, runs.find(gardens, run.id)).run
    assert (last.state, last.applied, last.skipped, last.failed) == ("verified", 29, 1, 0)


def test_a_row_that_fails_only_at_commit_is_found_too(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(
        gardens,
        """
        CREATE TABLE "Licence" ("gardenId" text, slot int, PRIMARY KEY ("gardenId", slot));
        INSERT INTO "Licence" SELECT g.id, s FROM "Garden" g, generate_series(1, 5) s
            WHERE NOT (g.id = 'g000009' AND s = 2);
        ALTER TABLE "Bed" ADD FOREIGN KEY ("gardenId", slot) REFERENCES "Licence"
            DEFERRABLE INITIALLY DEFERRED
        """,
    )
    left, failures = applying.apply(toy.job, gardens, run, toy.now)
    assert (left.state, left.applied, left.failed) == ("partial", 29, 1)
    assert "foreign key" in failures[22]


def test_a_row_that_takes_too_long_fails_alone(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    toy.write(
        gardens,
        """
        CREATE FUNCTION slow(garden text, slot int) RETURNS boolean LANGUAGE sql IMMUTABLE
            RETURN CASE WHEN garden = 'g000005' AND slot = 1
                THEN pg_sleep(9) IS NOT NULL ELSE true END;
        ALTER TABLE "Bed" ADD CONSTRAINT quick CHECK (slow("gardenId", slot)) NOT VALID
        """,
    )
    hasty = make_database(
        app_url, toy.Limits(batch_timeout_s=1, batch_rows=2, granule_rows=2, attempts=2)
    )
    left, failures = applying.apply(toy.job, hasty, run, toy.now)
    assert (left.state, left.applied, left.failed) == ("partial", 29, 1)
    assert failures == {1: "canceling statement due to statement timeout"}


def test_a_parent_that_has_gone_is_a_conflict_and_no_failure(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, "DELETE FROM \"Garden\" WHERE id = 'g000010'")
    verification = toy.finish(gardens, run)
    left = verification.run
    assert (left.state, left.applied, left.conflicts, left.failed) == ("verified", 25, 5, 0)


def test_no_value_and_no_address_of_a_person_stands_in_a_recorded_error(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    toy.write(
        gardens,
        """
        CREATE FUNCTION telltale(slot int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
            $$BEGIN IF slot = 5 THEN RAISE 'no bed for jo@example.org' USING DETAIL = 'secret';
              END IF; RETURN true; END$$;
        ALTER TABLE "Bed" ADD CONSTRAINT discreet CHECK (telltale(slot)) NOT VALID
        """,
    )
    _, failures = applying.apply(toy.job, gardens, run, toy.now)
    assert set(failures.values()) == {"no bed for <e-mail>"}
    errors = toy.rows(gardens, "SELECT DISTINCT error FROM maintenance.exception")
    assert errors == [("no bed for <e-mail>",)]


def test_a_batch_uses_no_savepoints(gardens: Database) -> None:
    statements: list[str] = []
    toy.sa.event.listen(
        gardens.engine,
        "before_cursor_execute",
        lambda conn, cursor, statement, *rest: statements.append(statement.upper()),
    )
    run = toy.plan(gardens)
    forbid(gardens, ONE_ROW)
    toy.apply(gardens, run)
    assert statements
    assert not [s for s in statements if "SAVEPOINT" in s]


def test_a_database_error_that_is_about_no_row_stops_the_run(gardens: Database) -> None:
    run = toy.plan(gardens)

    def migrate(done: int, total: int) -> None:
        toy.write(gardens, 'ALTER TABLE "Bed" RENAME COLUMN watered TO wet')

    with pytest.raises(toy.sa.exc.ProgrammingError):
        toy.apply(gardens, run, progress=migrate)
    left = runs.find(gardens, run.id)
    assert (left.state, left.applied, left.failed) == ("interrupted", 20, 0)
    assert left.error == 'column "watered" of relation "Bed" does not exist'
    toy.write(gardens, 'ALTER TABLE "Bed" RENAME COLUMN wet TO watered')
    assert toy.backfill(gardens).run.id == run.id
    assert toy.beds(gardens) == 50


def test_a_rehearsal_finds_the_rows_that_would_fail_and_writes_nothing(gardens: Database) -> None:
    run = toy.plan(gardens)
    forbid(gardens, "slot = 4")
    before = toy.snapshot(gardens)
    left, failures = applying.apply(toy.job, gardens, run, toy.Order(rehearse=True))
    assert sorted(failures) == [4, 9, 14, 19, 24, 29]
    assert (left.state, left.applied, left.failed) == ("planned", 0, 0)
    assert toy.snapshot(gardens) == before
    allow(gardens)
    assert toy.finish(gardens, left).run.state == "verified"


def test_a_rehearsal_finds_what_would_fail_only_at_commit(gardens: Database) -> None:
    toy.write(
        gardens,
        """
        CREATE TABLE "Licence" (slot int PRIMARY KEY);
        INSERT INTO "Licence" SELECT generate_series(1, 4);
        DELETE FROM "Bed" WHERE slot = 5;
        ALTER TABLE "Bed" ADD FOREIGN KEY (slot) REFERENCES "Licence"
            DEFERRABLE INITIALLY DEFERRED
        """,
    )
    run = toy.plan(gardens)
    _, failures = applying.apply(toy.job, gardens, run, toy.Order(rehearse=True))
    assert len(failures) == 10
    assert toy.rows(gardens, 'SELECT count(*) FROM "Bed"') == [(16,)]
