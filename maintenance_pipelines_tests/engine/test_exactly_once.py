"""Guarantee 4: killed at any moment and run again, the end is that of one undisturbed run."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs, verifying
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.refusals import Unreachable
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.processes import Worker
from maintenance_pipelines_tests.engine.sessions import holding, terminate
from maintenance_pipelines_tests.support.clusters import ThrowawayCluster

GARDENS, SLOTS, MISSING = 24, 5, 100
PATIENT = replace(toy.SMALL, lock_timeout_ms=700)
MANY_BATCHES = Limits(lock_timeout_ms=100, batch_rows=10, granule_rows=5, attempts=4)


def plant(database: Database) -> None:
    toy.plant(database, GARDENS, SLOTS, 4)


def demand_the_end_of_one_undisturbed_run(database: Database) -> None:
    """Every row once, every row accounted for once, nothing of the broken attempts left."""
    opened = (toy.AS_OF - toy.timedelta(days=30)).replace(tzinfo=None)
    expected = [
        (f"g{g:06}", slot, False, opened if g <= 4 else toy.AS_OF.replace(tzinfo=None), None)
        for g in range(1, GARDENS + 1)
        for slot in range(1, SLOTS + 1)
    ]
    assert toy.contents(database) == expected
    # Plans that were killed before their first batch may remain: the next run made its own.
    planned = [run for run in runs.history(database) if run.planned]
    done = [run for run in planned if run.state != "planned"]
    assert [(r.state, r.planned, r.applied) for r in done] == [("verified", MISSING, MISSING)]
    (plan,) = toy.rows(
        database,
        f"SELECT count(*), count(b.id) FROM maintenance.plan_{done[0].id} p"
        ' LEFT JOIN "Bed" b ON b.id = p.new_id',
    )
    assert plan == (MISSING, MISSING)
    tables = toy.rows(database, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'plan_%'")
    assert tables == [(len(planned),)]


def how_long_it_takes(url: str) -> float:
    """Seconds of one undisturbed run, process start left out."""
    worker = Worker(url, MANY_BATCHES)
    begun = time.monotonic()
    worker.go()
    assert worker.verdict() == "verified"
    return time.monotonic() - begun


def kill_again_and_again(database: Database, url: str, chance: random.Random, whole: float) -> int:
    """Starts the job and kills it, until one comes to its end; returns how many died."""
    died = 0
    while True:
        worker = Worker(url, MANY_BATCHES)
        worker.go()
        time.sleep(chance.uniform(0, whole))
        worker.kill()
        died += 1
        newest = next(iter(runs.history(database, limit=1)), None)
        if newest is not None and newest.state == "verified":
            return died


def killed_processes(make_database: MakeDatabase, make_url: object, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    assert callable(make_url)
    url = make_url()
    plant(make_database(url, MANY_BATCHES))
    whole = how_long_it_takes(url)
    while kills > 0:
        url = make_url()
        database = make_database(url, MANY_BATCHES)
        plant(database)
        kills -= kill_again_and_again(database, url, chance, whole)
        assert toy.plan(database).planned == 0
        demand_the_end_of_one_undisturbed_run(database)


def test_a_job_killed_at_random_moments_ends_as_if_undisturbed(
    make_database: MakeDatabase, make_url: object
) -> None:
    killed_processes(make_database, make_url, 20, seed=4)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_a_job_killed_hundreds_of_times_ends_as_if_undisturbed(
    make_database: MakeDatabase, make_url: object, seed: int
) -> None:
    killed_processes(make_database, make_url, 100, seed)


def test_a_killed_run_is_known_as_interrupted_and_finished_first(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, MANY_BATCHES)
    plant(database)
    worker = Worker(app_url, MANY_BATCHES)
    worker.go()
    assert worker.answer() == worker.answer() == "batch"
    worker.kill()
    (run,) = runs.history(database)
    assert run.state == "interrupted"
    assert 20 <= run.applied < MISSING
    again = toy.plan(database, dagster_run_id="again")
    assert again.id == run.id
    assert runs.find(database, run.id).dagster_run_id == "again"
    assert toy.finish(database, again).run.state == "verified"
    demand_the_end_of_one_undisturbed_run(database)


def test_a_run_killed_before_its_verification_is_only_verified(gardens: Database) -> None:
    applied = toy.apply(gardens, toy.plan(gardens))
    again = toy.plan(gardens)
    assert (again.id, again.state) == (applied.id, "applied")
    before = toy.snapshot(gardens)
    assert toy.finish(gardens, again).run.state == "verified"
    assert toy.snapshot(gardens) == before


def test_a_connection_terminated_in_the_middle_of_a_batch_costs_nothing(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    patient = make_database(app_url, PATIENT)
    ended: list[int] = []

    def cut(app: sa.Connection) -> None:
        ended.append(terminate(gardens))
        app.rollback()

    with holding(app_url, "SELECT FROM \"Garden\" WHERE id = 'g000007' FOR UPDATE") as app:
        # The batch has inserted ten rows and waits for the parent of the eleventh.
        later = threading.Timer(0.2, cut, [app])
        later.start()
        left = toy.apply(patient, run)
        later.join()
    assert ended[0] > 0
    assert (left.state, left.applied) == ("applied", 30)
    assert toy.finish(patient, left).run.state == "verified"
    assert toy.beds(patient) == 50


def test_connections_terminated_after_every_batch_cost_nothing(gardens: Database) -> None:
    left = toy.apply(gardens, toy.plan(gardens), progress=lambda *_: terminate(gardens))
    assert (left.state, left.applied) == ("applied", 30)
    assert toy.finish(gardens, left).run.state == "verified"


def test_connections_terminated_all_the_while_cost_nothing(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, Limits(batch_rows=5, granule_rows=5, attempts=20))
    plant(database)
    run = toy.plan(database)
    chance, over = random.Random(1), threading.Event()

    def vandal() -> None:
        while not over.wait(chance.uniform(0.05, 0.4)):
            terminate(database)

    thread = threading.Thread(target=vandal)
    thread.start()
    try:
        left = toy.apply(database, run)
    finally:
        over.set()
        thread.join()
    assert left.state == "applied"
    verifying.verify(toy.job, database, left)
    demand_the_end_of_one_undisturbed_run(database)


def test_a_batch_committed_although_its_answer_was_lost_is_not_written_again(
    gardens: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy.plan(gardens)
    commit = sa.engine.default.DefaultDialect.do_commit
    lost: list[bool] = []

    def loses_the_answer(dialect: sa.engine.default.DefaultDialect, connection: Any) -> None:
        commit(dialect, connection)  # type: ignore[no-untyped-call]
        if writes and not lost:
            lost.append(True)
            connection.dbapi_connection.close()
            raise sa.exc.OperationalError("COMMIT", None, Exception("gone"), False, True)

    writes: list[str] = []
    sa.event.listen(
        gardens.engine,
        "before_cursor_execute",
        lambda c, cursor, statement, *rest: (
            writes.append(statement) if 'INSERT INTO public."Bed"' in statement else None
        ),
    )
    monkeypatch.setattr(type(gardens.engine.dialect), "do_commit", loses_the_answer)
    left = toy.apply(gardens, run)
    assert lost
    assert (left.state, left.applied) == ("applied", 30)
    assert toy.finish(gardens, left).run.state == "verified"


def test_a_granule_that_another_session_still_holds_is_not_taken_for_done(
    gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    # What is left of a process that lost its connection: its session, still at work.
    with holding(app_url, "SELECT FROM maintenance.granule WHERE first = 21 FOR UPDATE"):
        left = toy.apply(gardens, run)
        assert (left.state, left.applied) == ("partial", 25)
    assert toy.finish(gardens, left).run.state == "verified"


def survive_the_death_of_the_server(
    own_server: ThrowawayCluster, make_database: MakeDatabase, chance: random.Random, deaths: int
) -> None:
    own_server.create("app")
    url = own_server.url("app")
    plant(make_database(url, MANY_BATCHES))
    for _ in range(deaths):
        database = make_database(url, MANY_BATCHES)
        worker = Worker(url, MANY_BATCHES)
        worker.go()
        time.sleep(chance.uniform(0, 0.5))
        own_server.kill()
        own_server.restart()
        worker.kill()
    database = make_database(url, MANY_BATCHES)
    toy.backfill(database)
    demand_the_end_of_one_undisturbed_run(database)


def test_a_server_killed_in_the_middle_costs_nothing(
    own_server: ThrowawayCluster, make_database: MakeDatabase
) -> None:
    survive_the_death_of_the_server(own_server, make_database, random.Random(2), 2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_server_killed_again_and_again_costs_nothing(
    own_server: ThrowawayCluster, make_database: MakeDatabase
) -> None:
    survive_the_death_of_the_server(own_server, make_database, random.Random(3), 30)


def test_a_server_that_comes_back_soon_is_waited_for(
    own_server: ThrowawayCluster, make_database: MakeDatabase
) -> None:
    own_server.create("app")
    limits = Limits(batch_rows=5, granule_rows=5, workers=1)
    database = make_database(own_server.url("app"), limits)
    plant(database)
    run = toy.plan(database)
    crashes = iter([40])

    def crash(done: int, total: int) -> None:
        if done == next(crashes, None):
            own_server.kill()
            threading.Timer(0.3, own_server.restart).start()

    assert toy.apply(database, run, progress=crash).state == "applied"
    verifying.verify(toy.job, database, runs.find(database, run.id))
    demand_the_end_of_one_undisturbed_run(database)


def test_a_server_that_stays_away_is_reported_as_unreachable(
    own_server: ThrowawayCluster, make_database: MakeDatabase
) -> None:
    own_server.create("app")
    database = make_database(own_server.url("app"), toy.SMALL)
    toy.plant(database, 10, 5, 4)
    run = toy.plan(database)
    with pytest.raises(Unreachable):
        toy.apply(database, run, progress=lambda *_: own_server.kill())
    own_server.restart()


def test_detection_that_is_killed_leaves_no_plan(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    ledger.install(gardens)
    patient = make_database(app_url, PATIENT)
    with holding(app_url, 'LOCK TABLE "Garden"'):
        # Detection waits for the table until its session is terminated.
        later = threading.Timer(0.2, terminate, [gardens])
        later.start()
        with pytest.raises(sa.exc.OperationalError, match="terminating connection"):
            toy.plan(patient)
        later.join()
    assert toy.rows(patient, "SELECT 1 FROM pg_tables WHERE tablename LIKE 'plan_%'") == []
    assert toy.backfill(patient).run.state == "verified"
