"""Databases that are built once and copied for each test: the app's tables, a demo's rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import sqlalchemy as sa
from psycopg import sql

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.support.clusters import Cluster

Build = Callable[[sa.Connection, str], None]


class Templates:
    """The templates of one test process. `stack` removes what was made, at its end."""

    def __init__(self, server: Cluster, worker: str, stack: ExitStack) -> None:
        self._server, self._worker, self._stack = server, worker, stack
        self._built: set[str] = set()
        self._numbers = itertools.count(1)

    def copy(self, name: str, build: Build, with_ledger: bool = True) -> str:
        """The name of a new database as `build` makes it, given a connection and the schema."""
        template = f"template_{name}_{self._worker}"
        if template not in self._built:
            self._make(template)
            self._fill(template, build, with_ledger)
            self._built.add(template)
        made = f"{name}_{self._worker}_{next(self._numbers)}"
        self._server.drop(made)
        with psycopg.connect(self._server.url("postgres"), autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(made), sql.Identifier(template)))
        return made

    def drop(self, name: str) -> None:
        """Removes a copy."""
        self._server.drop(name)

    def _make(self, name: str) -> None:
        self._server.drop(name)
        self._server.create(name)
        self._stack.callback(self._server.drop, name)

    def _fill(self, name: str, build: Build, with_ledger: bool) -> None:
        made = Database.connect(self._server.url(name), "TEMPLATE")
        with made.engine.begin() as connection:
            build(connection, made.schema)
        if with_ledger:
            ledger.install(made)
        made.dispose()  # whoever is connected to it keeps it from being copied
