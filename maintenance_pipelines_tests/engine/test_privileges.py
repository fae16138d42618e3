"""Guarantee 2: create-only is structural: a role that may do nothing else suffices."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, planning, undoing
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.grants import grants
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.conftest import Hiring


def equip(gardens: Database, url: str, undo: bool = False) -> None:
    """What the README says: install the ledger, then run what `grants` printed."""
    ledger.install(gardens)
    role = sa.make_url(url).username
    assert role is not None
    toy.write(gardens, grants(toy.job, "public", role, undo))


def test_the_whole_job_runs_under_a_role_with_only_what_grants_printed(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    equip(gardens, url)
    verification = toy.backfill(make_database(url, toy.SMALL))
    assert (verification.run.state, verification.run.applied) == ("verified", 30)


def test_that_role_can_change_and_remove_nothing_of_the_apps(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    equip(gardens, url)
    role = make_database(url)
    for statement in (
        'UPDATE "Bed" SET watered = true',
        'DELETE FROM "Bed"',
        'TRUNCATE "Bed"',
        'SELECT FROM "Bed" FOR KEY SHARE',
        """INSERT INTO "Garden" VALUES ('g', 1, now())""",
        'DROP TABLE "Bed"',
        "CREATE TABLE public.mine (n int)",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
            toy.write(role, statement)


def test_a_rollback_runs_under_a_role_with_only_what_grants_printed_for_it(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    equip(gardens, url, undo=True)
    role = make_database(url, toy.SMALL)
    before = toy.snapshot(gardens)
    undo = toy.undo(role, toy.backfill(role).run)
    assert undo.run.state == "verified"
    assert toy.snapshot(gardens) == before


def test_a_rollback_names_the_right_that_it_lacks(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    equip(gardens, url)
    role = make_database(url, toy.SMALL)
    run = toy.backfill(role).run
    with pytest.raises(Misconfigured, match="lacks DELETE on Bed"):
        undoing.plan_rollback(toy.job, role, run, toy.someone)


def test_a_rollback_names_the_dependent_table_that_it_may_not_read(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    equip(gardens, url, undo=True)
    toy.write(gardens, 'CREATE TABLE "Shed" ("bedId" text REFERENCES "Bed" ON DELETE CASCADE)')
    role = make_database(url, toy.SMALL)
    run = toy.backfill(role).run
    with pytest.raises(Misconfigured, match="lacks SELECT on Shed"):
        undoing.plan_rollback(toy.job, role, run, toy.someone)
    assert toy.beds(gardens) == 50


@pytest.mark.parametrize(
    ("revoked", "says"),
    [
        ('SELECT ON "Garden"', "lacks SELECT on Garden"),
        ('SELECT ON "Bed"', "lacks SELECT on Bed"),
        ('INSERT ON "Bed"', "lacks INSERT on Bed"),
        ("USAGE ON SCHEMA maintenance", "lacks USAGE on schema maintenance"),
        ("CREATE ON SCHEMA maintenance", "lacks CREATE on schema maintenance"),
        ("INSERT ON maintenance.batch", "lacks INSERT on maintenance.batch"),
        ("UPDATE ON maintenance.run", "lacks UPDATE on maintenance.run"),
        ("SELECT ON maintenance.alembic_version", "lacks SELECT on maintenance.alembic_version"),
    ],
)
def test_a_missing_right_is_named_before_anything_starts(
    make_database: MakeDatabase, gardens: Database, hire: Hiring, revoked: str, says: str
) -> None:
    url = hire("gardener")
    equip(gardens, url)
    role = sa.make_url(url).username
    toy.write(gardens, f'REVOKE {revoked} FROM "{role}"')
    with pytest.raises(Misconfigured, match=says):
        planning.plan(toy.job, make_database(url, toy.SMALL), toy.scope, toy.someone)
    assert toy.rows(gardens, "SELECT count(*) FROM maintenance.run") == [(0,)]


def test_every_missing_right_is_named_at_once(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    role = make_database(hire("stranger"), toy.SMALL)
    with pytest.raises(Misconfigured) as refusal:
        preflight(toy.job, role)
    for right in ("SELECT on Garden", "SELECT on Bed", "INSERT on Bed"):
        assert f"this role lacks {right}" in str(refusal.value)


def test_a_role_that_may_not_enter_the_schema_is_told_so(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    role = make_database(hire("stranger"), toy.SMALL)
    toy.write(gardens, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(Misconfigured, match="lacks USAGE on schema public"):
        preflight(toy.job, role)


def test_a_role_that_may_not_create_the_ledger_gets_one_sentence(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    toy.write(gardens, "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO PUBLIC")
    with pytest.raises(
        Misconfigured, match=r"Run `\./maintenance install` once with a stronger role"
    ):
        toy.plan(make_database(url, toy.SMALL))


def test_an_update_right_on_the_target_is_neither_needed_nor_granted() -> None:
    printed = grants(toy.job, "public", "gardener")
    assert [line for line in printed.splitlines() if '"public"' in line] == [
        'GRANT USAGE ON SCHEMA "public" TO "gardener";',
        'GRANT SELECT ON "public"."Garden" TO "gardener";',
        'GRANT SELECT ON "public"."Bed" TO "gardener";',
        'GRANT INSERT ON "public"."Bed" TO "gardener";',
    ]


def test_odd_names_are_quoted_in_the_grants() -> None:
    printed = grants(toy.job, "My App", 'bob "the builder"', undo=True)
    assert 'GRANT DELETE ON "My App"."Bed" TO "bob ""the builder""";' in printed
