"""The ledger: one shape however it came about, and made but once."""

from __future__ import annotations

import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.processes import Worker
from maintenance_pipelines_tests.engine.sessions import holding


def test_the_migrations_make_just_the_tables_that_the_engine_declares(
    app_database: Database,
) -> None:
    ledger.install(app_database)
    with app_database.transaction() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table_schema": ledger.SCHEMA,
                "include_schemas": True,
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, parents: (
                    kind != "schema" or name == ledger.SCHEMA
                ),
            },
        )
        assert compare_metadata(context, ledger.metadata) == []


def test_the_partial_index_that_excludes_two_runs_is_there_as_declared(
    app_database: Database,
) -> None:
    ledger.install(app_database)
    (index,) = toy.rows(
        app_database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'one_applying'"
    )
    assert index[0].endswith("(job, partition) WHERE (state = 'applying'::text)")
    assert index[0].startswith("CREATE UNIQUE INDEX")


def test_installing_again_changes_nothing(app_database: Database) -> None:
    first = ledger.install(app_database)
    toy.plant(app_database, 2, 2)
    run = toy.plan(app_database)
    assert ledger.install(app_database) == first
    ledger.ensure(app_database)
    assert toy.finish(app_database, run).run.state == "verified"


def test_processes_that_install_at_once_do_not_get_in_each_others_way(
    make_database: MakeDatabase, app_url: str
) -> None:
    toy.plant(make_database(app_url), 2, 2, 2)
    crowd = [Worker(app_url) for _ in range(4)]
    for worker in crowd:
        worker.go()
    assert [worker.verdict() for worker in crowd] == ["verified"] * 4


def test_an_installation_that_takes_its_time_is_waited_for(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, toy.SMALL)
    lock = "SELECT pg_advisory_xact_lock(hashtext('maintenance_pipelines.ledger'))"
    with holding(app_url, lock) as other:
        later = threading.Timer(0.6, other.rollback)
        later.start()
        begun = time.monotonic()
        ledger.ensure(database)
        assert time.monotonic() - begun > 0.5
        later.join()


def test_an_installation_that_fails_leaves_nothing_behind(
    app_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*rest: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("alembic.command.upgrade", breaks)
    with pytest.raises(RuntimeError):
        ledger.install(app_database)
    assert toy.rows(app_database, "SELECT to_regnamespace('maintenance')::text") == [(None,)]


def test_a_read_only_database_gets_one_sentence(
    make_database: MakeDatabase, gardens: Database, app_url: str
) -> None:
    toy.write(
        gardens,
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',"
        " current_database()); END$$",
    )
    with pytest.raises(Misconfigured, match="The database is read-only"):
        ledger.ensure(make_database(app_url))


def test_a_ledger_of_a_newer_version_is_not_touched(app_database: Database) -> None:
    ledger.install(app_database)
    toy.write(app_database, "UPDATE maintenance.alembic_version SET version_num = '9999'")
    with pytest.raises(Misconfigured, match="newer"):
        ledger.ensure(app_database)
    assert toy.rows(app_database, "TABLE maintenance.alembic_version") == [("9999",)]


@pytest.mark.xfail(
    strict=True,
    reason="the ledger knows a run by job and partition, not by the schema its tables are in",
)
def test_two_schemas_of_one_database_have_runs_of_their_own(
    make_database: MakeDatabase, app_url: str
) -> None:
    toy.write(make_database(app_url), "CREATE SCHEMA one; CREATE SCHEMA two")
    joint = "&" if "?" in app_url else "?"
    one = make_database(f"{app_url}{joint}schema=one", toy.SMALL)
    two = make_database(f"{app_url}{joint}schema=two", toy.SMALL)
    toy.plant(one, 10, 5, 4)
    toy.plant(two, 3, 5)
    run = toy.plan(one)
    toy.apply(one, run, progress=lambda *_: runs.request_pause(one, run.id))
    assert toy.backfill(two).run.planned == 15
    assert toy.finish(one, runs.find(one, run.id)).run.applied == 30
