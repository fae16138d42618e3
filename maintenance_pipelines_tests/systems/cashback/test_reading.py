"""Reading an SQLite file: in every state that it can be found in, and without a trace."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.refusals import Guarded, Misconfigured
from maintenance_pipelines.systems.cashback import reading
from maintenance_pipelines_tests.systems.cashback.app_process import App
from maintenance_pipelines_tests.systems.cashback.conftest import MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import Lending

PAYMENTS = sa.text("SELECT count(*) FROM payment")


def payments(lending: Lending) -> int:
    return lending.instance.read(lambda connection: int(connection.execute(PAYMENTS).scalar_one()))


def test_a_file_at_rest_is_read_without_a_trace(file: Lending) -> None:
    before = file.files()
    assert payments(file) > 0
    assert file.files() == before


def test_pages_that_are_only_in_the_wal_of_a_running_application_are_seen(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("wal")
    had = payments(lending)
    with App(lending.url) as app:
        app.tell("write")
        before = lending.files()
        assert f"{lending.path.name}-wal" in before
        assert payments(lending) == had + 1
        assert lending.files() == before


def test_a_wal_of_an_application_that_was_killed_is_read_and_kept(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("wal")
    had = payments(lending)
    with App(lending.url) as app:
        app.tell("write")
        app.kill()
        before = lending.files()
        assert payments(lending) == had + 1
        assert lending.files() == before


def test_a_wal_alone_is_read_from_a_copy(make_lending: MakeLending, tmp_path: Path) -> None:
    lending = make_lending("wal")
    had = payments(lending)
    with App(lending.url) as app:
        app.tell("write")
        app.kill()
    shm = lending.path.with_name(lending.path.name + "-shm")
    shm.unlink()
    before = lending.files()
    assert payments(lending) == had + 1
    assert lending.files() == before
    assert not shm.exists()


def test_an_empty_wal_is_none(make_lending: MakeLending) -> None:
    lending = make_lending("wal")
    lending.path.with_name(lending.path.name + "-wal").touch()
    before = lending.files()
    assert payments(lending) > 0
    assert lending.files() == before


def test_a_hot_journal_is_refused_and_kept(make_lending: MakeLending) -> None:
    lending = make_lending("delete")
    with App(lending.url) as app:
        app.tell("begin", "spill")
        app.kill()
    before = lending.files()
    assert f"{lending.path.name}-journal" in before
    with pytest.raises(Misconfigured, match=r"hot journal.*Start the application once"):
        payments(lending)
    assert lending.files() == before


def test_a_journal_that_is_kept_but_not_hot_is_nothing(make_lending: MakeLending) -> None:
    lending = make_lending("delete")
    with closing(sqlite3.connect(lending.path)) as connection:
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("UPDATE loan SET admin_notes = 'kept'")
        connection.commit()
    before = lending.files()
    assert f"{lending.path.name}-journal" in before
    assert payments(lending) > 0
    assert lending.files() == before


def test_an_application_in_the_middle_of_a_transaction_does_not_disturb(file: Lending) -> None:
    had = payments(file)
    with App(file.url) as app:
        app.tell("begin", "write")
        assert payments(file) == had
        app.tell("commit")
        assert payments(file) == had + 1


def test_an_exclusive_lock_is_waited_for_and_then_refused(make_lending: MakeLending) -> None:
    lending = make_lending("delete")
    with App(lending.url) as app:
        app.tell("exclusive", "spill")
        begun = time.monotonic()
        with pytest.raises(Guarded, match=r"is locked.*Nothing was written"):
            payments(lending)
        assert 0.9 < time.monotonic() - begun < 6


def test_beside_an_application_that_writes_all_the_while_it_reads_and_does_not_get_in_the_way(
    file: Lending,
) -> None:
    with App(file.url) as app:
        app.tell("busy")
        counts = [payments(file) for _ in range(20)]
        time.sleep(0.1)
        figures = app.figures()
    assert counts == sorted(counts)
    assert figures["written"] > 0
    assert figures["refused"] == 0


def test_what_was_read_while_the_file_changed_is_thrown_away(make_lending: MakeLending) -> None:
    lending = make_lending("delete")
    seen: list[int] = []

    def look(connection: sa.Connection) -> int:
        seen.append(int(connection.execute(PAYMENTS).scalar_one()))
        if len(seen) == 1:
            with App(lending.url) as app:
                app.tell("write")
        return seen[-1]

    found = reading.read(lending.path, look, patience_s=10)
    assert seen == [found - 1, found]


def test_a_file_that_changes_back_within_one_tick_of_the_clock_has_changed(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("delete")
    before = reading.Files.beside(lending.path)
    lending.execute("UPDATE loan SET admin_notes = 'a'")
    now = reading.Files.beside(lending.path)
    assert before.header != now.header


def test_a_database_behind_a_link_has_its_journals_beside_the_file(
    make_lending: MakeLending, tmp_path: Path
) -> None:
    from maintenance_pipelines.systems.cashback.sqlite_instance import file_of

    lending = make_lending("wal")
    link = tmp_path / "link.db"
    link.symlink_to(lending.path)
    assert file_of(f"sqlite:///{link}", "X") == lending.path


def test_names_with_odd_characters_are_names(make_lending: MakeLending, tmp_path: Path) -> None:
    lending = make_lending("delete")
    odd = tmp_path / "100% odd? #1 é.db"
    shutil.copy(lending.path, odd)
    count = reading.read(odd, lambda c: c.execute(PAYMENTS).scalar_one(), 1)
    assert count == payments(lending)
