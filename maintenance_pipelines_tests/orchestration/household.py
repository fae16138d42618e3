"""A benefits database with demo data, Dagster's storage, and a terminal: what these tests share."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.benefits import demo
from maintenance_pipelines_tests.support.clusters import Cluster

JOB = "benefit_status_backfill"
MONTH = "2025-08"
PROJECT = Path(__file__).resolve().parents[2]

STATUSES = sa.text(
    'SELECT count(*), md5(string_agg(s::text, chr(10) ORDER BY id)) FROM "BenefitStatus" AS s'
)


def make_template(server: Cluster, name: str) -> str:
    """A database with demo data, to be copied for each test."""
    server.drop(name)
    server.create(name)
    database = Database.connect(server.url(name), "TEST_DATABASE_URL")
    with database.transaction(timeout_s=60) as connection:
        demo.build(connection, "public")
    database.dispose()
    return name


def copy(server: Cluster, template: str, name: str) -> str:
    """A copy of the template; returns its URL."""
    server.drop(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return server.url(name)


@dataclass(frozen=True)
class App:
    """The app's database of one test, seen without the project's own code."""

    url: str

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Executes a statement as the app's owner; returns its rows, if it has any."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def statuses(self) -> tuple[int, str]:
        """How many statuses there are, and a digest of all of them."""
        rows, digest = self.sql(STATUSES.text)[0]
        return rows, digest

    def tables(self) -> set[str]:
        """The tables of the schema `maintenance`."""
        found = self.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'maintenance'")
        return {name for (name,) in found}


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it has to be."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def sentence(self) -> str:
        """The last line of standard error."""
        return self.err.strip().splitlines()[-1]


def command(*arguments: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-P", "-m", "maintenance_pipelines.cli", *arguments]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of its own."""
    return {**os.environ, **settings, "PYTHONPATH": str(PROJECT)}


def wait_for_batches(app: App, batches: int) -> None:
    """Until so many batches of the run under way are committed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if "batch" in app.tables():
            done = app.sql("SELECT count(*) FROM maintenance.batch")[0][0]
            if done >= batches:
                return
        time.sleep(0.02)
    raise AssertionError("no batch was applied in a minute")
