"""Guarantee 5: a second run plans nothing and writes nothing."""

from __future__ import annotations

from maintenance_pipelines.engine import verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.engine import toy


def test_a_second_run_plans_nothing_and_writes_nothing(gardens: Database) -> None:
    toy.backfill(gardens)
    before = toy.snapshot(gardens)
    second = toy.plan(gardens)
    assert (second.state, second.planned) == ("verified", 0)
    assert second.excluded == {"already_present": 50}
    assert toy.snapshot(gardens) == before


def test_verifying_again_changes_nothing(gardens: Database) -> None:
    first = toy.backfill(gardens)
    before = toy.snapshot(gardens)
    second = verifying.verify(toy.job, gardens, first.run)
    assert second.run.state == "verified"
    assert second.checks == first.checks
    assert toy.snapshot(gardens) == before


def test_rows_that_become_due_later_are_all_that_a_later_run_adds(gardens: Database) -> None:
    toy.backfill(gardens)
    before = set(toy.snapshot(gardens))
    toy.write(gardens, "UPDATE \"Garden\" SET slots = 6 WHERE id = 'g000002'")
    assert toy.backfill(gardens).run.applied == 1
    assert len(set(toy.snapshot(gardens)) - before) == 1
    assert before <= set(toy.snapshot(gardens))
