"""Reading an SQLite file without changing one byte of it or leaving a file beside it.

SQLite's own read-only mode is not enough: on a database in WAL mode it creates `-shm` and `-wal`.
So the way to open the file depends on what lies beside it.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from maintenance_pipelines.engine.refusals import Guarded, Misconfigured, Refusal
from maintenance_pipelines.systems.cashback import disk

Result = TypeVar("Result")
Stamp = tuple[int, int, int]
"""Inode, size and time of change of a file."""

POLL_S = 0.2

_turns: dict[Path, threading.RLock] = {}


@dataclass(frozen=True)
class Files:
    """The database file and what lies beside it at one moment; None for a file that is not there.

    `shared`, the application's `-shm`, says that somebody is at work, or was when it was killed.
    `header` has a counter of changes: two of them can share one time stamp.
    """

    database: Stamp | None
    header: bytes
    wal: Stamp | None
    shared: bool
    journaled: bool

    @classmethod
    def beside(cls, path: Path) -> Files:
        """Looks at them now."""
        with _turn(path):
            return cls(
                database=_stamp(path),
                header=_beginning(path, 100),
                wal=_stamp(_beside(path, "-wal")),
                shared=_beside(path, "-shm").exists(),
                # A journal is one to roll back, now or later, unless it begins with a zero.
                journaled=_beginning(_beside(path, "-journal"), 1) not in (b"", b"\0"),
            )

    @property
    def in_wal_mode(self) -> bool:
        """Whether the database is in WAL mode, as its header says."""
        return self.header[18:20] == b"\x02\x02"

    @property
    def has_wal(self) -> bool:
        """Whether there are pages that are not in the database file yet."""
        return self.wal is not None and self.wal[1] > 0


class Way(Enum):
    """How a file is opened."""

    AT_REST = "as a file that nobody writes, which has to be true afterwards"
    LOCKED = "beside the application, under SQLite's own locks"
    COPIED = "as a private copy, the file and its -wal being at rest"


def way_for(files: Files, disturbed: bool) -> Way:
    """The way that changes nothing; `disturbed` where somebody was seen to write meanwhile."""
    if files.has_wal:
        return Way.LOCKED if files.shared else Way.COPIED
    # Without a -wal, reading under locks creates nothing only where none would be created.
    if files.journaled or (disturbed and not files.in_wal_mode):
        return Way.LOCKED
    return Way.AT_REST


def read(path: Path, work: Callable[[sa.Connection], Result], patience_s: float) -> Result:
    """What `work` finds in the database; `path` is that of an existing, readable file.

    What was found while the file changed is thrown away and looked up again. Raises SQLite's
    errors; `Misconfigured` for a hot journal, `Guarded` where there is no quiet moment.
    """
    deadline = time.monotonic() + patience_s
    disturbed = False
    while True:
        before = Files.beside(path)
        way = way_for(before, disturbed)
        try:
            with _opened(path, way) as connection:
                found = work(connection)
        except (DatabaseError, FileNotFoundError) as error:
            if errorname(error) == "SQLITE_READONLY_ROLLBACK":
                raise Misconfigured(
                    f"{path} has a hot journal: a process was killed while it wrote. Start the "
                    "application once, so that it recovers its database, and try again."
                ) from None
            if not (is_busy(error) or _changed(path, way, before)):
                raise
        else:
            if not _changed(path, way, before):
                return found
            disturbed = True
        if time.monotonic() > deadline:
            raise Guarded(
                f"{path} is locked, or changes all the time; stop the application and try again. "
                "Nothing was written."
            )
        time.sleep(POLL_S)


@contextmanager
def _opened(path: Path, way: Way) -> Iterator[sa.Connection]:
    match way:
        case Way.AT_REST:
            with connected(path, "immutable=1") as connection:
                yield connection
        case Way.COPIED:
            with _copy(path) as copy, connected(copy, "mode=rw") as connection:
                yield connection
        case Way.LOCKED:
            with connected(path, "mode=ro") as connection:
                yield connection


def _changed(path: Path, way: Way, before: Files) -> bool:
    """Whether a reading that took the file to be at rest cannot be relied on."""
    if way is Way.LOCKED:
        return False
    now = Files.beside(path)
    # An application may open the file and look, but not while there is a -wal to take over.
    return (now if before.has_wal else replace(now, shared=before.shared)) != before


@contextmanager
def connected(
    path: Path, parameter: str, lock_timeout_s: float = 1, silent: bool = False
) -> Iterator[sa.Connection]:
    """A connection of its own to an SQLite file, in autocommit mode, closed at the end.

    `parameter` is that of the URI: `mode=ro`, `mode=rw` or `immutable=1`; none of them creates
    the file. On a `silent` one only what the caller says is executed; it cannot be inspected.
    """
    uri = f"{path.as_uri()}?{parameter}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=lock_timeout_s)

    # SQLAlchemy greets a new database with a PRAGMA unless it is told not to.
    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=sa.NullPool, _initialize=not silent
    )
    with _turn(path), engine.connect() as connection:
        yield connection


def _turn(path: Path) -> threading.RLock:
    """One thread at a time: to close any descriptor of a file, as looking at its header does,
    releases all locks that the process has on it, SQLite's of another thread too.
    """
    return _turns.setdefault(path, threading.RLock())


def errorname(error: BaseException) -> str:
    """SQLite's name of an error, like SQLITE_BUSY; empty where there is none."""
    return getattr(getattr(error, "orig", error), "sqlite_errorname", None) or ""


def refusal_of(error: BaseException, path: Path) -> Refusal | None:
    """The sentence for an error of SQLite's; None for one that nobody has foreseen."""
    name = errorname(error)
    if is_busy(error):
        return Guarded(
            f"{path} is locked by its application; stop the application and try again. "
            "Nothing was written."
        )
    sentences = {
        "SQLITE_NOTADB": f"{path} is not an SQLite database, or it is encrypted.",
        "SQLITE_CORRUPT": f"{path} is damaged: SQLite cannot read it; restore it from a backup.",
        "SQLITE_CANTOPEN": f"{path} cannot be opened; check the rights on it and on its folder.",
        "SQLITE_READONLY": f"{path} or its folder cannot be written by this user.",
        "SQLITE_FULL": "The disk is full; nothing was changed.",
        "SQLITE_IOERR": f"The disk of {path} fails; nothing was changed.",
    }
    known = (text for prefix, text in sentences.items() if name.startswith(prefix))
    sentence = next(known, None)
    return Misconfigured(sentence) if sentence else None


def is_busy(error: BaseException) -> bool:
    """Whether the application holds a lock that could not be had in time."""
    return errorname(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


@contextmanager
def _copy(path: Path) -> Iterator[Path]:
    """A private copy of a database and its `-wal`, for a moment."""
    with tempfile.TemporaryDirectory(prefix="maintenance-") as folder:
        wal = _beside(path, "-wal")
        needed = path.stat().st_size + wal.stat().st_size
        disk.demand_room(Path(folder), needed, f"a temporary copy of {path}")
        copy = Path(folder) / "copy.db"
        shutil.copyfile(wal, _beside(copy, "-wal"))
        shutil.copyfile(path, copy)
        yield copy


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _beginning(path: Path, length: int) -> bytes:
    """The first bytes of a file; none where it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(length)
    except FileNotFoundError:
        return b""
