"""Guarantee 1: a plan that went stale, was altered or lacks approval is not applied."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines_tests.engine import toy


def refused(database: Database, run: runs.Run, says: str, **order: object) -> None:
    before = toy.snapshot(database)
    with pytest.raises(Guarded, match=says) as refusal:
        toy.apply(database, run, **order)
    assert refusal.value.exit_code == 1
    assert toy.snapshot(database) == before
    assert runs.find(database, run.id).applied == 0


def test_a_plan_is_stale_once_a_newer_one_has_been_made(gardens: Database) -> None:
    old, new = toy.plan(gardens), toy.plan(gardens)
    refused(gardens, old, f"{old.id} is stale: run {new.id}")
    assert toy.finish(gardens, new).run.state == "verified"


def test_a_plan_of_another_partition_makes_none_stale(gardens: Database) -> None:
    run = toy.plan(gardens)
    july = toy.Scope(toy.AS_OF, "2025-07", toy.NoOptions())
    toy.planning.plan(toy.job, gardens, july, toy.someone)
    assert toy.finish(gardens, run).run.state == "verified"


def test_a_plan_is_stale_after_its_hours(gardens: Database) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, "UPDATE maintenance.run SET created_at = created_at - interval '25 hours'")
    refused(gardens, run, "is stale: .* more than 24 hours ago")
    assert toy.apply(gardens, run, plan_age=timedelta(hours=26)).state == "applied"


def test_a_plan_that_has_begun_does_not_go_stale_with_age(gardens: Database) -> None:
    run = toy.plan(gardens)

    def pause(done: int, total: int) -> None:
        runs.request_pause(gardens, run.id)

    assert toy.apply(gardens, run, progress=pause).state == "paused"
    toy.write(gardens, "UPDATE maintenance.run SET created_at = created_at - interval '25 hours'")
    assert toy.apply(gardens, run).state == "applied"


@pytest.mark.parametrize(
    "change",
    [
        'ALTER TABLE "Bed" ALTER slot TYPE bigint',
        'ALTER TABLE "Garden" ALTER slots TYPE bigint',
        """ALTER TABLE "Bed" DROP notes""",
    ],
)
def test_a_plan_is_stale_when_the_schema_it_relied_on_has_changed(
    gardens: Database, change: str
) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, change)
    refused(gardens, run, "is stale: the tables it relies on have changed")


def test_a_change_of_the_schema_that_the_plan_does_not_rely_on_does_not_matter(
    gardens: Database,
) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, 'ALTER TABLE "Bed" ADD "soilType" text')
    toy.write(gardens, 'CREATE INDEX ON "Bed" (watered)')
    assert toy.finish(gardens, run).run.state == "verified"


@pytest.mark.parametrize("digest", ["", "0", "0" * 64, "f" * 8])
def test_a_wrong_digest_is_refused(gardens: Database, digest: str) -> None:
    refused(gardens, toy.plan(gardens), "another digest", digest=digest)


def test_the_digest_or_a_long_enough_beginning_of_it_is_accepted(gardens: Database) -> None:
    run = toy.plan(gardens)
    refused(gardens, run, "another digest", digest=run.digest[:7])
    refused(gardens, run, "another digest", digest=run.digest + "0")
    assert toy.apply(gardens, run, digest=run.digest[:8].upper()).state == "applied"


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE {plan} SET new_watered = true WHERE position = 30",
        "UPDATE {plan} SET new_id = 'mine' WHERE position = 1",
        "DELETE FROM {plan} WHERE position = 7",
        "INSERT INTO {plan} SELECT 31, reason, 'mine', \"new_gardenId\", 6, new_watered,"
        ' "new_updatedAt", new_notes FROM {plan} WHERE position = 30',
        "UPDATE maintenance.run SET planned = 29",
        "UPDATE maintenance.run SET as_of = as_of + interval '1 second'",
    ],
)
def test_a_plan_that_was_tampered_with_is_refused(gardens: Database, tampering: str) -> None:
    run = toy.plan(gardens)
    toy.write(gardens, tampering.format(plan=f"maintenance.plan_{run.id}"))
    refused(gardens, runs.find(gardens, run.id), "not the one that was made")


def test_a_plan_that_was_tampered_with_while_paused_is_refused(gardens: Database) -> None:
    run = toy.plan(gardens)
    paused = toy.apply(gardens, run, progress=lambda *_: runs.request_pause(gardens, run.id))
    assert paused.applied == 20
    toy.write(
        gardens, f"UPDATE maintenance.plan_{run.id} SET new_watered = true WHERE position = 30"
    )
    with pytest.raises(Guarded, match="not the one that was made"):
        toy.apply(gardens, paused)
    assert runs.find(gardens, run.id).applied == 20


@pytest.mark.parametrize("bounds", [(31, None), (None, 29), (0, 29), (31, 40)])
def test_a_plan_outside_the_expected_number_of_rows_is_refused(
    gardens: Database, bounds: tuple[int | None, int | None]
) -> None:
    run = toy.plan(gardens, expected_rows=bounds)
    assert not run.within_scope
    refused(gardens, run, "plans 30 rows, expected were ")


@pytest.mark.parametrize("bounds", [(30, None), (None, 30), (30, 30), (0, 100)])
def test_expected_rows_are_inclusive_bounds(
    gardens: Database, bounds: tuple[int | None, int | None]
) -> None:
    assert toy.apply(gardens, toy.plan(gardens, expected_rows=bounds)).state == "applied"


def test_an_empty_plan_where_rows_were_expected_is_not_complete(gardens: Database) -> None:
    toy.backfill(gardens)
    run = toy.plan(gardens, expected_rows=(1, None))
    assert (run.state, run.planned) == ("planned", 0)
    with pytest.raises(Guarded, match="plans 0 rows"):
        toy.apply(gardens, run)


def test_more_rows_than_the_limit_wait_for_a_second_person(gardens: Database) -> None:
    run = toy.plan(gardens, approval_above=29)
    assert run.approval_due
    refused(gardens, run, f"maintenance approve {run.id}")
    approved = runs.approve(gardens, run.id, "bob")
    assert (approved.approved_by, approved.approval_due) == ("bob", False)
    assert toy.apply(gardens, approved).state == "applied"


def test_no_more_rows_than_the_limit_need_no_approval(gardens: Database) -> None:
    assert toy.apply(gardens, toy.plan(gardens, approval_above=30)).state == "applied"


def test_whoever_planned_may_not_approve(gardens: Database) -> None:
    run = toy.plan(gardens, approval_above=0)
    with pytest.raises(Guarded, match="planned by ann"):
        runs.approve(gardens, run.id, "ann")
    refused(gardens, run, "maintenance approve")


def test_an_approval_is_bound_to_the_digest(gardens: Database) -> None:
    run = toy.plan(gardens, approval_above=0)
    runs.approve(gardens, run.id, "bob")
    toy.write(gardens, "UPDATE maintenance.run SET digest = repeat('0', 64)")
    assert runs.find(gardens, run.id).approval_due
    refused(gardens, run, "maintenance approve")


def test_an_approval_does_not_reach_the_next_plan(gardens: Database) -> None:
    runs.approve(gardens, toy.plan(gardens, approval_above=0).id, "bob")
    refused(gardens, toy.plan(gardens, approval_above=0), "maintenance approve")


def test_only_a_planned_run_can_be_approved(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    with pytest.raises(Guarded, match="is verified; only a planned run"):
        runs.approve(gardens, run.id, "bob")


def test_a_run_that_has_ended_is_not_applied_again(gardens: Database) -> None:
    run = toy.backfill(gardens).run
    with pytest.raises(Guarded, match="is verified; there is nothing to apply"):
        toy.apply(gardens, run)


def test_a_cancelled_plan_is_not_applied(gardens: Database) -> None:
    run = runs.request_cancel(gardens, toy.plan(gardens).id)
    assert run.state == "cancelled"
    refused(gardens, run, "is cancelled")


def test_a_run_is_found_by_any_unique_beginning_of_its_id(gardens: Database) -> None:
    run = toy.plan(gardens)
    assert runs.find(gardens, run.id[:4]) == runs.find(gardens, run.id)
    for beginning in ("%", "_", "zzz", run.id + "0"):
        with pytest.raises(BadInput, match="There is no run"):
            runs.find(gardens, beginning)


def test_an_ambiguous_beginning_is_refused(gardens: Database) -> None:
    toy.plan(gardens)
    toy.plan(gardens)
    with pytest.raises(BadInput, match="2 runs begin with"):
        runs.find(gardens, "")


def test_no_run_is_found_in_a_database_without_a_ledger(app_database: Database) -> None:
    with pytest.raises(BadInput, match="There is no run abc"):
        runs.find(app_database, "abc")
    assert runs.history(app_database) == []
