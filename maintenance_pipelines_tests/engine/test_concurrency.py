"""Guarantee 6: safe beside the app and beside itself."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import applying, runs
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.processes import Worker
from maintenance_pipelines_tests.engine.sessions import holding, meanwhile


def add(garden: str, slot: int, watered: bool = True) -> str:
    """The app's own insert, which waits its turn and leaves a bed that is there alone."""
    return (
        f"INSERT INTO \"Bed\" VALUES (gen_random_uuid(), '{garden}', {slot}, {watered},"
        " '2025-09-01', 'theirs') ON CONFLICT DO NOTHING"
    )


def test_rows_that_the_app_adds_after_detection_are_left_as_they_are(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, add("g000007", 3))
    theirs = set(toy.snapshot(gardens))
    verification = toy.finish(gardens, run)
    left = verification.run
    assert (left.state, left.applied, left.skipped + left.conflicts) == ("verified", 29, 1)
    assert theirs <= set(toy.snapshot(gardens))


def test_a_row_of_the_apps_that_is_already_there_is_skipped(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, add("g000007", 3))
    assert (toy.apply(gardens, run).skipped, runs.find(gardens, run.id).conflicts) == (1, 0)


def test_a_row_whose_reason_has_gone_is_a_conflict(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, "UPDATE \"Garden\" SET slots = 3 WHERE id = 'g000007'")
    toy.write(gardens, "UPDATE \"Garden\" SET \"openedAt\" = '2026-01-01' WHERE id = 'g000009'")
    left = toy.apply(gardens, run)
    assert (left.state, left.applied, left.conflicts, left.skipped) == ("applied", 23, 7, 0)


@pytest.mark.parametrize("batch", [1, 20])
def test_a_row_that_the_app_is_about_to_commit_is_waited_for_and_skipped(
    make_database: MakeDatabase, gardens: Database, app_url: str, batch: int
) -> None:
    limits = replace(toy.SMALL, lock_timeout_ms=700, batch_rows=batch, granule_rows=batch)
    patient = make_database(app_url, limits)
    run = toy.plan(patient)
    with holding(app_url, add("g000007", 3)) as app:
        later = threading.Timer(0.4, app.commit)
        later.start()
        left = toy.apply(patient, run)
        later.join()
    assert (left.state, left.applied, left.skipped) == ("applied", 29, 1)


