"""Other sessions in the same database: the app at work, and an administrator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database


@contextmanager
def holding(url: str, statement: str) -> Iterator[sa.Connection]:
    """Another session in a transaction that has executed a statement and stays open."""
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text(statement))
        yield connection


def terminate(database: Database) -> int:
    """Ends every session of the project in this database, as an administrator would."""
    administration = sa.create_engine(database.engine.url, poolclass=sa.NullPool)
    ended = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'maintenance_pipelines'"
    )
    with administration.connect() as connection:
        return int(connection.execute(ended).scalar_one())


def waits_for_a_lock(database: Database) -> bool:
    """Whether any session in this database is waiting for a lock right now."""
    waiting = sa.text(
        "SELECT count(*) > 0 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with database.engine.connect() as connection:
        return bool(connection.execute(waiting).scalar_one())


@contextmanager
def meanwhile(work: Callable[[threading.Event], Any]) -> Iterator[threading.Event]:
    """Runs `work` in a thread of its own until the end, which it is told by an event.

    What it raises is raised here.
    """
    over = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work(over)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join()
    if raised:
        raise raised[0]
