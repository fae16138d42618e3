"""Several batches at once: the same end as one after the other, and one halt for all."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import applying, runs
from maintenance_pipelines.engine.crew import Crew
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.plans import Span
from maintenance_pipelines.engine.proof import ProofFailed
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.sessions import holding

PAIR = replace(toy.SMALL, workers=2, batch_rows=5, attempts=2)


@pytest.fixture
def pair(make_database: MakeDatabase, gardens: Database, app_url: str) -> Database:
    """The gardens, with two workers and six batches of a garden each."""
    return make_database(app_url, PAIR)


def at_insert(database: Database, act: object) -> None:
    """Calls `act` in every worker just before it writes."""
    assert callable(act)

    def listen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith('INSERT INTO public."Bed"'):
            act()

    sa.event.listen(database.engine, "before_cursor_execute", listen)


def test_two_batches_are_written_at_the_same_time(pair: Database) -> None:
    run = toy.plan(pair)
    meeting = threading.Barrier(2, timeout=10)
    at_insert(pair, meeting.wait)
    assert toy.apply(pair, run).state == "applied"


def test_two_workers_end_as_one_does(pair: Database) -> None:
    run = toy.plan(pair)
    toy.write(pair, 'ALTER TABLE "Bed" ADD CHECK (slot <> 2) NOT VALID')
    left, failures = applying.apply(toy.job, pair, run, toy.now)
    assert (left.state, left.applied, left.failed) == ("partial", 24, 6)
    assert sorted(failures) == [2, 7, 12, 17, 22, 27]


def test_one_worker_waits_for_a_lock_while_the_other_goes_on(pair: Database, app_url: str) -> None:
    run = toy.plan(pair)
    with holding(app_url, "SELECT FROM \"Garden\" WHERE id = 'g000005' FOR UPDATE"):
        left = toy.apply(pair, run)
    assert (left.state, left.applied) == ("partial", 25)
    assert toy.finish(pair, left).run.state == "verified"


def test_ctrl_c_breaks_off_every_batch_under_way(
    make_database: MakeDatabase, pair: Database, app_url: str
) -> None:
    run = toy.plan(pair)
    patient = make_database(app_url, replace(PAIR, lock_timeout_ms=700, attempts=9))
    told: list[float] = []

    def press(done: int, total: int) -> None:
        told.append(time.monotonic())
        raise KeyboardInterrupt

    with (
        holding(app_url, "SELECT FROM \"Garden\" WHERE id = 'g000005' FOR UPDATE"),
        pytest.raises(KeyboardInterrupt),
    ):
        toy.apply(patient, run, progress=press)
    assert time.monotonic() - told[0] < 0.5
    left = runs.find(pair, run.id)
    assert (left.state, left.applied) == ("paused", 5)
    assert toy.beds(pair) == 25
    assert toy.finish(pair, left).run.state == "verified"


def test_ctrl_c_stays_ctrl_c_when_a_connection_has_ended_just_then(pair: Database) -> None:
    crew = Crew(1)

    def press(span: Span) -> None:
        raise KeyboardInterrupt

    connection = pair.engine.connect()
    with crew.at(connection), pytest.raises(KeyboardInterrupt):
        connection.close()
        crew.work_off([Span(1, 1)], press, lambda: None)
    assert crew.halted


def test_a_pause_lets_the_batches_under_way_come_to_their_end(pair: Database) -> None:
    run = toy.plan(pair)
    left = toy.apply(pair, run, progress=lambda *_: runs.request_pause(pair, run.id))
    assert left.state == "paused"
    assert left.applied == toy.beds(pair) - 20
    assert left.applied % 5 == 0
    assert toy.finish(pair, left).run.applied == 30


def test_what_one_worker_runs_into_stops_the_others_and_loses_nothing(pair: Database) -> None:
    toy.write(pair, 'CREATE TABLE "Log" (n int)')
    run = toy.plan(pair)
    spy = """
        CREATE FUNCTION spies() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO "Log" VALUES (1); RETURN NEW; END$$;
        CREATE TRIGGER spy AFTER INSERT ON "Bed" FOR EACH ROW EXECUTE FUNCTION spies()
        """
    installed: list[bool] = []

    def install(done: int, total: int) -> None:
        if not installed:
            installed.append(True)
            patient = Database(pair.engine, pair.schema, replace(PAIR, lock_timeout_ms=700))
            toy.write(patient, spy)

    with pytest.raises(ProofFailed):
        toy.apply(pair, run, progress=install)
    left = runs.find(pair, run.id)
    assert left.state == "interrupted"
    assert left.applied == toy.beds(pair) - 20
    assert toy.rows(pair, 'SELECT count(*) FROM "Log"') == [(0,)]
    toy.write(pair, "DROP FUNCTION spies CASCADE")
    assert toy.backfill(pair).run.state == "verified"
