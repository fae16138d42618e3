"""An instance that is an SQLite file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import tenacity
from sqlalchemy.exc import ArgumentError, DatabaseError

from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Refusal
from maintenance_pipelines.systems.cashback import reading
from maintenance_pipelines.systems.cashback.instance import PATIENCE_S, TableChange
from maintenance_pipelines.systems.cashback.schema import creation, definitions

Result = TypeVar("Result")

HOLD_S = 1.0
"""How long a lock is asked for at a time. Whoever waits to commit keeps readers out meanwhile, so
this has to be less than what applications usually bear, which is five seconds."""

EXAMPLE = "sqlite:////absolute/path/lending.db"
ENTRIES = sa.text("SELECT type, name, tbl_name, sql FROM sqlite_schema")


@dataclass(frozen=True)
class SqliteInstance:
    """An SQLite file. `patience_s` is how long a lock of the application's is waited for."""

    name: str
    path: Path
    patience_s: float = PATIENCE_S

    kind = "SQLite"
    schema = None
    keeps_ledger = False

    @property
    def where(self) -> str:
        """The file's path."""
        return str(self.path)

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """What `work` finds, by the rules of `reading`; it may be called more than once."""
        self.demand_readable()
        try:
            return reading.read(self.path, work, self.patience_s)
        except DatabaseError as error:
            raise self.refusal(error) or error from None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction that nobody else can write beside, from its first moment."""
        self.demand_writable()
        with reading.connected(self.path, "mode=rw", HOLD_S, silent=True) as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.exec_driver_sql("COMMIT")

    def attempts(self) -> tenacity.Retrying:
        """Tries again while the file is locked, until the patience is at an end."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(reading.is_busy),
            stop=tenacity.stop_after_delay(self.patience_s),
            wait=tenacity.wait_random(0.05, 0.3),
            reraise=True,
        )

    def journal_mode(self) -> str | None:
        """What the header says. (DELETE, TRUNCATE and PERSIST are a connection's own affair.)"""
        return "wal" if reading.Files.beside(self.path).in_wal_mode else "rollback"

    def size(self, connection: sa.Connection) -> int:
        """Bytes of the database file and its `-wal`."""
        wal = self.path.with_name(self.path.name + "-wal")
        return self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    def definitions(self, connection: sa.Connection) -> dict[str, str]:
        """Every entry of `sqlite_schema`."""
        return {
            f"{entry.type} {entry.name}": _digest(f"{entry.tbl_name}\n{entry.sql}")
            for entry in connection.execute(ENTRIES)
        }

    def writes(self, connection: sa.Connection) -> Callable[[], str]:
        """By `total_changes`, which counts rows written on this connection but no DDL."""
        driver: Any = connection.connection.dbapi_connection
        before: int = driver.total_changes

        def since() -> str:
            written: int = driver.total_changes - before
            return f"{written} rows" if written else ""

        return since

    def creations(self, connection: sa.Connection, tables: tuple[str, ...]) -> list[TableChange]:
        """The statements; SQLite knows no grants."""
        found = definitions().tables
        return [TableChange(name, creation(found[name], connection.dialect)) for name in tables]

    def removals(self, changes: Sequence[TableChange]) -> list[TableChange]:
        """The statements that drop what these have created, the last first."""
        return [TableChange(each.table, f"DROP TABLE {each.table}") for each in reversed(changes)]

    def execute(self, connection: sa.Connection, change: TableChange) -> None:
        """Executes the statement as it was planned."""
        connection.exec_driver_sql(change.statement)

    def seclude(self, connection: sa.Connection, changes: Sequence[TableChange]) -> None:
        """The transaction has done so from its first moment."""

    def made_by(self, connection: sa.Connection, changes: Sequence[TableChange]) -> bool:
        """By the text of their statements, which SQLite keeps and nobody else writes like this."""
        kept = {entry.name: entry.sql for entry in connection.execute(ENTRIES)}
        return all(kept.get(each.table) == each.statement for each in changes)

    def key(self, table: str) -> str:
        """As `definitions` has it."""
        return f"table {table}"

    def dependents(
        self, connection: sa.Connection, tables: Collection[str], known: Collection[str]
    ) -> list[str]:
        """Tables that refer to these, views and triggers that speak of them.

        SQLite would drop the tables all the same.
        """
        wanted = re.compile(rf"\b({'|'.join(tables)})\b", re.IGNORECASE)
        return [
            f"{entry.type} {entry.name}"
            for entry in connection.execute(ENTRIES)
            if entry.type != "index"
            and entry.name not in {*tables, *known}
            and entry.tbl_name not in tables
            and wanted.search(entry.sql or "")
        ]

    def unusable(self, connection: sa.Connection, tables: tuple[str, ...]) -> list[str]:
        """Nobody: who may use the file may use all of it."""
        return []

    def refusal(self, error: BaseException) -> Refusal | None:
        """The sentence for an error of SQLite's."""
        return reading.refusal_of(error, self.path)

    def demand_readable(self) -> None:
        """Refuses what is not there, not a file, empty, or not ours to read; opens nothing."""
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise Misconfigured(
                f"The database of {self.name} does not exist: there is no file {self.path}. "
                "Nothing was created."
            ) from None
        except PermissionError:
            raise Misconfigured(
                f"The folder {self.path.parent} cannot be read by this user."
            ) from None
        if not self.path.is_file():
            raise Misconfigured(f"The database of {self.name} is not a file: {self.path}.")
        if not os.access(self.path, os.R_OK):
            raise Misconfigured(f"{self.path} cannot be read by this user.")
        if found.st_size == 0:
            raise Misconfigured(f"{self.path} is empty, so it is no database of the application.")

    def demand_writable(self) -> None:
        """Refuses a file that cannot be changed; opens nothing."""
        self.demand_readable()
        if not os.access(self.path, os.W_OK):
            raise Misconfigured(f"{self.path} cannot be written by this user.")
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise Misconfigured(
                f"The folder {self.path.parent} cannot be written by this user, and SQLite keeps "
                "its journal there while it changes a database."
            )


def file_of(url: str, variable: str) -> Path:
    """The file that an SQLite address names, links followed; refuses any other address."""
    try:
        address = sa.make_url(url.strip())
    except (ArgumentError, ValueError):
        raise BadInput(f"{variable} cannot be read as an address; write it as {EXAMPLE}.") from None
    if address.host or address.username:
        raise BadInput(
            f"{variable} names an SQLite file on another host; run this where the file is, and "
            f"write its address as {EXAMPLE}, with four slashes."
        )
    database = address.database or ""
    if database in ("", ":memory:") or "mode=memory" in url:
        raise BadInput(f"{variable} names no file; write it as {EXAMPLE}.")
    if database.startswith("file:"):
        raise BadInput(f"{variable} holds a URI of SQLite's own; write it as {EXAMPLE}.")
    path = Path(database)
    if not path.is_absolute():
        raise BadInput(
            f"{variable} names a relative path, which means another file in every folder; write "
            f"it as {EXAMPLE}, with four slashes."
        )
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise Misconfigured(f"{variable} names a file that cannot be found.") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
