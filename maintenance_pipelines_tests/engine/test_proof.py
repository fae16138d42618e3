"""Guarantee 7: what PostgreSQL itself counted in a transaction is what was planned, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import applying, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.proof import (
    ProofFailed,
    Reading,
    demand_exactly,
    demand_nothing_written,
)
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.sessions import holding

LOG = 'CREATE TABLE "Log" (n int); INSERT INTO "Log" VALUES (0);'
BODIES = {
    "writes elsewhere": 'INSERT INTO "Log" VALUES (1)',
    "updates elsewhere": 'UPDATE "Log" SET n = n + 1',
    "deletes elsewhere": 'DELETE FROM "Log"',
    "adds a row": 'INSERT INTO "Bed" SELECT gen_random_uuid(), NEW."gardenId", NEW.slot + 1000,'
    " true, now(), NULL WHERE NEW.slot < 1000",
    "updates a row": 'UPDATE "Bed" SET watered = true WHERE id = NEW.id',
    "deletes a row": 'DELETE FROM "Bed" WHERE "gardenId" = \'g000001\'',
}


def install_trigger(database: Database, body: str, kind: str = "TRIGGER", when: str = "") -> None:
    """A trigger of the app's that fires after each row it gets."""
    toy.write(
        database,
        f"""
        CREATE FUNCTION reacts() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN {body}; RETURN NEW; END$$;
        CREATE {kind} reaction AFTER INSERT ON "Bed" {when} FOR EACH ROW EXECUTE FUNCTION reacts()
        """,
    )


def once(act: Callable[[], None]) -> Callable[[int, int], None]:
    """A progress callback that acts after the first batch only."""
    acts = iter([act])

    def after_batch(done: int, total: int) -> None:
        next(acts, lambda: None)()

    return after_batch


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_trigger_that_does_more_than_was_planned_is_caught_and_rolled_back(
    gardens: Database, body: str
) -> None:
    toy.write(gardens, LOG)
    run = toy.plan(gardens)
    with pytest.raises(ProofFailed, match="the batch was rolled back"):
        toy.apply(gardens, run, progress=once(lambda: install_trigger(gardens, body)))
    left = runs.find(gardens, run.id)
    assert (left.state, left.applied) == ("interrupted", 20)
    assert "The database counted" in str(left.error)
    assert toy.beds(gardens) == 40
    assert toy.rows(gardens, 'SELECT n FROM "Log"') == [(0,)]


def test_a_trigger_deferred_to_the_commit_is_caught_too(gardens: Database) -> None:
    toy.write(gardens, LOG)
    run = toy.plan(gardens)
    defer = once(
        lambda: install_trigger(
            gardens,
            BODIES["writes elsewhere"],
            "CONSTRAINT TRIGGER",
            "DEFERRABLE INITIALLY DEFERRED",
        )
    )
    with pytest.raises(ProofFailed):
        toy.apply(gardens, run, progress=defer)
    assert toy.beds(gardens) == 40
    assert toy.rows(gardens, 'SELECT n FROM "Log"') == [(0,)]


def test_a_batch_rolled_back_by_the_proof_is_written_once_the_trigger_is_gone(
    gardens: Database,
) -> None:
    toy.write(gardens, LOG)
    run = toy.plan(gardens)
    with pytest.raises(ProofFailed):
        toy.apply(
            gardens, run, progress=once(lambda: install_trigger(gardens, BODIES["adds a row"]))
        )
    toy.write(gardens, "DROP FUNCTION reacts CASCADE")
    verification = toy.backfill(gardens)
    assert (verification.run.id, verification.run.state) == (run.id, "verified")
    assert toy.beds(gardens) == 50


