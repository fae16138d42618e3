"""The backup of an SQLite file: SQLite's online backup, then a look at the copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from maintenance_pipelines.engine.refusals import Guarded, Misconfigured
from maintenance_pipelines.systems.cashback import disk, reading
from maintenance_pipelines.systems.cashback.detection import count_rows
from maintenance_pipelines.systems.cashback.sqlite_instance import HOLD_S, SqliteInstance

PAGES = 4_096
"""Pages that are copied between two reports of progress."""


def copy(
    instance: SqliteInstance, into: Path, progress: Callable[[int, int], None]
) -> Mapping[str, int]:
    """Copies an instance into an empty file and returns its rows by table.

    The copy and the counts are of one moment, whatever the application writes meanwhile; in
    rollback mode it waits for that long with its commits, in WAL mode it does not. Refuses where
    the copy has a fault, or other rows.
    """
    instance.demand_writable()
    try:
        disk.demand_room(into.parent, instance.path.stat().st_size, "the backup")
        for attempt in instance.attempts():
            with attempt:
                rows = _copy(instance.path, into, progress)
        demand_whole(into, rows)
    except (DatabaseError, sqlite3.Error) as error:
        raise instance.refusal(error) or error from None
    return rows


def demand_whole(copy: Path, rows: Mapping[str, int] | None = None) -> None:
    """Refuses a copy in which SQLite finds a fault, or that does not have just these rows."""
    with reading.connected(copy, "immutable=1", silent=True) as connection:
        faults = connection.execute(sa.text("PRAGMA integrity_check")).scalars().all()
        found = dict(count_rows(connection, None)) if faults == ["ok"] else {}
    if faults != ["ok"]:
        raise Misconfigured(
            f"{copy.name} is not whole, so it is no backup: {str(faults[0]).splitlines()[-1]} "
            f"({len(faults)} faults)."
        )
    if rows is not None and found != rows:
        raise Guarded(f"{copy.name} has other rows than the instance, so it is no backup.")


def _copy(path: Path, into: Path, progress: Callable[[int, int], None]) -> Mapping[str, int]:
    def report(status: int, remaining: int, total: int) -> None:
        progress(total - remaining, total)

    with reading.connected(path, "mode=rw", HOLD_S, silent=True) as connection:
        driver = connection.connection.dbapi_connection
        target = sqlite3.connect(into, isolation_level=None)
        try:
            # Nobody sees the copy before it is verified, and `backup` brings it to disk.
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            connection.exec_driver_sql("BEGIN")
            rows = dict(count_rows(connection, None))
            driver.backup(target, pages=PAGES, progress=report)  # type: ignore[union-attr]
        finally:
            target.close()
    return rows
