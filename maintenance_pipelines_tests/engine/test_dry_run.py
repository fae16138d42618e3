"""Guarantee 1: detection changes no table of the app, and what was shown is what is applied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maintenance_pipelines.engine import planning, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Insert
from maintenance_pipelines.engine.proof import ProofFailed
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy


def plan_rows(database: Database, run_id: str) -> list[tuple[object, ...]]:
    columns = '"new_gardenId", new_slot, new_watered, "new_updatedAt", new_notes'
    return toy.rows(database, f"SELECT {columns} FROM maintenance.plan_{run_id} ORDER BY position")


def test_planning_leaves_every_row_of_the_app_as_it_is(gardens: Database) -> None:
    before = toy.snapshot(gardens)
    run = toy.plan(gardens)
    assert toy.snapshot(gardens) == before
    assert (run.state, run.planned, run.applied) == ("planned", 30, 0)


def test_a_plan_holds_the_rows_that_applying_writes_to_the_letter(gardens: Database) -> None:
    existing = toy.contents(gardens)
    run = toy.plan(gardens)
    shown = plan_rows(gardens, run.id)
    toy.apply(gardens, run)
    assert sorted([*existing, *shown]) == toy.contents(gardens)


def test_primary_keys_are_assigned_when_planning(gardens: Database) -> None:
    run = toy.plan(gardens)
    planned = set(toy.rows(gardens, f"SELECT new_id FROM maintenance.plan_{run.id}"))
    before = set(toy.rows(gardens, 'SELECT id FROM "Bed"'))
    toy.apply(gardens, run)
    assert set(toy.rows(gardens, 'SELECT id FROM "Bed"')) - before == planned


def test_candidates_left_alone_are_counted_by_reason(gardens: Database) -> None:
    toy.write(gardens, """UPDATE "Garden" SET "openedAt" = '2025-09-02' WHERE id >= 'g000008'""")
    run = toy.plan(gardens)
    assert run.excluded == {"already_present": 20, "not_open": 15}
    assert run.planned == 15


def test_a_plan_is_in_the_order_of_the_key(gardens: Database) -> None:
    run = toy.plan(gardens)
    keys = [row[:2] for row in plan_rows(gardens, run.id)]
    assert keys == sorted(keys)


def test_two_plans_of_the_same_data_differ_in_ids_and_so_in_digest(gardens: Database) -> None:
    one, other = toy.plan(gardens), toy.plan(gardens)
    assert one.digest != other.digest
    assert plan_rows(gardens, one.id) == plan_rows(gardens, other.id)


def test_detection_that_writes_to_the_app_is_rolled_back(gardens: Database) -> None:
    toy.write(
        gardens,
        """
        CREATE TABLE "Log" (n int);
        CREATE FUNCTION looks_harmless() RETURNS int LANGUAGE sql VOLATILE
            AS 'INSERT INTO "Log" VALUES (1) RETURNING 1'
        """,
    )

    def writes(scope: toy.Scope, among: toy.sa.FromClause | None) -> toy.sa.Select[object]:
        harmless = toy.sa.literal_column("looks_harmless()") > 0
        return toy.candidates(scope, among).where(harmless)

    assert isinstance(toy.job.change, Insert)
    job = replace(toy.job, change=replace(toy.job.change, candidates=writes))
    with pytest.raises(ProofFailed, match="Log: "):
        planning.plan(job, gardens, toy.scope, toy.someone)
    assert toy.rows(gardens, 'SELECT count(*) FROM "Log"') == [(0,)]
    assert runs.history(gardens) == []


def test_a_plan_without_rows_is_verified_at_once_and_keeps_no_table(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, toy.SMALL)
    toy.plant(database, 3, 2, 3)
    run = toy.plan(database)
    assert (run.state, run.planned, run.excluded) == ("verified", 0, {"already_present": 6})
    assert toy.rows(database, "SELECT 1 FROM pg_tables WHERE tablename LIKE 'plan_%'") == []
    assert verifying.verify(toy.job, database, run).checks == ()


def test_an_app_without_any_rows_plans_nothing(app_database: Database) -> None:
    toy.plant(app_database, 0, 0)
    assert toy.plan(app_database).state == "verified"


def test_columns_that_the_database_lacks_are_left_out_of_the_plan(gardens: Database) -> None:
    toy.write(gardens, 'ALTER TABLE "Bed" DROP COLUMN notes')
    verification = toy.backfill(gardens)
    assert verification.run.state == "verified"
    assert "notes" not in verification.run.columns


def test_a_column_left_to_the_database_is_planned_with_its_default(gardens: Database) -> None:
    toy.write(gardens, """ALTER TABLE "Bed" ALTER notes SET DEFAULT 'sown'""")
    run = toy.plan(gardens)
    assert {row[4] for row in plan_rows(gardens, run.id)} == {"sown"}
    assert toy.finish(gardens, run).run.state == "verified"


def test_unknown_columns_get_their_own_defaults(gardens: Database) -> None:
    toy.write(gardens, """ALTER TABLE "Bed" ADD "soilType" text NOT NULL DEFAULT 'loam'""")
    assert toy.backfill(gardens).run.state == "verified"
    assert toy.rows(gardens, 'SELECT DISTINCT "soilType" FROM "Bed"') == [("loam",)]
