"""Guarantee 11: a database that the job cannot work on is refused, every difference by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from maintenance_pipelines.engine import preflight as preflights
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.conftest import Hiring


def refused(database: Database) -> str:
    """Plans, which has to be refused before anything is written; returns the sentence."""
    with pytest.raises(Misconfigured) as refusal:
        toy.plan(database)
    assert refusal.value.exit_code == 2
    assert runs.history(database) == []
    assert toy.rows(database, "SELECT to_regnamespace('maintenance')::text") == [(None,)]
    return str(refusal.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('DROP TABLE "Bed"', "table Bed does not exist"),
        ('DROP TABLE "Garden" CASCADE', "table Garden does not exist"),
        ('ALTER TABLE "Bed" RENAME TO bed', "table Bed does not exist"),
        ('ALTER TABLE "Bed" DROP "updatedAt"', "column Bed.updatedAt does not exist"),
        ('ALTER TABLE "Garden" DROP slots', "column Garden.slots does not exist"),
        ("DROP INDEX bed_key", "Bed has no unique key on (gardenId, slot)"),
        (
            'DROP INDEX bed_key; CREATE INDEX bed_key ON "Bed" ("gardenId", slot)',
            "Bed has no unique key on (gardenId, slot)",
        ),
        (
            'DROP INDEX bed_key; CREATE UNIQUE INDEX k ON "Bed" ("gardenId", slot) WHERE watered',
            "Bed has no unique key on (gardenId, slot)",
        ),
        (
            'DROP INDEX bed_key; CREATE UNIQUE INDEX k ON "Bed" ("gardenId", slot, watered)',
            "Bed has no unique key on (gardenId, slot)",
        ),
        (
            'DROP INDEX bed_key; CREATE UNIQUE INDEX k ON "Bed" (lower("gardenId"), slot)',
            "Bed has no unique key on (gardenId, slot)",
        ),
        (
            'DROP INDEX bed_key; ALTER TABLE "Bed" ADD UNIQUE ("gardenId", slot) DEFERRABLE',
            "Bed has no unique key on (gardenId, slot)",
        ),
        ('ALTER TABLE "Bed" ALTER slot DROP NOT NULL', "no unique key on (gardenId, slot)"),
        (
            'ALTER TABLE "Bed" ALTER slot TYPE text',
            "column Bed.slot is text, not integer",
        ),
        (
            'ALTER TABLE "Bed" ALTER "updatedAt" TYPE timestamptz',
            "column Bed.updatedAt is timestamp with time zone, not timestamp without time zone",
        ),
        (
            'ALTER TABLE "Bed" ADD owner text NOT NULL',
            "column Bed.owner is required and unknown to this job",
        ),
        (
            'ALTER TABLE "Bed" RENAME TO "Bed2"; CREATE VIEW "Bed" AS SELECT * FROM "Bed2"',
            "Bed is not a table",
        ),
    ],
)
def test_a_database_that_differs_is_refused_by_the_difference(
    make_database: MakeDatabase, app_url: str, change: str, says: str
) -> None:
    database = make_database(app_url, toy.SMALL)
    toy.plant(database, 0, 0)
    toy.write(database, change)
    assert says in refused(database)


def test_every_difference_is_named_at_once(gardens: Database) -> None:
    toy.write(
        gardens,
        'DELETE FROM "Bed"; DROP INDEX bed_key;'
        ' ALTER TABLE "Bed" DROP "updatedAt", ADD owner text NOT NULL;'
        ' ALTER TABLE "Garden" DROP slots',
    )
    sentence = refused(gardens)
    for part in ("Bed.updatedAt", "no unique key", "Bed.owner", "Garden.slots"):
        assert part in sentence


@pytest.mark.parametrize(
    "change",
    [
        'ALTER TABLE "Bed" ADD CONSTRAINT pk UNIQUE (slot, "gardenId")',
        'ALTER TABLE "Bed" ALTER "gardenId" TYPE varchar(40)',
        'ALTER TABLE "Bed" ALTER slot TYPE bigint',
        'ALTER TABLE "Bed" ALTER "updatedAt" TYPE timestamp(3)',
        'ALTER TABLE "Bed" ADD "soilType" text NOT NULL DEFAULT \'loam\'',
        'ALTER TABLE "Bed" ADD number int GENERATED ALWAYS AS IDENTITY',
        'ALTER TABLE "Bed" ADD twice int GENERATED ALWAYS AS (slot * 2) STORED',
        'ALTER TABLE "Bed" DROP notes',
        'ALTER TABLE "Bed" ADD COLUMN "größe" text, ADD COLUMN "Mixed Case" int',
        'DROP INDEX bed_key; CREATE UNIQUE INDEX "other" ON "Bed" (slot, "gardenId") INCLUDE (id)',
        'DROP INDEX bed_key; ALTER TABLE "Bed" ALTER slot DROP NOT NULL;'
        ' CREATE UNIQUE INDEX k ON "Bed" ("gardenId", slot) NULLS NOT DISTINCT',
        'CREATE TABLE bed (id int); CREATE TABLE "BED" (id int)',
    ],
)
def test_a_database_of_the_apps_own_making_is_worked_on_as_it_is(
    gardens: Database, change: str
) -> None:
    toy.write(gardens, change)
    assert toy.backfill(gardens).run.state == "verified"


def test_tables_in_another_schema_are_found_by_the_urls_schema(
    make_database: MakeDatabase, app_url: str
) -> None:
    toy.write(make_database(app_url), 'CREATE SCHEMA "My App"')
    database = make_database(f"{app_url}&schema=My%20App", toy.SMALL)
    toy.plant(database, 10, 5, 4)
    verification = toy.backfill(database)
    assert (verification.run.state, verification.run.applied) == ("verified", 30)
    assert toy.rows(database, 'SELECT count(*) FROM "My App"."Bed"') == [(50,)]
    assert toy.undo(database, verification.run).run.state == "verified"


def test_an_enum_and_a_text_stand_for_each_other_but_no_number_does(gardens: Database) -> None:
    def wants(type_: toy.sa.Enum) -> Callable[[], object]:
        garden = toy.sa.Table("Garden", toy.sa.MetaData(), toy.sa.Column("kind", type_))
        job = replace(toy.job, relies_on=(garden, toy.bed))
        return lambda: preflight(job, gardens)

    toy.write(gardens, 'ALTER TABLE "Garden" ADD kind text')
    wants(toy.sa.Enum("a", "b", name="Kind"))()
    toy.write(gardens, 'ALTER TABLE "Garden" DROP kind')
    toy.write(gardens, "CREATE TYPE \"Kind\" AS ENUM ('a', 'b');")
    toy.write(gardens, 'ALTER TABLE "Garden" ADD kind "Kind" NOT NULL DEFAULT \'a\'')
    wants(toy.sa.Enum("a", "b", name="Kind"))()
    toy.write(gardens, 'ALTER TABLE "Garden" DROP kind, ADD kind int')
    with pytest.raises(Misconfigured, match=r"Garden\.kind is integer, not an enum"):
        wants(toy.sa.Enum("a", "b", name="Kind"))()


def test_a_server_that_is_too_old_is_refused(
    gardens: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflights, "OLDEST_SERVER", 99)
    assert "; 99 or newer is needed" in refused(gardens)


def test_a_read_only_database_is_refused(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    toy.write(
        gardens,
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',"
        " current_database()); END$$",
    )
    database = make_database(app_url, toy.SMALL)
    assert refused(database).startswith("The database is read-only")
    with pytest.raises(Misconfigured, match="The database is read-only"):
        preflight(toy.job, database)


def test_row_level_security_that_would_hide_rows_is_refused(
    make_database: MakeDatabase, gardens: Database, hire: Hiring
) -> None:
    url = hire("gardener")
    toy.write(gardens, "GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    toy.write(gardens, 'ALTER TABLE "Garden" ENABLE ROW LEVEL SECURITY')
    sentence = refused(make_database(url, toy.SMALL))
    assert "row-level security on Garden would hide rows from this role" in sentence


def test_a_role_that_sees_all_rows_in_spite_of_row_level_security_may_go_on(
    gardens: Database,
) -> None:
    toy.write(gardens, 'ALTER TABLE "Garden" ENABLE ROW LEVEL SECURITY')
    assert toy.backfill(gardens).run.state == "verified"
