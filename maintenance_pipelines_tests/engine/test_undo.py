"""Guarantee 8: one run is taken back, but for what somebody has touched since."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from maintenance_pipelines.engine import pruning, runs, undoing
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.proof import ProofFailed
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.processes import Worker
from maintenance_pipelines_tests.engine.sessions import holding, meanwhile, waits_for_a_lock

SHEDS = """
    CREATE TABLE "Shed" (
        id int PRIMARY KEY, "bedId" text REFERENCES "Bed" (id) ON DELETE CASCADE)
    """


def left_alone(database: Database, undo: Verification) -> set[tuple[str, str]]:
    """What a rollback has left as it is: the place and the reason."""
    listed = undoing.left_alone(toy.job, database, undo.run)
    place = {
        row[0]: f"{row[1]} {row[2]}"
        for row in toy.rows(database, 'SELECT id, "gardenId", slot FROM "Bed"')
    }
    return {(place.get(id_, "gone"), reason) for id_, reason in listed}


def test_the_table_equals_its_state_before_the_run(gardens: Database) -> None:
    before = toy.snapshot(gardens)
    run = toy.backfill(gardens).run
    undo = toy.undo(gardens, run)
    assert toy.snapshot(gardens) == before
    assert all(toy.checks(undo).values())
    assert runs.find(gardens, run.id).state == "rolled_back"
    assert (undo.run.state, undo.run.applied, undo.run.reverts) == ("verified", 30, run.id)


def test_a_rollback_answers_under_the_id_of_its_run(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    answer = toy.undo(gardens, run).run.json()
    assert (answer["run_id"], answer["state"]) == (run.id, "rolled_back")


def test_rows_that_somebody_has_touched_stay_and_are_listed(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, 'UPDATE "Bed" SET watered = true WHERE "gardenId" = \'g000006\'')
    toy.write(
        gardens,
        "UPDATE \"Bed\" SET notes = 'roses' WHERE \"gardenId\" = 'g000007' AND slot = 2",
    )
    undo = toy.undo(gardens, run)
    assert toy.beds(gardens) == 26
    assert (undo.run.planned, undo.run.applied) == (24, 24)
    assert undo.run.excluded == {"touched": 6}
    places = {f"g000006 {slot}" for slot in range(1, 6)} | {"g000007 2"}
    assert left_alone(gardens, undo) == {(place, "touched") for place in places}
    assert runs.find(gardens, run.id).state == "rolled_back"


def test_bookkeeping_does_not_count_as_touching(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, 'UPDATE "Bed" SET "updatedAt" = now()')
    assert toy.undo(gardens, run).run.applied == 30


def test_a_row_touched_after_the_rollback_was_planned_stays_and_is_listed(
    gardens: Database,
) -> None:
    run = toy.backfill(gardens).run
    undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    toy.write(
        gardens,
        'UPDATE "Bed" SET watered = true WHERE "gardenId" = \'g000006\' AND slot = 1',
    )
    toy.write(gardens, 'DELETE FROM "Bed" WHERE "gardenId" = \'g000008\' AND slot = 1')
    undo = toy.undo(gardens, run)
    assert (undo.run.applied, undo.run.conflicts, undo.run.skipped) == (28, 1, 1)
    assert left_alone(gardens, undo) == {("g000006 1", "touched"), ("gone", "gone")}
    assert undo.run.state == "verified"


def test_a_row_that_the_app_is_touching_right_now_is_not_removed_under_its_hands(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.backfill(gardens).run
    hasty = make_database(app_url, replace(toy.SMALL, attempts=1))
    act = 'UPDATE "Bed" SET watered = true WHERE "gardenId" = \'g000006\' AND slot = 1'
    with holding(app_url, act) as app:
        undo = toy.undo(hasty, run)
        assert (undo.run.state, undo.run.applied) == ("partial", 29)
        app.commit()
    again = toy.undo(gardens, run)
    assert (again.run.id, again.run.state) == (undo.run.id, "verified")
    assert left_alone(gardens, again) == {("g000006 1", "touched")}
    assert runs.find(gardens, run.id).state == "rolled_back"


def test_rows_that_others_depend_on_stay(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, SHEDS)
    toy.write(
        gardens,
        'INSERT INTO "Shed" SELECT row_number() OVER (), id FROM "Bed"'
        " WHERE \"gardenId\" IN ('g000001', 'g000009')",
    )
    undo = toy.undo(gardens, run)
    assert (toy.beds(gardens), undo.run.applied) == (25, 25)
    assert undo.run.excluded == {"depended_on": 5}
    assert toy.rows(gardens, 'SELECT count(*) FROM "Shed"') == [(10,)]


def test_a_dependent_that_appears_after_planning_keeps_its_row(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, SHEDS)
    undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    toy.write(
        gardens,
        """INSERT INTO "Shed" SELECT 1, id FROM "Bed" WHERE "gardenId" = 'g000009'
        AND slot = 4""",
    )
    undo = toy.undo(gardens, run)
    assert (undo.run.applied, undo.run.conflicts) == (29, 1)
    assert toy.rows(gardens, 'SELECT count(*) FROM "Shed"') == [(1,)]


def test_a_dependent_that_commits_while_its_row_is_being_removed_is_never_lost(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, SHEDS)
    patient = make_database(app_url, toy.Limits(lock_timeout_ms=700, workers=1))
    theirs = """INSERT INTO "Shed" SELECT 1, id FROM "Bed" WHERE "gardenId" = 'g000009'
        AND slot = 4"""
    with holding(app_url, theirs) as app:

        def commit(over: threading.Event) -> None:
            while not waits_for_a_lock(gardens) and not over.is_set():
                over.wait(0.01)
            app.commit()

        # The removal has looked for dependents before it waits: only the cascade finds this one,
        # and only the database's own counts tell.
        with meanwhile(commit), pytest.raises(ProofFailed, match="Shed"):
            toy.undo(patient, run)
    assert toy.rows(gardens, 'SELECT count(*) FROM "Shed"') == [(1,)]
    undo = toy.undo(patient, run)
    assert (undo.run.state, undo.run.applied, undo.run.conflicts) == ("verified", 29, 1)
    assert toy.rows(gardens, 'SELECT count(*) FROM "Shed"') == [(1,)]


def test_rows_that_were_there_before_are_never_removed(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, """INSERT INTO "Bed" VALUES ('a', 'g000007', 3, false, now(), NULL)""")
    before = toy.snapshot(gardens)
    run = toy.finish(gardens, run).run
    assert toy.undo(gardens, run).run.applied == 29
    assert toy.snapshot(gardens) == before


def test_a_partial_run_is_taken_back_as_far_as_it_went(gardens: Database) -> None:
    before = toy.snapshot(gardens)
    run = toy.plan(gardens)
    toy.write(gardens, 'ALTER TABLE "Bed" ADD CHECK (slot <> 2) NOT VALID')
    run = toy.finish(gardens, run).run
    assert (run.state, run.applied) == ("partial", 24)
    assert toy.undo(gardens, run).run.applied == 24
    assert toy.snapshot(gardens) == before
    assert runs.find(gardens, run.id).state == "rolled_back"


def pause(database: Database, run: runs.Run) -> runs.Run:
    """Applies one batch of a run and leaves it paused."""
    return toy.apply(database, run, progress=lambda *_: runs.request_pause(database, run.id))


def test_a_paused_run_is_taken_back_as_far_as_it_went(gardens: Database) -> None:
    before = toy.snapshot(gardens)
    run = pause(gardens, toy.plan(gardens))
    assert (run.state, run.applied) == ("paused", 20)
    assert toy.undo(gardens, run).run.applied == 20
    assert toy.snapshot(gardens) == before


def test_a_killed_run_is_taken_back_as_far_as_it_went(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, toy.SMALL)
    toy.plant(database, 60, 5, 4)
    before = toy.snapshot(database)
    worker = Worker(app_url)
    worker.go()
    assert worker.answer() == "batch"
    worker.kill()
    (run,) = runs.history(database)
    assert toy.undo(database, run).run.state == "verified"
    assert toy.snapshot(database) == before


def test_a_rollback_planned_before_more_was_applied_takes_that_back_too(
    gardens: Database,
) -> None:
    before = toy.snapshot(gardens)
    run = pause(gardens, toy.plan(gardens))
    undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    run = toy.finish(gardens, run).run
    assert run.applied == 30
    toy.undo(gardens, run)
    assert toy.snapshot(gardens) == before


def test_a_run_is_not_resumed_while_its_rollback_is_under_way(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = pause(gardens, toy.plan(gardens))
    undo = undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    tiny = make_database(app_url, toy.Limits(batch_rows=5, granule_rows=5, workers=1))

    def pause_it(done: int, total: int) -> None:
        runs.request_pause(gardens, undo.id)

    halt = toy.Order(progress=pause_it)
    assert undoing.rollback(toy.job, tiny, run, toy.someone, halt).run.state == "paused"
    assert runs.active(gardens, run).id == undo.id
    assert toy.beds(gardens) == 35
    with pytest.raises(Guarded, match="rollback"):
        toy.apply(gardens, run)
    with pytest.raises(Guarded, match="rollback"):
        toy.plan(gardens)
    assert toy.undo(gardens, run).run.state == "verified"
    assert toy.beds(gardens) == 20


def test_a_planned_rollback_removes_nothing_yet(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    before = toy.snapshot(gardens)
    undo = undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    assert (undo.state, undo.planned, undo.reverts) == ("planned", 30, run.id)
    assert toy.snapshot(gardens) == before
    assert runs.find(gardens, run.id).state == "verified"


def test_a_rollback_that_was_planned_is_the_one_that_is_applied(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    planned = undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    assert undoing.plan_rollback(toy.job, gardens, run, toy.someone).id == planned.id
    assert toy.undo(gardens, run).run.id == planned.id


def test_a_rollback_whose_plan_is_a_day_old_is_planned_anew(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    planned = undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    toy.write(gardens, "UPDATE maintenance.run SET created_at = created_at - interval '2 days'")
    with pytest.raises(Guarded, match=f"maintenance cancel {run.id}"):
        toy.undo(gardens, run)
    runs.request_cancel(gardens, runs.active(gardens, run).id)
    undo = toy.undo(gardens, run)
    assert (undo.run.state, undo.run.applied) == ("verified", 30)
    assert undo.run.id != planned.id


def test_a_run_is_not_rolled_back_twice(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    toy.undo(gardens, run)
    with pytest.raises(Guarded, match=f"Run {run.id} has already been rolled back"):
        toy.undo(gardens, run)


def test_a_run_that_was_never_applied_is_not_rolled_back(gardens: Database) -> None:
    run = toy.plan(gardens)
    with pytest.raises(Guarded, match="is planned; only what was applied"):
        toy.undo(gardens, run)


def test_a_run_is_not_rolled_back_while_it_is_applied(gardens: Database) -> None:
    run = toy.plan(gardens)

    def too_soon(done: int, total: int) -> None:
        with pytest.raises(Guarded, match="is applying; only what was applied"):
            toy.undo(gardens, run)

    assert toy.apply(gardens, run, progress=too_soon).state == "applied"


def test_a_pruned_run_is_not_rolled_back_and_says_so(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    pruning.prune(gardens, 0)
    with pytest.raises(Guarded, match="has been pruned and can no longer be rolled back"):
        toy.undo(gardens, run)
    assert toy.beds(gardens) == 50


def test_an_altered_plan_is_not_rolled_back(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    (old,) = toy.rows(gardens, 'SELECT id FROM "Bed" WHERE "gardenId" = \'g000001\' AND slot = 1')
    toy.write(
        gardens,
        f"UPDATE maintenance.plan_{run.id} SET new_id = '{old[0]}' WHERE position = 1",
    )
    with pytest.raises(Guarded, match="has been altered"):
        toy.undo(gardens, run)
    assert toy.beds(gardens) == 50


def test_an_altered_rollback_is_not_applied(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    undo = undoing.plan_rollback(toy.job, gardens, run, toy.someone)
    (old,) = toy.rows(gardens, 'SELECT id FROM "Bed" WHERE "gardenId" = \'g000001\' AND slot = 1')
    toy.write(
        gardens, f"UPDATE maintenance.plan_{undo.id} SET old_id = '{old[0]}' WHERE position = 1"
    )
    with pytest.raises(Guarded, match="not the one that was made"):
        toy.undo(gardens, run)
    assert toy.beds(gardens) == 50


def test_a_rollback_holds_the_partition_for_schedules_until_a_person_runs_it(
    gardens: Database,
) -> None:
    run = toy.backfill(gardens).run
    toy.undo(gardens, run)
    assert runs.find(gardens, run.id).held
    with pytest.raises(Guarded, match="bed_backfill 2025-08 is held since its rollback"):
        toy.plan(gardens, by_person=False)
    assert toy.beds(gardens) == 20
    assert toy.plan(gardens, by_person=True).planned == 30
    assert not runs.find(gardens, run.id).held
    assert toy.finish(gardens, toy.plan(gardens, by_person=False)).run.state == "verified"


def test_a_rollback_holds_no_other_partition(gardens: Database) -> None:
    toy.undo(gardens, toy.backfill(gardens).run)
    july = toy.Scope(toy.AS_OF, "2025-07", toy.NoOptions())
    schedule = toy.Request("schedule", by_person=False)
    assert toy.planning.plan(toy.job, gardens, july, schedule).planned == 30


def test_an_interrupted_rollback_is_resumed(gardens: Database) -> None:
    before = toy.snapshot(gardens)
    run = toy.backfill(gardens).run

    def trip(done: int, total: int) -> None:
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError):
        undoing.rollback(toy.job, gardens, run, toy.someone, toy.Order(progress=trip))
    assert runs.active(gardens, run).state == "interrupted"
    assert toy.beds(gardens) == 30
    assert toy.undo(gardens, run).run.applied == 30
    assert toy.snapshot(gardens) == before
    assert runs.find(gardens, run.id).state == "rolled_back"


def test_a_rollback_that_was_applied_but_not_verified_is_verified(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    undo = toy.undo(gardens, run).run
    toy.write(gardens, f"UPDATE maintenance.run SET state = 'applied' WHERE id = '{undo.id}'")
    toy.write(gardens, f"UPDATE maintenance.run SET state = 'verified' WHERE id = '{run.id}'")
    again = toy.undo(gardens, run)
    assert (again.run.id, again.run.state) == (undo.id, "verified")
    assert runs.find(gardens, run.id).state == "rolled_back"


def test_planning_waits_until_a_rollback_under_way_has_been_finished(gardens: Database) -> None:
    run = toy.backfill(gardens).run

    def trip(done: int, total: int) -> None:
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError):
        undoing.rollback(toy.job, gardens, run, toy.someone, toy.Order(progress=trip))
    with pytest.raises(Guarded, match=f"maintenance resume {run.id}"):
        toy.plan(gardens)


def test_a_run_with_nothing_left_to_take_back_is_rolled_back(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, 'UPDATE "Bed" SET watered = true')
    before = toy.snapshot(gardens)
    undo = toy.undo(gardens, run)
    assert (undo.run.state, undo.run.planned, undo.run.excluded) == ("verified", 0, {"touched": 30})
    assert len(left_alone(gardens, undo)) == 30
    assert toy.snapshot(gardens) == before
    assert runs.find(gardens, run.id).state == "rolled_back"


def test_an_empty_run_is_rolled_back_without_doing_anything(gardens: Database) -> None:
    toy.backfill(gardens)
    empty = toy.plan(gardens)
    assert empty.planned == 0
    assert toy.undo(gardens, empty).run.state == "verified"
    assert toy.beds(gardens) == 50


def test_after_a_rollback_the_same_rows_are_missing_again(gardens: Database) -> None:
    first = toy.backfill(gardens)
    contents = toy.contents(gardens)
    toy.undo(gardens, first.run)
    assert toy.backfill(gardens).run.applied == 30
    assert toy.contents(gardens) == contents


@pytest.mark.parametrize(
    ("check", "tampering"),
    [
        ("every_planned_row_accounted_for", "DELETE FROM maintenance.batch WHERE deleted > 0"),
        ("other_rows_untouched", "UPDATE maintenance.batch SET updated = 1 WHERE deleted > 0"),
        (
            "removed_rows_are_gone",
            'INSERT INTO "Bed" SELECT new_id, "new_gardenId", new_slot, false, now()'
            " FROM maintenance.plan_{run} WHERE position = 1",
        ),
    ],
)
def test_a_check_of_a_rollback_fails_when_what_it_guards_is_broken(
    gardens: Database, check: str, tampering: str
) -> None:
    run = toy.backfill(gardens).run
    undo = toy.undo(gardens, run).run
    toy.write(gardens, f"UPDATE maintenance.run SET state = 'applied' WHERE id = '{undo.id}'")
    toy.write(gardens, f"UPDATE maintenance.run SET state = 'verified' WHERE id = '{run.id}'")
    toy.write(gardens, tampering.format(run=run.id))
    again = toy.undo(gardens, run)
    assert toy.checks(again)[check] is False
    assert again.run.state in ("failed", "partial")
    assert runs.find(gardens, run.id).state == "verified"


def test_of_two_runs_only_the_one_named_is_taken_back(gardens: Database) -> None:
    first = toy.backfill(gardens).run
    toy.write(gardens, "UPDATE \"Garden\" SET slots = 6 WHERE id = 'g000005'")
    toy.backfill(gardens)
    toy.undo(gardens, first)
    assert toy.beds(gardens) == 21


def test_a_dependent_is_never_lost_under_allowed_triggers_either(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    run = toy.backfill(gardens).run
    toy.write(gardens, SHEDS)
    toy.write(
        gardens,
        """
        CREATE FUNCTION nods() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
        CREATE TRIGGER nod AFTER DELETE ON "Bed" FOR EACH ROW EXECUTE FUNCTION nods()
        """,
    )
    allowing = toy.Request("ann", allowed_triggers=frozenset({"nod"}))
    patient = make_database(app_url, toy.Limits(lock_timeout_ms=700))
    theirs = """INSERT INTO "Shed" SELECT 1, id FROM "Bed" WHERE "gardenId" = 'g000009'
        AND slot = 4"""
    with holding(app_url, theirs) as app:
        later = threading.Timer(0.2, app.commit)
        later.start()
        with suppress(ProofFailed):
            undoing.rollback(toy.job, patient, run, allowing, toy.now)
        later.join()
    assert toy.rows(gardens, 'SELECT count(*) FROM "Shed"') == [(1,)]
