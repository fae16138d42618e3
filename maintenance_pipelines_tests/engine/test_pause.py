"""Guarantee 9: a run is paused, resumed and cancelled between batches, and Ctrl-C loses nothing."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine import runs, undoing
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines_tests.engine import toy


def test_a_run_pauses_after_the_batch_under_way(gardens: Database) -> None:
    run = toy.plan(gardens)
    left = toy.apply(gardens, run, progress=lambda *_: runs.request_pause(gardens, run.id))
    assert (left.state, left.applied, toy.beds(gardens)) == ("paused", 20, 40)


def test_a_paused_run_goes_on_where_it_stopped(gardens: Database) -> None:
    run = toy.plan(gardens)
    left = toy.apply(gardens, run, progress=lambda *_: runs.request_pause(gardens, run.id))
    before = set(toy.snapshot(gardens))
    seen: list[tuple[int, int]] = []
    last = toy.apply(gardens, left, progress=lambda *done: seen.append(done))
    assert (last.state, last.applied, seen) == ("applied", 30, [(30, 30)])
    assert before <= set(toy.snapshot(gardens))


def test_nothing_is_planned_while_a_run_is_paused(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.apply(gardens, run, progress=lambda *_: runs.request_pause(gardens, run.id))
    with pytest.raises(Guarded, match=f"`./maintenance resume {run.id}` or `./maintenance cancel"):
        toy.plan(gardens)


def test_a_cancelled_run_stops_after_the_batch_under_way_and_can_be_rolled_back(
    gardens: Database,
) -> None:
    before = toy.snapshot(gardens)
    run = toy.plan(gardens)
    left = toy.apply(gardens, run, progress=lambda *_: runs.request_cancel(gardens, run.id))
    assert (left.state, left.applied) == ("cancelled", 20)
    with pytest.raises(Guarded, match="is cancelled; there is nothing to apply"):
        toy.apply(gardens, left)
    assert toy.undo(gardens, left).run.applied == 20
    assert toy.snapshot(gardens) == before


def test_after_a_cancelled_run_the_rest_is_planned_anew(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.apply(gardens, run, progress=lambda *_: runs.request_cancel(gardens, run.id))
    again = toy.plan(gardens)
    assert (again.id != run.id, again.planned) == (True, 10)


def test_a_plan_and_a_paused_run_are_cancelled_at_once(gardens: Database) -> None:
    planned = toy.plan(gardens)
    assert runs.request_cancel(gardens, planned.id).state == "cancelled"
    run = toy.plan(gardens)
    toy.apply(gardens, run, progress=lambda *_: runs.request_pause(gardens, run.id))
    assert runs.request_cancel(gardens, run.id).state == "cancelled"


def test_pausing_what_is_paused_already_is_no_error(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.apply(gardens, run, progress=lambda *_: runs.request_pause(gardens, run.id))
    assert runs.request_pause(gardens, run.id).state == "paused"


def test_what_does_not_run_cannot_be_paused_and_what_ended_cannot_be_cancelled(
    gardens: Database,
) -> None:
    with pytest.raises(Guarded, match="is planned; there is nothing to pause"):
        runs.request_pause(gardens, toy.plan(gardens).id)
    done = toy.backfill(gardens).run
    with pytest.raises(Guarded, match="is verified; there is nothing to cancel"):
        runs.request_cancel(gardens, done.id)


def test_an_old_request_does_not_stop_the_next_start(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, "UPDATE maintenance.run SET request = 'pause'")
    assert toy.apply(gardens, run).state == "applied"


def interrupt_at(database: Database, statement: str) -> None:
    """Ctrl-C as soon as a statement that begins so has been executed, once."""
    pressed: list[bool] = []

    def press(connection: object, cursor: object, executed: str, *rest: object) -> None:
        if executed.startswith(statement) and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    toy.sa.event.listen(database.engine, "after_cursor_execute", press)


def test_ctrl_c_rolls_back_the_batch_under_way_and_leaves_the_run_paused(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    before = toy.snapshot(gardens)
    interrupt_at(gardens, 'INSERT INTO public."Bed"')
    with pytest.raises(KeyboardInterrupt):
        toy.apply(gardens, run)
    left = runs.find(gardens, run.id)
    assert (left.state, left.applied) == ("paused", 0)
    assert toy.snapshot(gardens) == before
    assert toy.finish(gardens, left).run.state == "verified"


def test_ctrl_c_between_batches_keeps_those_that_are_done(gardens: Database) -> None:
    run = toy.plan(gardens)

    def press(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.apply(gardens, run, progress=press)
    left = runs.find(gardens, run.id)
    assert (left.state, left.applied, toy.beds(gardens)) == ("paused", 20, 40)


def test_ctrl_c_during_a_rehearsal_leaves_the_plan_as_it_was(gardens: Database) -> None:
    run = toy.plan(gardens)
    before = toy.snapshot(gardens)
    interrupt_at(gardens, 'INSERT INTO public."Bed"')
    with pytest.raises(KeyboardInterrupt):
        toy.apply(gardens, run, rehearse=True)
    assert runs.find(gardens, run.id).state == "planned"
    assert toy.snapshot(gardens) == before


def test_a_rehearsal_can_be_paused_and_leaves_the_plan_as_it_was(gardens: Database) -> None:
    run = toy.plan(gardens)
    left = toy.apply(
        gardens, run, rehearse=True, progress=lambda *_: runs.request_pause(gardens, run.id)
    )
    assert left.state == "planned"


def test_a_rollback_is_paused_resumed_and_named_by_its_run(gardens: Database) -> None:
    before = toy.snapshot(gardens)
    run = toy.backfill(gardens).run

    def pause(done: int, total: int) -> None:
        runs.request_pause(gardens, runs.active(gardens, run).id)

    undo = undoing.rollback(toy.job, gardens, run, toy.someone, toy.Order(progress=pause))
    assert (undo.run.state, undo.run.applied, undo.checks) == ("paused", 20, ())
    assert runs.find(gardens, run.id).state == "verified"
    assert toy.undo(gardens, run).run.applied == 30
    assert toy.snapshot(gardens) == before


def test_progress_is_told_after_every_batch(gardens: Database) -> None:
    told: list[tuple[int, int]] = []
    toy.apply(gardens, toy.plan(gardens), progress=lambda *done: told.append(done))
    assert told == [(20, 30), (30, 30)]


def test_statements_are_bounded_in_time(gardens: Database) -> None:
    setting = "SELECT current_setting('statement_timeout')"
    assert toy.rows(gardens, setting) == [("1min",)]
    with gardens.analysis() as connection:
        assert connection.execute(toy.sa.text(setting)).scalar_one() == "1h"
