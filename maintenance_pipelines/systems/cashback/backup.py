"""Backups: a copy of an instance that has been looked at, whole or not there at all.

`<folder>/<instance>/<time>.db` (or `.dump`). A copy has another name until it is verified and on
disk; whoever makes the next one removes what a killed process has left.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from maintenance_pipelines.engine.refusals import Guarded, Misconfigured
from maintenance_pipelines.systems.cashback import disk, postgres_dump, sqlite_copy
from maintenance_pipelines.systems.cashback.instance import Instance
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance

KEPT = 10
"""How many backups of an instance are kept where the settings do not say."""

PARTIAL = ".partial"
Progress = Callable[[int, int], None]
"""Told how much is copied, of how much."""


@dataclass(frozen=True)
class Backup:
    """A verified backup: where it is, and how many rows of each table are in it."""

    path: Path
    bytes: int
    rows: Mapping[str, int]
    made_at: datetime
    seconds: float

    def json(self) -> dict[str, Any]:
        """What the ledger keeps of it."""
        made_at = self.made_at.isoformat()
        return {**vars(self), "path": str(self.path), "rows": dict(self.rows), "made_at": made_at}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Backup:
        """A backup as the ledger has kept it."""
        made_at = datetime.fromisoformat(kept["made_at"])
        return cls(**{**kept, "path": Path(kept["path"]), "made_at": made_at})


def make(
    instance: Instance,
    folder: Path,
    keep: int = KEPT,
    progress: Progress = lambda done, total: None,
) -> Backup:
    """Copies an instance into `folder`, looks at the copy, and removes all but `keep` of them.

    Refuses where there is no room, where the copy is not whole, or where another process makes a
    backup of that instance.
    """
    started, made_at = time.monotonic(), datetime.now(UTC)
    with _alone(folder, instance.name) as mine:
        suffix = ".dump" if isinstance(instance, PostgresInstance) else ".db"
        path = mine / f"{made_at:%Y-%m-%dT%H%M%S.%fZ}{suffix}"
        partial = mine / f"{path.name}{PARTIAL}"
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            rows = _copy(instance, partial, progress)
            disk.to_disk(partial)
            partial.rename(path)
            disk.to_disk(mine)
        finally:
            partial.unlink(missing_ok=True)
        _retire(mine, suffix, keep)
        size = path.stat().st_size
    return Backup(path, size, rows, made_at, time.monotonic() - started)


def newest_first(folder: Path, name: str) -> list[Path]:
    """The backups of an instance that there are."""
    found = [*(folder / name).glob("*.db"), *(folder / name).glob("*.dump")]
    return sorted(found, reverse=True)


def demand_possible(instance: Instance, folder: Path) -> None:
    """Refuses an instance of which no backup could be made now: no right, no program, no room."""
    if isinstance(instance, PostgresInstance):
        postgres_dump.programs_for(postgres_dump.version_of(instance))
        size = instance.read(instance.size)
    else:
        assert isinstance(instance, SqliteInstance), "there is no third kind"
        instance.demand_writable()
        size = instance.path.stat().st_size
    there = next(each for each in (folder, *folder.parents) if each.exists())
    disk.demand_room(there, size, "the backup")


def demand_usable(backup: Backup | None, run_id: str, age: timedelta) -> None:
    """Refuses a migration without a backup that is there, whole, and not older than the plan may
    be.
    """
    if backup is None:
        raise Guarded(f"Run {run_id} has no verified backup; make one first. Nothing was written.")
    if not backup.path.is_file() or backup.path.stat().st_size != backup.bytes:
        raise Guarded(
            f"The backup of run {run_id} is no longer in {backup.path}; make another one. "
            "Nothing was written."
        )
    if datetime.now(UTC) - backup.made_at > age:
        raise Guarded(f"The backup of run {run_id} is too old; make another one.")


def _copy(instance: Instance, partial: Path, progress: Progress) -> Mapping[str, int]:
    if isinstance(instance, PostgresInstance):
        return postgres_dump.dump(instance, partial)
    assert isinstance(instance, SqliteInstance), "there is no third kind"
    return sqlite_copy.copy(instance, partial, progress)


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[Path]:
    """The instance's own folder, for one process at a time, without what killed ones have left."""
    mine = folder / name
    try:
        mine.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(mine / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(
            f"Backups cannot be written to {mine} ({error.strerror}). Nothing was written."
        ) from None
    try:
        _take(lock, name)
        for left in mine.glob(f"*{PARTIAL}*"):
            left.unlink()
        yield mine
    finally:
        os.close(lock)


def _take(lock: int, name: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Guarded(f"Another process is making a backup of {name}; wait for it.") from None


def _retire(mine: Path, suffix: str, keep: int) -> None:
    backups = sorted(mine.glob(f"*{suffix}"))
    for old in backups[: -max(keep, 1)]:
        old.unlink()
