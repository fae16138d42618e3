"""The embedded server: shared, stopped by its last user, and not put out by a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Unreachable
from maintenance_pipelines.settings import PROJECT
from maintenance_pipelines_tests.support.clusters import FAST, ThrowawayCluster

HOLD = """
import sys
from pathlib import Path
from maintenance_pipelines import embedded
print(embedded.database_url(Path(sys.argv[1]), "demo"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own_home() -> Iterator[Path]:
    """A home of the test's own; what a killed holder left running is ended."""
    with tempfile.TemporaryDirectory(prefix="maintenance-test-") as folder:
        try:
            yield Path(folder)
        finally:
            ThrowawayCluster(Path(folder) / "postgres" / "18", Path()).kill()


def _holder(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)],
        cwd=PROJECT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _ready(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def _end(holder: subprocess.Popen[str]) -> None:
    holder.communicate("")
    assert holder.returncode == 0


def _running(home: Path) -> bool:
    return bool(embedded.Server(home / "postgres" / "18", Path()).processes)


def test_a_named_database_is_made_once_and_kept(home: Path) -> None:
    url = embedded.resolve("embedded:kept", home)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t ()")
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    assert embedded.resolve("embedded:kept", home) == url
    with psycopg.connect(url) as connection:
        connection.execute("SELECT FROM t")


def test_other_urls_are_left_as_they_are(tmp_path: Path) -> None:
    url = "postgresql://user:word@host/db?schema=app"
    assert embedded.resolve(url, tmp_path) == url
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "Demo", 'x"; DROP', "a" * 64, "é"])
def test_a_name_that_is_no_database_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="does not name a database"):
        embedded.resolve(f"embedded:{name}", tmp_path)


def test_a_version_that_is_not_shipped_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_POSTGRES_VERSION", "17")
    with pytest.raises(Misconfigured, match="16 or 18"):
        embedded.server(tmp_path)


def test_the_last_process_that_uses_the_server_stops_it(own_home: Path) -> None:
    first, second = _holder(own_home), _holder(own_home)
    assert _ready(first) == _ready(second) != ""
    _end(first)
    assert _running(own_home)
    _end(second)
    assert not _running(own_home)


def test_a_killed_user_is_not_counted(own_home: Path) -> None:
    killed, orderly = _holder(own_home), _holder(own_home)
    _ready(killed), _ready(orderly)
    killed.kill()
    killed.communicate()
    _end(orderly)
    assert not _running(own_home)


def test_a_server_left_behind_by_a_killed_user_is_used_again(own_home: Path) -> None:
    killed = _holder(own_home)
    url = _ready(killed)
    killed.kill()
    killed.communicate()
    assert _running(own_home)
    heir = _holder(own_home)
    assert _ready(heir) == url
    _end(heir)
    assert not _running(own_home)


def test_committed_rows_survive_a_kill_of_the_whole_server(own_server: ThrowawayCluster) -> None:
    url = own_server.url("postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        own_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    own_server.restart()
    assert own_server.url("postgres") == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (1,)


def test_a_process_that_got_the_dead_servers_number_is_not_taken_for_it(
    own_server: ThrowawayCluster,
) -> None:
    own_server.kill()
    file = own_server.folder / "postmaster.pid"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
    own_server.restart()
    with psycopg.connect(own_server.url("postgres")) as connection:
        connection.execute("SELECT 1")


@pytest.mark.parametrize("folder", ["with space, and comma", "long" * 40, "é%2F"])
def test_any_folder_will_do(tmp_path: Path, folder: str) -> None:
    cluster = ThrowawayCluster(tmp_path / folder / "data", embedded.binaries(18), FAST)
    with cluster:
        cluster.create("app")
        with psycopg.connect(cluster.url("app")) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("app",)
    assert not cluster.processes


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="MAINTENANCE_HOME"):
        embedded.database_url(tmp_path / "file", "demo")


def test_a_server_that_cannot_start_is_refused_in_one_sentence(tmp_path: Path) -> None:
    settings = {**FAST, "shared_buffers": "nonsense"}
    cluster = ThrowawayCluster(tmp_path / "data", embedded.binaries(18), settings)
    with pytest.raises(Unreachable, match=r"failed at pg_ctl.*server\.log"):
        cluster.start()
