"""Crew: several batches under way at once, and how they are brought to a halt.

The work is the server's; the threads here only wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa

from maintenance_pipelines.engine.plans import Span


@dataclass
class Crew:
    """So many workers. `halted` is true once nothing more is to be begun or tried again."""

    workers: int
    halted: bool = False
    _connections: set[sa.Connection] = field(default_factory=set)

    def work_off(
        self,
        spans: Iterable[Span],
        work: Callable[[Span], None],
        after_each: Callable[[], None],
    ) -> None:
        """Does `work` on every span, the next one being asked for when a worker is free.

        What goes wrong with one rises here when the others have ended. Ctrl-C breaks off the
        statements under way, which rolls their transactions back.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                self._work_off(pool, spans, work, after_each)
            except BaseException as trouble:
                self.halted = True
                if not isinstance(trouble, Exception):
                    self._break_off()
                raise

    @contextmanager
    def at(self, connection: sa.Connection) -> Iterator[None]:
        """Marks the connection that a worker uses, so that its statement can be broken off."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)

    def _work_off(
        self,
        pool: Executor,
        spans: Iterable[Span],
        work: Callable[[Span], None],
        after_each: Callable[[], None],
    ) -> None:
        under_way: set[Future[None]] = set()
        for span in spans:
            under_way.add(pool.submit(work, span))
            if len(under_way) == self.workers:
                under_way = _await_one(under_way, after_each)
        while under_way:
            under_way = _await_one(under_way, after_each)

    def _break_off(self) -> None:
        for connection in list(self._connections):
            # It may have come to its end just now, or its server may be gone.
            with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)
                driver.cancel_safe()


def _await_one(under_way: set[Future[None]], after_each: Callable[[], None]) -> set[Future[None]]:
    """Waits until some work has ended, lets what went wrong in it rise; returns the rest."""
    done, others = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
        after_each()
    return others
