"""Addresses and files that will not do: one clear sentence each, and nothing is created."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from maintenance_pipelines.engine.refusals import BadInput, Misconfigured
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance, file_of
from maintenance_pipelines_tests.systems.cashback.app_process import PROJECT
from maintenance_pipelines_tests.systems.cashback.conftest import MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import Lending

NOBODY = 65534


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///instance/lending.db", "names a relative path"),
        ("sqlite:///./lending.db", "names a relative path"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///file:/tmp/x.db?mode=ro&uri=true", "a URI of SQLite's own"),
        ("sqlite://fileserver/share/lending.db", "on another host"),
        ("sqlite://me:secret@fileserver/lending.db", "on another host"),
        ("/tmp/lending.db", "cannot be read as an address"),
        ("", "cannot be read as an address"),
    ],
)
def test_an_address_that_names_no_file_of_this_machine_is_refused(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refusal:
        file_of(url, "CASHBACK_PROD_DATABASE_URL")
    text = str(refusal.value)
    assert text.startswith("CASHBACK_PROD_DATABASE_URL ")
    assert "secret" not in text


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"])
def test_an_address_as_applications_have_it_names_its_file(driver: str, tmp_path: Path) -> None:
    assert file_of(f"{driver}:///{tmp_path}/a b.db?timeout=5", "X") == tmp_path / "a b.db"


def test_a_file_that_does_not_exist_is_an_error_and_is_never_created(
    make_lending: MakeLending, tmp_path: Path
) -> None:
    lending = make_lending("delete")
    missing = SqliteInstance("dev", tmp_path / "nowhere" / "lending.db")
    beside = SqliteInstance("dev", tmp_path / "lending.db")
    for instance in (missing, beside):
        gone = Lending(instance, lending.ledger, "sqlite:////", tmp_path)
        with pytest.raises(Misconfigured, match=r"there is no file .* Nothing was created"):
            gone.plan()
        with pytest.raises(Misconfigured, match=r"there is no file"), instance.transaction():
            pass
        assert not instance.path.exists()
    assert not missing.path.parent.exists()


@pytest.mark.parametrize(
    "content",
    [b"hello", b"not a database at all\n" * 500, b"SQLite format 3\0", b"%PDF" + b"\0" * 5000],
)
def test_a_file_that_is_no_database_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lending.db"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"is not an SQLite database, or it is encrypted"):
        SqliteInstance("prod", path).read(lambda c: c.exec_driver_sql("SELECT * FROM loan"))
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["lending.db"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lending.db"
    path.touch()
    with pytest.raises(Misconfigured, match="is empty"):
        SqliteInstance("prod", path).read(lambda connection: None)
    assert path.stat().st_size == 0


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name in ("", "pipe", "socket"):
        with pytest.raises(Misconfigured, match="is not a file"):
            SqliteInstance("prod", tmp_path / name).read(lambda connection: None)


def test_a_damaged_database_is_refused(make_lending: MakeLending) -> None:
    lending = make_lending("delete")
    size = lending.path.stat().st_size
    os.truncate(lending.path, size // 2)
    with pytest.raises(Misconfigured, match="is damaged"):
        lending.plan()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are the owner's."""
    with tempfile.TemporaryDirectory(prefix="maintenance-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_another_user(code: str, path: Path) -> str:
    """Runs code as somebody who has no special rights; returns what it prints."""
    # As root nothing is unreadable, so the rights are given up, once everything is imported.
    lines = [
        "import os, sys, pathlib",
        "from maintenance_pipelines.engine.refusals import Refusal",
        "from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance",
        "instance = SqliteInstance('prod', pathlib.Path(sys.argv[1]), 1)",
        f"os.geteuid() or os.setuid({NOBODY})",
        "try:",
        *(f"    {line}" for line in code.splitlines()),
        "except Refusal as refusal:",
        "    print(refusal)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(path)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_that_cannot_be_read_is_refused(
    make_lending: MakeLending, public_folder: Path
) -> None:
    path = make_lending("delete").path.rename(public_folder / "lending.db")
    path.chmod(0)
    said = as_another_user("instance.read(lambda connection: None)", path)
    assert "cannot be read by this user" in said


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_folder_that_cannot_be_written_allows_detection_and_no_migration(
    make_lending: MakeLending, public_folder: Path, mode: str
) -> None:
    path = make_lending(mode).path.rename(public_folder / "lending.db")
    path.chmod(0o666)
    public_folder.chmod(0o555)
    try:
        reading = "print(instance.read(lambda c: c.exec_driver_sql('SELECT 1').scalar_one()))"
        assert as_another_user(reading, path) == "1\n"
        said = as_another_user("with instance.transaction():\n    print('written')", path)
    finally:
        public_folder.chmod(0o755)
    assert "cannot be written by this user" in said
    assert "keeps its journal there" in said
    assert [file.name for file in public_folder.iterdir()] == ["lending.db"]


def test_a_file_that_cannot_be_written_is_refused(
    make_lending: MakeLending, public_folder: Path
) -> None:
    path = make_lending("delete").path.rename(public_folder / "lending.db")
    path.chmod(0o444)
    public_folder.chmod(0o777)
    said = as_another_user("with instance.transaction():\n    print('written')", path)
    assert "cannot be written by this user" in said
