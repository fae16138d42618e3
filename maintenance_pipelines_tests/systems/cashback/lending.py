"""A lending application's database, made by the application, and how it looks from outside.

What the tests compare is read here by `sqlite3` and `psycopg` themselves.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines.systems.cashback import migration, rollback, verification
from maintenance_pipelines.systems.cashback.instance import Instance
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance
from maintenance_pipelines_tests.systems.cashback import app_models

ME = Request("tester")
PATIENCE_S = 1.0
BESIDE = ("", "-wal", "-shm", "-journal")
Contents = dict[str, Any]


@dataclass(frozen=True)
class Lending:
    """One instance: what the project sees of it, its ledger, the application's own address."""

    instance: Instance
    ledger: Database
    url: str
    folder: Path

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(self.url.removeprefix("sqlite:///"))

    def engine(self) -> sa.Engine:
        """The application's own connections; dispose of it."""
        return sa.create_engine(self.url, poolclass=sa.NullPool)

    def execute(self, *statements: str) -> None:
        """What the application, or its administrator, does to its database."""
        engine = self.engine()
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def plan(self, **asked: Any) -> Run:
        """Detection."""
        return migration.plan(self.instance, self.ledger, Request("tester", **asked))

    def back_up(self, run: Run) -> Path:
        """The backup of a run."""
        made = migration.back_up(self.instance, self.ledger, run, Order(), self.folder / "backups")
        assert made is not None
        return made.path

    def apply(self, run: Run, **order: Any) -> Run:
        """The migration itself, without a backup of its own."""
        return migration.apply(self.instance, self.ledger, run, Order(**order))

    def verify(self, run: Run) -> Verification:
        """Verification."""
        return verification.verify(self.instance, self.ledger, run)

    def migrate(self) -> Verification:
        """All of it."""
        run = self.plan()
        if run.planned and run.state != "applied":
            migration.back_up(self.instance, self.ledger, run, Order(), self.folder / "backups")
            run = self.apply(run)
        return self.verify(run)

    def roll_back(self, run: Run, force: bool = False) -> Verification:
        """The rollback."""
        exports = self.folder / "exports"
        return rollback.rollback(self.instance, self.ledger, run, ME, Order(), exports, force=force)

    def contents(self) -> Contents:
        """Every definition and every row, in a copy of an SQLite file that recovers by itself."""
        if self.instance.kind == "PostgreSQL":
            return postgres_contents(self.url)
        return sqlite_contents(self.path, self.folder)

    def tables(self) -> set[str]:
        """The tables that there are."""
        return set(self.contents()["rows"])

    def files(self) -> dict[str, str]:
        """A checksum of every file in the folder of the SQLite file, and its time of change.

        The shared memory of a running application is its own affair.
        """
        return {
            file.name: f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_mtime_ns}"
            for file in sorted(self.path.parent.iterdir())
            if file.is_file() and not file.name.endswith("-shm")
        }


def sqlite_contents(path: Path, scratch: Path) -> Contents:
    """Every definition and row of an SQLite file, after SQLite's own recovery of a copy."""
    copy = scratch / "looked-at" / path.name
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    for suffix in BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            shutil.copy(beside, copy.with_name(copy.name + suffix))
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        schema = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        ).fetchall()
        names = [name for type_, name, _, _ in schema if type_ == "table"]
        rows = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
    return {"definitions": sorted(map(str, schema)), "rows": rows}


def postgres_contents(url: str) -> Contents:
    """Every column, constraint and row of a PostgreSQL database, outside the ledger."""
    address = sa.make_url(url)
    named: dict[str, Any] = {
        **address.translate_connect_args(username="user", database="dbname"),
        **address.query,
    }
    with psycopg.connect(make_conninfo(**named)) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()
        constraints = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
        ).fetchall()
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        rows = {
            name: connection.execute(
                f'SELECT * FROM public."{name}" ORDER BY 1'.encode()
            ).fetchall()
            for (name,) in tables
        }
    return {"definitions": [*map(str, columns), *map(str, constraints)], "rows": rows}


def without(contents: Contents, tables: Iterable[str]) -> Contents:
    """Contents as they were before those tables."""
    gone = set(tables)
    return {
        "definitions": [d for d in contents["definitions"] if not any(t in d for t in gone)],
        "rows": {name: rows for name, rows in contents["rows"].items() if name not in gone},
    }


def sqlite_lending(
    folder: Path,
    ledger: Database,
    mode: str = "delete",
    names: Collection[str] = app_models.BEFORE,
    name: str = "prod",
    patience_s: float = PATIENCE_S,
) -> Lending:
    """An SQLite file that the application has made and filled, in that journal mode."""
    home = folder / f"home of {name}"
    home.mkdir()
    path = home / f"lending_app_{name}.db"
    path.write_bytes(_file(mode, tuple(names)))
    return Lending(SqliteInstance(name, path, patience_s), ledger, f"sqlite:///{path}", folder)


@cache
def _file(mode: str, names: tuple[str, ...]) -> bytes:
    """What the application's file of that kind is like, made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lending.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        fill(f"sqlite:///{path}", names)
        assert [file.name for file in Path(folder).iterdir()] == [path.name]
        return path.read_bytes()


def postgres_lending(
    folder: Path, database: Database, url: str, names: Collection[str] = app_models.BEFORE
) -> Lending:
    """A PostgreSQL database that the application has made and filled."""
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    address = address.difference_update_query(["schema"])
    app = address.render_as_string(hide_password=False)
    lending = Lending(PostgresInstance("prod", database, PATIENCE_S), database, app, folder)
    fill(app, names)
    return lending


def fill(url: str, names: Collection[str]) -> None:
    """The application's first start, and some weeks of its life; nothing without tables."""
    if not names:
        return
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    app_models.create(engine, names)
    if set(app_models.BEFORE) <= set(names):
        app_models.live(engine)
    engine.dispose()