def test_a_row_that_the_app_does_not_commit_after_all_is_added(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    patient = make_database(app_url, Limits(lock_timeout_ms=700))
    with holding(app_url, add("g000007", 3)) as app:
        later = threading.Timer(0.2, app.rollback)
        later.start()
        left = toy.apply(patient, run)
        later.join()
    assert (left.state, left.applied, left.skipped) == ("applied", 30, 0)


def test_a_locked_row_is_left_for_later_while_the_others_go_on(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    hasty = make_database(app_url, replace(toy.SMALL, attempts=1))
    with holding(app_url, "SELECT FROM \"Garden\" WHERE id = 'g000007' FOR UPDATE"):
        left = toy.apply(hasty, run)
        assert (left.state, left.applied, left.failed) == ("partial", 25, 0)
        assert left.error == "5 rows wait for a lock"
        verification = toy.verifying.verify(toy.job, gardens, left)
        assert verification.run.state == "partial"
        assert not toy.checks(verification)["nothing_left_missing"]
        assert toy.numbers(verification)["appeared_since"] == 0
    last = toy.finish(gardens, runs.find(gardens, run.id)).run
    assert (last.state, last.applied) == ("verified", 30)


def test_the_job_waits_for_a_lock_no_longer_than_its_limit(gardens: Database, app_url: str) -> None:
    with holding(app_url, 'LOCK TABLE "Bed" IN SHARE MODE'), gardens.transaction() as connection:
        begun = time.monotonic()
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            connection.execute(sa.text('LOCK TABLE "Bed" IN ROW EXCLUSIVE MODE'))
        assert 0.05 < time.monotonic() - begun < 0.6


def test_a_run_bears_only_so_many_waits_and_then_tries_each_batch_once(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.plan(gardens)
    hasty = make_database(
        app_url,
        Limits(lock_timeout_ms=20, batch_rows=5, granule_rows=5, attempts=2, lock_patience=3),
    )
    with holding(app_url, 'LOCK TABLE "Bed" IN SHARE MODE'):
        begun = time.monotonic()
        left = toy.apply(hasty, run)
        assert time.monotonic() - begun < 5
    assert (left.state, left.applied) == ("partial", 0)
    assert left.error == "30 rows wait for a lock"
    assert toy.finish(gardens, left).run.state == "verified"


@pytest.mark.parametrize("asked", [100, 5_000])
def test_the_wait_for_a_lock_ends_before_the_server_looks_for_deadlocks(
    make_database: MakeDatabase, app_url: str, asked: int
) -> None:
    database = make_database(app_url, Limits(lock_timeout_ms=asked))
    (have,) = toy.rows(
        database,
        "SELECT extract(epoch FROM current_setting('lock_timeout')::interval) * 1000,"
        " extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000",
    )
    assert have[0] == min(asked, 800)
    assert have[0] < have[1]


@pytest.mark.parametrize("garden", ["g000006", "g000008", "g000010"])
def test_in_a_deadlock_with_the_app_it_is_always_the_job_that_gives_way(
    make_database: MakeDatabase, gardens: Database, app_url: str, garden: str
) -> None:
    run = toy.plan(gardens)
    bold = make_database(app_url, Limits(lock_timeout_ms=60_000, attempts=20))
    with holding(app_url, f"SELECT FROM \"Garden\" WHERE id = '{garden}' FOR UPDATE") as app:

        def deadlock(over: threading.Event) -> None:
            # By now the job has added this bed and waits for the garden; the app waits for it.
            time.sleep(0.2)
            app.execute(sa.text(add("g000005", 1)))
            app.commit()

        with meanwhile(deadlock):
            left = toy.apply(bold, run)
    assert (left.state, left.skipped) == ("applied", 1)
    assert toy.rows(gardens, "SELECT count(*) FROM \"Bed\" WHERE notes = 'theirs'") == [(1,)]
    assert toy.finish(gardens, left).run.state == "verified"


def test_nothing_of_the_apps_is_lost_doubled_or_overwritten_while_it_works_on(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(
        app_url, Limits(lock_timeout_ms=300, batch_rows=20, granule_rows=5, attempts=10)
    )
    toy.plant(database, 60, 5, 20)
    chance = random.Random(6)
    state: dict[tuple[str, int], str | None] = {}

    def app(over: threading.Event) -> None:
        """Completes, adds and deletes beds, and keeps account of what it was told."""
        session = make_database(app_url)
        number = 0
        while not over.is_set():
            number += 1
            garden, slot = f"g{chance.randint(1, 60):06}", chance.randint(1, 5)
            mark = f"m{number}"
            key = {"garden": garden, "slot": slot, "mark": mark}
            with session.transaction() as connection:
                if number % 3 == 0:
                    statement = 'DELETE FROM "Bed" WHERE "gardenId" = :garden AND slot = :slot'
                    connection.execute(sa.text(statement), key)
                    state[garden, slot] = None
                else:
                    statement = (
                        'INSERT INTO "Bed" VALUES (gen_random_uuid(), :garden, :slot, true,'
                        ' now(), :mark) ON CONFLICT ("gardenId", slot) DO UPDATE SET'
                        " watered = true, notes = :mark"
                    )
                    connection.execute(sa.text(statement), key)
                    state[garden, slot] = mark

    for _ in range(3):
        with meanwhile(app):
            verification = toy.backfill(database)
        assert verification.run.state in ("verified", "partial")
        there = {(row[0], row[1]): row[4] for row in toy.contents(database)}
        for place, mark in state.items():
            assert there.get(place) == mark
        toy.write(database, 'DELETE FROM "Bed" WHERE notes IS NULL')
        if verification.run.state == "partial":
            runs.request_cancel(database, verification.run.id)


def test_two_runs_at_once_one_applies_and_the_other_says_so(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, toy.SMALL)
    toy.plant(database, 60, 5, 4)
    pair = [Worker(app_url), Worker(app_url)]
    for worker in pair:
        worker.go()
    said = [worker.verdict() for worker in pair]
    states = [word for word in said if isinstance(word, str)]
    refusals = [word for word in said if not isinstance(word, str)]
    assert states in (["verified"], ["verified", "verified"])
    assert all(isinstance(refusal, Guarded) for refusal in refusals)
    assert [run.applied for run in runs.history(database) if run.applied] == [280]
    assert toy.beds(database) == 300


def test_a_second_apply_of_the_same_run_is_refused_while_one_is_at_work(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    refusals: list[str] = []

    def try_as_well(done: int, total: int) -> None:
        with pytest.raises(Guarded) as refusal:
            toy.apply(gardens, run)
        refusals.append(str(refusal.value))
        with pytest.raises(Guarded) as refusal:
            toy.plan(gardens)
        refusals.append(str(refusal.value))

    assert toy.apply(gardens, run, progress=try_as_well).state == "applied"
    assert refusals[0] == f"Run {run.id} is being applied by another process."
    assert refusals[1].startswith(f"Another run ({run.id}) is applying bed_backfill 2025-08")
    assert toy.beds(gardens) == 50


def test_another_plan_of_a_partition_is_not_applied_while_one_is_at_work(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)

    def sneak_in(done: int, total: int) -> None:
        if done > 20:
            return
        # As if it had been planned in the very moment in which the other began.
        toy.write(gardens, f"UPDATE maintenance.run SET state = 'failed' WHERE id = '{run.id}'")
        second = toy.plan(gardens)
        toy.write(gardens, f"UPDATE maintenance.run SET state = 'applying' WHERE id = '{run.id}'")
        with pytest.raises(Guarded, match="Another run is applying bed_backfill 2025-08"):
            toy.apply(gardens, second)

    assert toy.apply(gardens, run, progress=sneak_in).state == "applied"


def test_another_partition_is_applied_at_the_same_time(gardens: Database) -> None:
    run = toy.plan(gardens)
    july = toy.Scope(toy.AS_OF, "2025-07", toy.NoOptions())
    other = toy.planning.plan(toy.job, gardens, july, toy.someone)

    def meanwhile_july(done: int, total: int) -> None:
        if done == 20:
            assert applying.apply(toy.job, gardens, other, toy.now)[0].state == "applied"

    left = toy.apply(gardens, run, progress=meanwhile_july)
    assert left.state == "applied"
    assert left.applied + runs.find(gardens, other.id).applied == 30


def test_a_process_whose_run_was_taken_over_commits_no_further_batch(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, toy.SMALL)
    toy.plant(database, 60, 5, 4)
    frozen = Worker(app_url)
    frozen.go()
    assert frozen.answer() == "batch"
    frozen.freeze()
    time.sleep(0.1)
    toy.write(
        database,
        "UPDATE maintenance.run SET heartbeat_at = heartbeat_at - interval '10 minutes'",
    )
    run = toy.plan(database)
    assert run.state == "interrupted"
    last = toy.finish(database, run).run
    assert (last.state, last.applied) == ("verified", 280)
    before = toy.snapshot(database)
    frozen.thaw()
    verdict = frozen.verdict()
    assert isinstance(verdict, Guarded)
    assert str(verdict) == f"Run {run.id} has been taken over by another process; this one stops."
    assert toy.snapshot(database) == before
    assert runs.find(database, run.id).state == "verified"


def test_a_batch_does_not_begin_once_its_run_has_been_taken_over(gardens: Database) -> None:
    run = toy.plan(gardens)
    looked: list[bool] = []

    def take_over(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "FROM maintenance.granule" in statement and "min(" in statement:
            looked.append(True)
        elif looked == [True] and "set_config" in statement:
            # It has found its batch and has not begun with it.
            looked.append(False)
            toy.write(gardens, "UPDATE maintenance.run SET owner = 'another|1|2|3'")

    sa.event.listen(gardens.engine, "before_cursor_execute", take_over)
    with pytest.raises(Guarded, match="has been taken over by another process"):
        toy.apply(gardens, run)
    assert looked == [True, False]
    assert toy.beds(gardens) == 20


def test_a_takeover_waits_for_the_batch_that_is_under_way(gardens: Database, app_url: str) -> None:
    run = toy.plan(gardens)
    fence = f"SELECT FROM maintenance.run WHERE id = '{run.id}' FOR KEY SHARE"
    with holding(app_url, fence), pytest.raises((Guarded, sa.exc.OperationalError)):
        toy.apply(gardens, run)
    assert toy.finish(gardens, run).run.state == "verified"


def test_an_interrupted_run_elsewhere_counts_as_alive_until_its_lease_is_over(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    elsewhere = "UPDATE maintenance.run SET state = 'applying', owner = 'other-host|1|2|3',"
    toy.write(gardens, f"{elsewhere} heartbeat_at = now() - interval '2 minutes'")
    assert runs.find(gardens, run.id).state == "applying"
    with pytest.raises(Guarded):
        toy.plan(gardens)
    toy.write(gardens, f"{elsewhere} heartbeat_at = now() - interval '4 minutes'")
    assert toy.plan(gardens).state == "interrupted"
    assert toy.backfill(gardens).run.id == run.id


def test_keys_are_written_in_their_order(gardens: Database) -> None:
    toy.backfill(gardens)
    by_place = toy.rows(
        gardens, """SELECT "gardenId", slot FROM "Bed" WHERE id LIKE 'b%-%' ORDER BY ctid"""
    )
    assert by_place == sorted(by_place)
