"""The demo's lending database: realistic enough, and one that the migration can work on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.cashback import demo
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance
from maintenance_pipelines.systems.cashback.schema import PARENTS, TABLES
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance
from maintenance_pipelines_tests.systems.cashback.lending import Lending, sqlite_contents


def test_the_demo_on_a_file_can_be_migrated(tmp_path: Path, ledger: Database) -> None:
    path = tmp_path / "demo" / "lending.db"
    demo.build_file(path)
    lending = Lending(SqliteInstance("demo", path), ledger, f"sqlite:///{path}", tmp_path)
    found = lending.migrate()
    assert (found.run.state, found.run.applied) == ("verified", 6)
    rows = lending.contents()["rows"]
    assert set(rows) == {*PARENTS, *TABLES}
    assert all(len(rows[parent]) > 30 for parent in PARENTS)


def test_the_demo_on_postgresql_can_be_migrated(app_database: Database, tmp_path: Path) -> None:
    with app_database.transaction() as connection:
        demo.build(connection, app_database.schema)
    url = app_database.engine.url.render_as_string(hide_password=False)
    lending = Lending(PostgresInstance("demo", app_database), app_database, url, tmp_path)
    assert lending.migrate().run.state == "verified"
    lending.execute("INSERT INTO \"user\" (username) VALUES ('the next one')")


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    first, second, other = (tmp_path / f"{name}.db" for name in ("first", "second", "other"))
    demo.build_file(first, seed=7)
    demo.build_file(second, seed=7)
    demo.build_file(other, seed=8)
    contents = [sqlite_contents(path, tmp_path) for path in (first, second, other)]
    assert contents[0] == contents[1] != contents[2]


def test_no_payment_lies_in_the_future_and_none_refers_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lending.db"
    demo.build_file(path, scale=3)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM user").fetchone() == (demo.USERS * 3,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        (latest,) = connection.execute("SELECT max(payment_date) FROM payment").fetchone()
    assert latest < str(demo.TODAY)


def test_a_demo_begins_anew_and_replaces_nothing_but_a_demo(tmp_path: Path) -> None:
    path = tmp_path / "lending.db"
    demo.build_file(path)
    before = sqlite_contents(path, tmp_path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM payment")
    engine.dispose()
    demo.build_file(path)
    assert sqlite_contents(path, tmp_path) == before
    mine = tmp_path / "mine.db"
    mine.write_text("mine")
    with pytest.raises(BadInput, match="is not a demo's"):
        demo.build_file(mine)
    assert mine.read_text() == "mine"
