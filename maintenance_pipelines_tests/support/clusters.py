"""PostgreSQL clusters for tests: started in a second, thrown away afterwards."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg
import sqlalchemy as sa
from psycopg import sql

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.refusals import Unreachable

# What a crash of the machine would need; a crash of the server or of a process does not.
FAST = {**embedded.LAPTOP, "fsync": "off", "full_page_writes": "off"}


class Cluster(Protocol):
    """A server that tests make databases on."""

    def url(self, database: str) -> str:
        """The libpq URL of one of its databases, as a superuser."""

    def create(self, database: str) -> None:
        """Makes an empty database."""

    def drop(self, database: str) -> None:
        """Removes a database and ends the sessions in it."""


class ThrowawayCluster(embedded.Server):
    """A cluster in a folder of its own that can be killed and started again at the same URL."""

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as a power cut does it."""
        while processes := self.processes:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.01)

    def stop(self) -> None:
        """An orderly stop that ends all sessions."""
        self.release()

    def restart(self) -> None:
        """Starts it again after `kill` or `stop`, recovering where that is needed."""
        self.start()


class ForeignCluster:
    """A server that is not ours, given by the URL of a superuser."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)

    def url(self, database: str) -> str:
        return self._url.set(database=database).render_as_string(hide_password=False)

    def create(self, database: str) -> None:
        self._administer("CREATE DATABASE {} TEMPLATE template0", database)

    def drop(self, database: str) -> None:
        self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", database)

    def _administer(self, statement: Any, database: str) -> None:
        url = self._url.render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(database)))


@contextmanager
def throwaway(postgres: str) -> Iterator[ThrowawayCluster]:
    """A running cluster of a version of the wheel's, or of the programs in a folder."""
    programs = embedded.binaries(int(postgres)) if postgres.isdecimal() else Path(postgres)
    # A short folder of its own: pytest's are too long for a socket's address on some systems.
    folder = Path(tempfile.mkdtemp(prefix="maintenance-test-"))
    cluster = ThrowawayCluster(folder / "data", programs, FAST)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()  # faster than an orderly stop, and nobody will look at the data again
        cluster.release()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cluster(postgres: str) -> Iterator[Cluster]:
    """The cluster that `--postgres` names: 16, 18, a folder of programs, or a server's URL."""
    if "://" in postgres:
        yield ForeignCluster(postgres)
    else:
        with throwaway(postgres) as own:
            yield own


_numbers = itertools.count(1)


@contextmanager
def database(on: Cluster, prefix: str) -> Iterator[str]:
    """The name of a fresh empty database, removed afterwards. `prefix` sets workers apart."""
    name = f"{prefix}_{next(_numbers)}"
    on.drop(name)
    on.create(name)
    try:
        yield name
    finally:
        with suppress(psycopg.OperationalError, Unreachable):
            on.drop(name)
