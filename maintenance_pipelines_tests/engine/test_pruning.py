"""Old plans are dropped; with them goes the way back, and what a run did stays known."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine import pruning, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines_tests.engine import toy


def age(database: Database, days: int) -> None:
    """Moves every run into the past."""
    toy.write(
        database,
        f"UPDATE maintenance.run SET created_at = created_at - interval '{days} days',"
        f" finished_at = finished_at - interval '{days} days'",
    )


def plan_tables(database: Database) -> int:
    count = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'plan_%'"
    return int(toy.rows(database, count)[0][0])


def test_plans_of_runs_that_ended_long_ago_are_dropped(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    age(gardens, 91)
    assert pruning.prune(gardens, 90) == [run.id]
    assert plan_tables(gardens) == 0
    assert pruning.prune(gardens, 90) == []


def test_younger_plans_are_kept(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    age(gardens, 89)
    assert pruning.prune(gardens, 90) == []
    assert toy.undo(gardens, run).run.state == "verified"


def test_what_a_pruned_run_did_stays_known(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, 'ALTER TABLE "Bed" ADD CHECK (slot <> 2) NOT VALID')
    before = toy.finish(gardens, run).run
    pruning.prune(gardens, 0)
    after = runs.find(gardens, run.id)
    assert after.pruned_at is not None
    assert (after.applied, after.failed, after.checks) == (24, 6, before.checks)
    assert after.digest == before.digest


def test_a_pruned_run_is_neither_applied_nor_verified_again(gardens: Database) -> None:
    planned = toy.plan(gardens)
    pruning.prune(gardens, 0)
    with pytest.raises(Guarded, match="has been pruned; plan bed_backfill 2025-08 again"):
        toy.apply(gardens, planned)
    done = toy.backfill(gardens).run
    pruning.prune(gardens, 0)
    with pytest.raises(Guarded, match="has been pruned and cannot be verified"):
        verifying.verify(toy.job, gardens, runs.find(gardens, done.id))


def test_runs_under_way_are_kept_however_old(gardens: Database) -> None:
    run = toy.plan(gardens)

    def prune_meanwhile(done: int, total: int) -> None:
        age(gardens, 1000)
        assert pruning.prune(gardens, 90) == []
        runs.request_pause(gardens, run.id)

    paused = toy.apply(gardens, run, progress=prune_meanwhile)
    assert pruning.prune(gardens, 90) == []
    assert toy.finish(gardens, paused).run.state == "verified"


def test_pruning_leaves_the_app_as_it_is(gardens: Database) -> None:
    toy.backfill(gardens)
    before = toy.snapshot(gardens)
    pruning.prune(gardens, 0)
    assert toy.snapshot(gardens) == before


def test_there_is_nothing_to_prune_without_a_ledger(app_database: Database) -> None:
    assert pruning.prune(app_database, 0) == []


def test_the_plan_of_a_rollback_is_pruned_too(gardens: Database) -> None:
    toy.undo(gardens, toy.backfill(gardens).run)
    assert len(pruning.prune(gardens, 0)) == 2
    assert plan_tables(gardens) == 0