def test_a_trigger_that_quietly_drops_a_row_leaves_it_unwritten_and_known(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    swallow = """
        CREATE FUNCTION swallows() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN IF NEW.slot = 2 THEN RETURN NULL; END IF; RETURN NEW; END$$;
        CREATE TRIGGER swallow BEFORE INSERT ON "Bed" FOR EACH ROW EXECUTE FUNCTION swallows()
        """
    left = toy.apply(gardens, run, progress=once(lambda: toy.write(gardens, swallow)))
    assert left.applied == toy.beds(gardens) - 20 == 28
    assert left.applied + left.conflicts + left.skipped + left.failed == 30


def test_triggers_of_the_apps_are_refused_by_name_before_anything_is_written(
    gardens: Database,
) -> None:
    toy.write(gardens, LOG)
    install_trigger(gardens, BODIES["writes elsewhere"])
    with pytest.raises(Misconfigured, match="reaction; allow each by name"):
        toy.plan(gardens)
    assert toy.rows(gardens, "SELECT to_regnamespace('maintenance')::text") == [(None,)]


def test_a_disabled_trigger_and_one_on_other_statements_are_no_obstacle(
    gardens: Database,
) -> None:
    toy.write(gardens, LOG)
    install_trigger(gardens, BODIES["writes elsewhere"])
    toy.write(
        gardens,
        """
        ALTER TABLE "Bed" DISABLE TRIGGER reaction;
        CREATE TRIGGER on_update AFTER UPDATE ON "Bed" FOR EACH ROW EXECUTE FUNCTION reacts()
        """,
    )
    assert toy.backfill(gardens).run.state == "verified"


@pytest.mark.parametrize("kind", ["writes elsewhere", "adds a row", "updates a row"])
def test_what_allowed_triggers_write_is_accounted_to_them(gardens: Database, kind: str) -> None:
    toy.write(gardens, LOG)
    install_trigger(gardens, BODIES[kind])
    allowed = frozenset({"reaction"})
    run = toy.plan(gardens, allowed_triggers=allowed)
    left, _ = applying.apply(toy.job, gardens, run, toy.now, allowed_triggers=allowed)
    assert (left.state, left.applied) == ("applied", 30)
    if kind == "writes elsewhere":
        assert toy.rows(gardens, 'SELECT count(*) FROM "Log"') == [(31,)]
        assert verifying.verify(toy.job, gardens, left).run.state == "verified"


def test_counts_of_the_sessions_earlier_transactions_do_not_count(gardens: Database) -> None:
    toy.write(gardens, "UPDATE \"Bed\" SET notes = 'x'")
    toy.write(gardens, 'CREATE TABLE "Other" AS SELECT 1 AS n')
    toy.write(gardens, 'INSERT INTO "Other" VALUES (2)')
    with gardens.transaction() as connection:
        # PostgreSQL flushes its counters at most once a second: they are all still there.
        assert Reading.take(connection).tables
    assert toy.backfill(gardens).run.state == "verified"


def test_a_lost_race_for_a_key_is_counted_as_nothing_written(gardens: Database) -> None:
    with gardens.transaction() as connection:
        before = Reading.take(connection)
        # A speculative insert that finds its key taken is counted as inserted and deleted.
        connection.execute(
            sa.text(
                "INSERT INTO \"Bed\" VALUES ('x', 'g000010', 5, false, now(), NULL);"
                " DELETE FROM \"Bed\" WHERE id = 'x';"
                " INSERT INTO \"Bed\" VALUES ('y', 'g000010', 4, false, now(), NULL)"
            )
        )
        counted = demand_exactly(connection, before, {"public.Bed": (1, 0, 0)}, False)
        assert counted == {"public.Bed": (1, 0, 0)}


def test_deleting_a_row_that_was_there_is_no_lost_race(gardens: Database) -> None:
    with gardens.transaction() as connection:
        before = Reading.take(connection)
        connection.execute(
            sa.text(
                'DELETE FROM "Bed" WHERE "gardenId" = \'g000001\' AND slot = 1;'
                " INSERT INTO \"Bed\" VALUES ('y', 'g000010', 4, false, now(), NULL)"
            )
        )
        with pytest.raises(ProofFailed):
            demand_exactly(connection, before, {"public.Bed": (1, 0, 0)}, False)


def test_fewer_rows_than_planned_are_a_failed_proof_even_with_allowed_triggers(
    gardens: Database,
) -> None:
    with gardens.transaction() as connection:
        before = Reading.take(connection)
        for allowed in (False, True):
            with pytest.raises(ProofFailed):
                demand_exactly(connection, before, {"public.Bed": (1, 0, 0)}, allowed)


def test_any_write_outside_the_ledger_is_seen(gardens: Database) -> None:
    toy.backfill(gardens)
    with gardens.transaction() as connection:
        before = Reading.take(connection)
        connection.execute(sa.text("UPDATE maintenance.run SET seconds = 1"))
        demand_nothing_written(connection, before)
        connection.execute(sa.text("UPDATE \"Garden\" SET slots = 9 WHERE id = 'g000001'"))
        with pytest.raises(ProofFailed, match=r"public\.Garden: 0 inserted, 1 updated, 0 deleted"):
            demand_nothing_written(connection, before)


def test_a_server_that_does_not_count_is_refused(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    toy.write(
        gardens,
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off',"
        " current_database()); END$$",
    )
    with pytest.raises(Misconfigured, match="track_counts"):
        toy.plan(make_database(app_url, toy.SMALL))


def test_a_partitioned_table_is_counted_as_one(make_database: MakeDatabase, app_url: str) -> None:
    database = make_database(app_url, toy.SMALL)
    toy.write(
        database,
        """
        CREATE TABLE "Bed" (id text, "gardenId" text NOT NULL, slot int, watered boolean NOT NULL
            DEFAULT false, "updatedAt" timestamp NOT NULL, notes text,
            PRIMARY KEY (id, slot), UNIQUE ("gardenId", slot)) PARTITION BY RANGE (slot);
        CREATE TABLE front PARTITION OF "Bed" FOR VALUES FROM (1) TO (3);
        CREATE TABLE back PARTITION OF "Bed" FOR VALUES FROM (3) TO (9)
        """,
    )
    toy.plant(database, 10, 5, 4)
    verification = toy.backfill(database)
    assert (verification.run.state, verification.run.applied) == ("verified", 30)
    assert toy.undo(database, verification.run).run.state == "verified"


def test_the_ledger_keeps_what_postgresql_counted(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    counted = toy.rows(
        gardens,
        "SELECT first, rows, applied, inserted, updated, deleted FROM maintenance.batch"
        f" WHERE run_id = '{run.id}' ORDER BY first",
    )
    assert counted == [(1, 20, 20, 20, 0, 0), (21, 10, 10, 10, 0, 0)]


def test_a_race_lost_to_the_app_is_accounted_for(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    patient = make_database(app_url, toy.Limits(lock_timeout_ms=700))
    # The app's row is not committed when the job looks, and is when the job writes.
    theirs = """INSERT INTO "Bed" VALUES ('a', 'g000005', 1, true, '2025-09-01', 'theirs')"""
    with holding(app_url, theirs) as app:
        later = threading.Timer(0.2, app.commit)
        later.start()
        left = toy.apply(patient, run)
        later.join()
    assert (left.applied, left.skipped) == (29, 1)
    assert verifying.verify(toy.job, patient, left).run.state == "verified"
