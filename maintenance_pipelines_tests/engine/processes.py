"""The job in a process of its own, to be killed, stopped or raced against another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines_tests.engine import toy

# A clean process forks every worker, which so has its imports done and none of our threads.
# The driver is imported when the first engine is made.
sa.create_engine("postgresql+psycopg://")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


Tell = Callable[[int, int], None]
Task = Callable[[Database, Tell], str]


def backfill(database: Database, tell: Tell) -> str:
    """The whole job once; returns the state that it ends in."""
    run = toy.plan(database)
    if run.planned and run.state != "applied":
        run = toy.apply(database, run, progress=tell)
    return toy.verifying.verify(toy.job, database, run).run.state


class Worker:
    """A process that does its task once, on word."""

    def __init__(self, url: str, limits: Limits = toy.SMALL, task: Task = backfill) -> None:
        self._here, there = CONTEXT.Pipe()
        work = (there, url, limits, task)
        self._process = CONTEXT.Process(target=_work, args=work, daemon=True)
        self._process.start()
        there.close()
        assert self._here.recv() == "ready"

    def go(self) -> None:
        """Lets it begin."""
        self._here.send("go")

    def answer(self, timeout_s: float = 60) -> Any:
        """Waits for what it says: `batch` after each batch, at last a state or a refusal."""
        assert self._here.poll(timeout_s), "the worker says nothing"
        return self._here.recv()

    def verdict(self) -> Any:
        """Its last word: the state that the run ended in, or the refusal."""
        while (said := self.answer()) == "batch":
            pass
        self._process.join(10)
        return said

    def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        self._process.kill()
        self._process.join(10)
        self._here.close()

    def freeze(self) -> None:
        """SIGSTOP: alive, but it does nothing."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGCONT)


def _work(parent: Connection, url: str, limits: Limits, task: Task) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - it is killed while it writes
    database = Database.connect(url, "WORKER_URL", limits)
    parent.send("ready")
    parent.recv()
    try:
        parent.send(task(database, lambda done, total: parent.send("batch")))
    except Refusal as refusal:
        parent.send(refusal)
