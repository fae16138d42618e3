"""What is executed on an instance during a migration: CREATE, SELECT, GRANT, nothing else."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.support.clusters import ThrowawayCluster
from maintenance_pipelines_tests.systems.cashback.lending import (
    Lending,
    postgres_lending,
    sqlite_lending,
)

ALLOWED = re.compile(r"(CREATE TABLE|SELECT|GRANT)\s", re.IGNORECASE)
BOUNDS = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SET TRANSACTION)\b", re.IGNORECASE)

QUESTIONS = re.compile(
    r"(-- )?PRAGMA ((main|temp)\.)?"
    r"(table_x?info|index_(x?info|list)|foreign_key_list|read_uncommitted$)"
)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that SQLite itself begins to execute, on any file."""
    statements: list[str] = []
    connect = sqlite3.connect

    def connect_and_listen(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda text: statements.append(" ".join(text.split())))
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_listen)
    return statements


def test_an_sqlite_file_is_read_and_gets_its_tables(file: Lending, executed: list[str]) -> None:
    run = file.plan()
    file.back_up(run)
    before = len(executed)
    file.apply(run)
    said = executed[before:]
    assert sum(s.startswith("CREATE TABLE") for s in said) == 6
    assert [s for s in said if not (ALLOWED.match(s) or BOUNDS.match(s))] == []
    assert file.verify(runs.find(file.ledger, run.id)).run.state == "verified"
    # Looking, before and afterwards, is SELECT and the questions that SQLite has no SELECT for.
    others = [s for s in executed if not (ALLOWED.match(s) or BOUNDS.match(s))]
    unknown = [s for s in others if not QUESTIONS.match(s)]
    assert sorted(set(unknown)) == [
        "PRAGMA integrity_check",
        "PRAGMA journal_mode = OFF",  # both on the copy that becomes the backup
        "PRAGMA synchronous = OFF",
    ]


def logged(cluster: ThrowawayCluster, database: str) -> list[str]:
    """What the server says was executed in a database by this project."""
    text = (cluster.folder / "server.log").read_text()
    entries = re.findall(
        rf"^maintenance_pipelines\|{database}\|LOG:  (?:statement|execute [^:]*): "
        r"(.*?)(?=^\S*\|\S*\|[A-Z]+:  |\Z)",
        text,
        re.MULTILINE | re.DOTALL,
    )
    return [" ".join(entry.split()) for entry in entries]


def test_a_postgresql_database_gets_its_tables_and_grants_by_the_servers_own_log(
    own_server: ThrowawayCluster, make_database: MakeDatabase, tmp_path: Path
) -> None:
    own_server.create("lending")
    url = own_server.url("lending")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE app LOGIN")
        connection.execute("ALTER SYSTEM SET log_line_prefix = '%a|%d|'")
        connection.execute("ALTER DATABASE lending SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    database = make_database(url)
    lending = postgres_lending(tmp_path, database, url)
    lending.execute("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO app")
    ledger.ensure(database)
    run = lending.plan()
    lending.back_up(run)
    before = len(logged(own_server, "lending"))
    lending.verify(lending.apply(run))
    database.dispose()
    said = logged(own_server, "lending")[before:]
    assert sum(s.startswith("CREATE TABLE public.") for s in said) == 6
    assert sum(s.startswith("GRANT INSERT, SELECT ON public.") for s in said) == 6
    outside = [s for s in said if not re.search(r"\bmaintenance\.", s)]
    assert [s for s in outside if not (ALLOWED.match(s) or BOUNDS.match(s))] == []
    inside = [s for s in said if re.search(r"\bmaintenance\.", s)]
    assert [s for s in inside if not re.match(r"(SELECT|INSERT INTO|UPDATE) ", s)] == []
    assert all(re.match(r"(INSERT INTO|UPDATE) maintenance\.", s) or "SELECT" in s for s in inside)


def test_nothing_but_the_named_instance_is_opened(
    file: Lending, make_sibling: Lending, executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    listening = sqlite3.connect

    def connect(path: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(str(path))
        made: sqlite3.Connection = listening(path, *arguments, **options)
        return made

    monkeypatch.setattr(sqlite3, "connect", connect)
    before = make_sibling.files()
    file.migrate()
    assert opened and not any("lending_app_dev" in path for path in opened)
    assert make_sibling.files() == before


@pytest.fixture
def make_sibling(file: Lending, tmp_path: Path) -> Lending:
    """Another instance of the same application."""
    return sqlite_lending(tmp_path, file.ledger, name="dev")


def test_the_servers_log_is_read_as_it_is_meant(own_server: ThrowawayCluster) -> None:
    own_server.create("lending")
    engine = sa.create_engine(
        own_server.url("lending").replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"application_name": "maintenance_pipelines"},
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET log_line_prefix = '%%a|%%d|'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        connection.exec_driver_sql("SET log_statement = 'all'")
        connection.exec_driver_sql("DROP TABLE IF EXISTS\n    nothing")
    engine.dispose()
    assert "DROP TABLE IF EXISTS nothing" in logged(own_server, "lending")
