"""Restore: a backup takes the instance's place, and what was there is kept."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from maintenance_pipelines.engine.refusals import BadInput, Guarded, Refusal
from maintenance_pipelines.systems.cashback.restore import restore
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.app_process import App
from maintenance_pipelines_tests.systems.cashback.conftest import MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import (
    Lending,
    postgres_contents,
    sqlite_contents,
)


def backed_up_and_used(lending: Lending) -> Path:
    """An instance that was backed up, migrated and then used."""
    run = lending.plan()
    backup = lending.back_up(run)
    lending.verify(lending.apply(run))
    engine = lending.engine()
    with Session(engine) as session:
        app_models.use_cashback(session)
    engine.dispose()
    return backup


def test_the_backup_takes_the_files_place_and_the_file_is_kept(
    file: Lending, tmp_path: Path
) -> None:
    before = file.contents()
    backup = backed_up_and_used(file)
    file.path.chmod(0o640)
    used = file.contents()
    kept = Path(restore(file.instance, backup))
    assert file.contents() == before
    assert kept.parent == file.path.parent
    assert sqlite_contents(kept, tmp_path) == used
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert len(list(file.path.parent.iterdir())) == 2
    assert file.migrate().run.planned == 6


def test_a_file_that_is_gone_or_damaged_can_be_restored(file: Lending) -> None:
    before = file.contents()
    backup = backed_up_and_used(file)
    os.truncate(file.path, 5000)
    restore(file.instance, backup)
    assert file.contents() == before
    file.path.unlink()
    restore(file.instance, backup)
    assert file.contents() == before


def test_it_is_refused_while_the_application_has_the_file_open(file: Lending) -> None:
    backup = backed_up_and_used(file)
    with App(file.url):
        before = file.files()
        with pytest.raises(Guarded, match=r"is open in process \d+ .*stop the application first"):
            restore(file.instance, backup)
        assert file.files() == before
    restore(file.instance, backup)


def test_what_a_killed_application_has_left_goes_into_the_file_that_is_kept(
    make_lending: MakeLending, tmp_path: Path
) -> None:
    for kind in ("wal", "delete"):
        lending = make_lending(kind, name=kind)
        backup = backed_up_and_used(lending)
        with App(lending.url) as app:
            app.tell("begin", "write", *(["commit"] if kind == "wal" else ["spill"]))
            app.kill()
        used = lending.contents()
        kept = Path(restore(lending.instance, backup))
        assert sqlite_contents(kept, tmp_path) == used
        assert {path.name for path in lending.path.parent.iterdir()} == {
            lending.path.name,
            kept.name,
        }


def test_what_is_no_whole_backup_is_refused(file: Lending, tmp_path: Path) -> None:
    backup = backed_up_and_used(file)
    before = file.files()
    with pytest.raises(BadInput, match="There is no backup"):
        restore(file.instance, tmp_path / "nothing.db")
    os.truncate(backup, backup.stat().st_size // 2)
    with pytest.raises(Refusal, match=r"is not whole|is damaged"):
        restore(file.instance, backup)
    text = tmp_path / "text.db"
    text.write_text("hello")
    with pytest.raises(Refusal, match="is not an SQLite database"):
        restore(file.instance, text)
    assert file.files() == before


def test_on_postgresql_it_goes_into_a_new_database(make_lending: MakeLending) -> None:
    lending = make_lending("postgres")
    before = lending.contents()
    backup = backed_up_and_used(lending)
    used = lending.contents()
    name = restore(lending.instance, backup)
    url = sa.make_url(lending.url)
    try:
        restored = url.set(database=name).render_as_string(hide_password=False)
        assert postgres_contents(restored) == before
        assert lending.contents() == used
    finally:
        admin = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}"'.encode())


def test_a_dump_that_cannot_be_restored_leaves_no_database(make_lending: MakeLending) -> None:
    lending = make_lending("postgres")
    backup = lending.back_up(lending.plan())
    os.truncate(backup, backup.stat().st_size // 2)
    databases = "SELECT count(*) FROM pg_database"
    engine = lending.engine()
    with engine.connect() as connection:
        before = connection.exec_driver_sql(databases).scalar_one()
    with pytest.raises(Refusal, match="pg_restore failed"):
        restore(lending.instance, backup)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(databases).scalar_one() == before
