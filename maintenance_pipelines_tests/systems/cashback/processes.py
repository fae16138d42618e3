"""The migration, or its rollback, in a process of its own, to be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.engine.runs import history
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance
from maintenance_pipelines_tests.systems.cashback.lending import Lending

# A clean process forks every worker, which so has its imports done and none of our threads.
# The drivers are imported when the first engine is made.
sa.create_engine("postgresql+psycopg://")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Errand:
    """What a process is to do: `migrate` or `roll_back`; and at which of its steps it dies."""

    verb: str
    ledger: str
    path: Path | None
    folder: Path
    dies_at: int | None = None


def errand(lending: Lending, verb: str = "migrate", dies_at: int | None = None) -> Errand:
    """The errand of a process on that instance."""
    ledger = lending.ledger.engine.url.set(drivername="postgresql")
    path = lending.path if lending.instance.kind == "SQLite" else None
    text = ledger.render_as_string(hide_password=False)
    return Errand(verb, text, path, lending.folder, dies_at)


class Worker:
    """A process that goes on that errand once, on word."""

    def __init__(self, errand: Errand) -> None:
        self._here, there = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_work, args=(there, errand), daemon=True)
        self._process.start()
        there.close()
        assert self._here.recv() == "ready"
        self._here.send("go")

    def verdict(self) -> Any:
        """The state in which it ends and the steps it took, a refusal, or None where it died."""
        try:
            assert self._here.poll(60), "the worker says nothing"
            said = self._here.recv()
        except EOFError:
            said = None
        self._process.join(10)
        return said

    def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        self._process.kill()
        self._process.join(10)
        self._here.close()


def _work(parent: Connection, errand: Errand) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - it is killed while it writes
    steps = _count_steps(errand.dies_at)
    limits = Limits(lock_timeout_ms=200)
    ledger = Database.connect(errand.ledger, "WORKER_URL", limits)
    instance: SqliteInstance | PostgresInstance
    if errand.path is not None:
        instance = SqliteInstance("prod", errand.path, 5)
    else:
        instance = PostgresInstance("prod", ledger)
    lending = Lending(instance, ledger, "", errand.folder)
    parent.send("ready")
    parent.recv()
    with suppress(BrokenPipeError):
        try:
            if errand.verb == "roll_back":
                done = next(run for run in history(ledger) if run.reverts is None and run.applied)
                state = lending.roll_back(done).run.state
            else:
                state = lending.migrate().run.state
            parent.send((state, steps()))
        except Refusal as refusal:
            parent.send(refusal)


def _count_steps(dies_at: int | None) -> Callable[[], int]:
    """Counts what the process does to the outside, and kills it at one of these steps."""
    count = 0

    def step(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, moment, step)
    fsync, rename, unlink = os.fsync, Path.rename, Path.unlink

    def fsync_and_count(descriptor: Any) -> None:
        fsync(descriptor)
        step()

    def rename_and_count(self: Path, target: Any) -> Path:
        step()
        renamed = rename(self, target)
        step()
        return renamed

    def unlink_and_count(self: Path, missing_ok: bool = False) -> None:
        step()
        unlink(self, missing_ok)

    for owner, name, counting in (
        (os, "fsync", fsync_and_count),
        (Path, "rename", rename_and_count),
        (Path, "unlink", unlink_and_count),
    ):
        mock.patch.object(owner, name, counting).start()
    return lambda: count
