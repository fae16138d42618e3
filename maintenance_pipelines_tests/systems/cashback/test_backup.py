"""Backups: whole or absent, looked at, and room for them looked for first."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
from collections import namedtuple
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.refusals import Guarded, Misconfigured, Refusal
from maintenance_pipelines.systems.cashback import (
    backup,
    migration,
    postgres_dump,
    sqlite_copy,
)
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance
from maintenance_pipelines_tests.systems.cashback.app_process import App
from maintenance_pipelines_tests.systems.cashback.conftest import MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import Lending, sqlite_contents

Usage = namedtuple("Usage", "total used free")


def programs_of(lending: Lending) -> Path:
    """PostgreSQL's programs for the server that the tests run on."""
    with lending.ledger.transaction() as connection:
        version = connection.execute(postgres_dump.VERSION).scalar_one()
    return postgres_dump.programs_for(version)


def test_a_backup_of_a_file_has_everything_that_the_file_has(file: Lending, tmp_path: Path) -> None:
    copy = file.back_up(file.plan())
    assert copy.parent == tmp_path / "backups" / "prod"
    assert sqlite_contents(copy, tmp_path) == file.contents()


def test_a_backup_is_for_its_owner_alone(lending: Lending) -> None:
    copy = lending.back_up(lending.plan())
    assert copy.stat().st_mode & 0o077 == 0
    assert copy.parent.stat().st_mode & 0o077 == 0


def test_a_backup_leaves_nothing_else_in_its_folder_nor_beside_the_instance(
    file: Lending,
) -> None:
    before = set(file.files())
    copy = file.back_up(file.plan())
    assert {path.name for path in copy.parent.iterdir()} == {copy.name, ".lock"}
    assert set(file.files()) == before


def test_a_dump_can_be_listed_and_has_every_table(make_lending: MakeLending) -> None:
    lending = make_lending("postgres")
    copy = lending.back_up(lending.plan())
    programs = programs_of(lending)
    listed = subprocess.run(
        [programs / "pg_restore", "--list", copy], capture_output=True, text=True, check=True
    ).stdout
    for table in lending.tables():
        assert f" TABLE DATA public {table} " in listed


def test_the_ledger_knows_the_backup_and_its_rows(lending: Lending) -> None:
    run = lending.plan()
    path = lending.back_up(run)
    made = migration.backup_of(runs.find(lending.ledger, run.id))
    assert made is not None
    assert made.path == path
    assert made.rows == {name: len(rows) for name, rows in lending.contents()["rows"].items()}
    assert made.bytes == path.stat().st_size


def test_a_backup_beside_an_application_that_writes_is_of_one_moment(file: Lending) -> None:
    # A moment without a write is rare where the machine is busy as well.
    assert isinstance(file.instance, SqliteInstance)
    file = replace(file, instance=replace(file.instance, patience_s=60))
    with App(file.url) as app:
        app.tell("busy")
        for _ in range(3):
            run = file.plan()
            copy = file.back_up(run)
            with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        figures = app.figures()
    assert figures["written"] > 0
    assert figures["refused"] == 0


def test_there_is_no_backup_where_there_is_no_room(
    lending: Lending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 1))
    with pytest.raises(Misconfigured, match="no room for the backup"):
        lending.back_up(lending.plan())
    assert list((lending.folder / "backups" / "prod").glob("20*")) == []


def test_a_copy_with_a_fault_is_no_backup_and_blocks_the_migration(
    make_lending: MakeLending, monkeypatch: pytest.MonkeyPatch
) -> None:
    lending = make_lending("delete")
    run = lending.plan()
    copy = sqlite_copy._copy

    def copy_badly(path: Path, into: Path, progress: object) -> object:
        rows = copy(path, into, lambda done, total: None)
        with into.open("r+b") as file:
            file.seek(5 * 4096)
            file.write(os.urandom(8192))
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_copy, "_copy", copy_badly)
        with pytest.raises(Refusal, match=r"is not whole|is damaged"):
            lending.back_up(run)
    assert list((lending.folder / "backups" / "prod").glob("20*")) == []
    with pytest.raises(Guarded, match="no verified backup"):
        lending.apply(run)


def test_a_copy_with_other_rows_is_no_backup(
    make_lending: MakeLending, monkeypatch: pytest.MonkeyPatch
) -> None:
    lending = make_lending("wal")
    run = lending.plan()
    copy = sqlite_copy._copy

    def lose_one(path: Path, into: Path, progress: object) -> object:
        rows = copy(path, into, lambda done, total: None)
        with closing(sqlite3.connect(into)) as connection:
            connection.execute("DELETE FROM payment WHERE id = 1")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return rows

    monkeypatch.setattr(sqlite_copy, "_copy", lose_one)
    with pytest.raises(Guarded, match="other rows"):
        lending.back_up(run)


def test_a_dump_that_was_cut_off_is_no_backup(make_lending: MakeLending) -> None:
    lending = make_lending("postgres")
    run = lending.plan()
    copy = lending.back_up(run)
    programs, rows = programs_of(lending), dict.fromkeys(lending.tables(), 0)
    postgres_dump.demand_whole(programs, copy, "public", rows)
    os.truncate(copy, copy.stat().st_size * 2 // 3)
    with pytest.raises(Misconfigured, match="pg_restore"):
        postgres_dump.demand_whole(programs, copy, "public", rows)
    with pytest.raises(Guarded, match="no longer in"):
        lending.apply(run)


def test_only_the_newest_are_kept(file: Lending) -> None:
    made = []
    for _ in range(4):
        run = file.plan()
        found = migration.back_up(
            file.instance, file.ledger, run, Order(), file.folder / "backups", keep=2
        )
        assert found is not None
        made.append(found.path)
    assert [path.exists() for path in made] == [False, False, True, True]


def test_what_a_killed_backup_has_left_is_removed_by_the_next(lending: Lending) -> None:
    folder = lending.folder / "backups" / "prod"
    folder.mkdir(parents=True)
    left = folder / f"2025-01-01T000000.000000Z.db{backup.PARTIAL}"
    left.write_bytes(b"half")
    left.with_name(f"{left.name}-journal").write_bytes(b"half")
    copy = lending.back_up(lending.plan())
    assert {path.name for path in folder.iterdir()} == {copy.name, ".lock"}


def test_two_backups_of_one_instance_are_not_made_at_once(lending: Lending) -> None:
    folder = lending.folder / "backups" / "prod"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Guarded, match="Another process is making a backup of prod"):
            lending.back_up(lending.plan())


def test_a_folder_that_cannot_be_made_is_refused(lending: Lending) -> None:
    (lending.folder / "backups").write_text("a file")
    with pytest.raises(Misconfigured, match="Backups cannot be written"):
        lending.back_up(lending.plan())


def test_no_password_is_among_the_arguments_of_pg_dump(
    make_lending: MakeLending, monkeypatch: pytest.MonkeyPatch
) -> None:
    lending = make_lending("postgres")
    seen: list[str] = []
    run = subprocess.run

    def look(arguments: list[object], **options: object) -> object:
        seen.extend(map(str, arguments))
        return run(arguments, **options)  # type: ignore[call-overload]

    database = lending.ledger
    url = database.engine.url.set(password="sesame")
    monkeypatch.setattr(database.engine, "url", url)
    monkeypatch.setattr(subprocess, "run", look)
    lending.back_up(lending.plan())
    assert any("pg_dump" in argument for argument in seen)
    assert not any("sesame" in argument for argument in seen)
