"""Batches: a plan written in small transactions, each of them all or nothing.

A batch is one transaction: the app's rows, their outcomes and the mark that they are done. One
that the data makes fail is parted in halves, each a transaction of its own, down to the one row
at fault. No savepoints: rolled back, they would inflate the database's own counts.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa
import tenacity

from maintenance_pipelines.engine import granules, ledger, runs
from maintenance_pipelines.engine.changes import Busy, Change
from maintenance_pipelines.engine.crew import Crew
from maintenance_pipelines.engine.database import BY_KEY, Database, Limits
from maintenance_pipelines.engine.faults import GIVE_WAY, Fault, Raced, describe, judge, sqlstate
from maintenance_pipelines.engine.plans import Span
from maintenance_pipelines.engine.proof import Reading, demand_exactly
from maintenance_pipelines.engine.runs import Run

Progress = Callable[[int, int], None]
"""Told after every batch how many rows are done, of how many."""

Result = TypeVar("Result")


class Stopped(Exception):
    """A person has asked for the run to pause or to be cancelled; the text says which."""


class Rehearsed(Exception):
    """Ends the transaction of a rehearsed batch: nothing of it stays."""


@dataclass
class Batches:
    """One process's work on the batches of one run.

    `rehearse` rolls every batch back again. Afterwards `failures` has the error of each row that
    the database refused, by position, and `waiting` counts rows left for later because a lock
    could not be had in time.
    """

    database: Database
    change: Change
    run: Run
    owner: str
    triggers_allowed: bool
    progress: Progress
    rehearse: bool = False
    done: int = 0
    waiting: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    put_off: list[Span] = field(default_factory=list)
    counting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.patience = self.database.limits.lock_patience
        self.crew = Crew(self.database.limits.workers)
        self.share = _share(self.database.limits, self.run.planned)

    def settle_all(self) -> None:
        """Brings every row that has none to its outcome; raises `Stopped` where asked to stop.

        Several batches are under way at once: they have no row in common, and none waits for a
        lock longer than it would for one of the app's.
        """
        self._work_off(self._spans())
        if self.put_off:
            self._let_settle(self.change.settle_s)
            again, self.put_off = self.put_off, []
            self._work_off(iter(again))
        self._count(waiting=sum(span.rows for span in self.put_off))

    def _work_off(self, spans: Iterator[Span]) -> None:
        self.crew.work_off(spans, self._settle, lambda: self.progress(self.done, self.run.planned))

    def _let_settle(self, seconds: float) -> None:
        """Lets the app finish what it is in the middle of, still open to requests."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._next(self.put_off[-1].last)
            time.sleep(min(left, 1.0))

    def _spans(self) -> Iterator[Span]:
        after = 0
        while (span := self._next(after)) is not None:
            yield span
            after = span.last

    def _next(self, after: int) -> Span | None:
        def beat_and_look(connection: sa.Connection) -> tuple[str | None, Span | None]:
            request = runs.beat(connection, self.run.id, self.owner)
            return request, granules.pending(connection, self.run.id, after, self.share)

        request, span = self._transact(beat_and_look)
        if request:
            raise Stopped(request)
        return span

    def _settle(self, span: Span, attempt: int = 1) -> None:
        try:
            self._transact(lambda connection: self._write(connection, span))
        except Rehearsed:
            self._count(done=span.rows)
        except Busy as busy:
            self._after_busy(span, busy.positions)
        except Raced as race:
            # Seen anew, what could not be written may be left alone, or be due all the same.
            if span.rows == 1 and attempt < self.database.limits.attempts:
                self._settle(span, attempt + 1)
            else:
                self._after_failure(span, race)
        except Exception as error:
            self._after_failure(span, error)
        else:
            self._count(done=span.rows)

    def _count(self, done: int = 0, waiting: int = 0) -> None:
        with self.counting:
            self.done += done
            self.waiting += waiting

    def _after_failure(self, span: Span, error: Exception) -> None:
        """Goes on after a batch was rolled back: blames a row, looks closer, or lets it wait."""
        fault = judge(error)
        locked = sqlstate(error) in GIVE_WAY
        if self.crew.halted or fault is Fault.SYSTEMIC or (fault is Fault.TRANSIENT and not locked):
            raise error
        if locked and (span.rows == 1 or self.patience <= 0):
            self._count(waiting=span.rows)
        elif span.rows == 1:
            self._transact(lambda connection: self._record_failure(connection, span, error))
            self.failures[span.first] = describe(error)
            self._count(done=1)
        else:
            try:
                halves = self._transact(lambda connection: self._halves(connection, span))
            except sa.exc.DBAPIError as held:
                # What is left of a session whose client has lost it holds the span still.
                if sqlstate(held) not in GIVE_WAY:
                    raise
                self._count(waiting=span.rows)
                return
            for half in halves:
                self._settle(half)

    def _after_busy(self, span: Span, positions: Sequence[int]) -> None:
        """Puts off what the app is in the middle of, and goes on with the rest of the span."""
        if span.rows == len(positions):
            with self.counting:
                self.put_off.append(span)
            return
        for piece in self._transact(lambda connection: self._apart(connection, span, positions)):
            if piece.first in positions:
                with self.counting:
                    self.put_off.append(piece)
            else:
                self._settle(piece)

    def _write(self, connection: sa.Connection, span: Span) -> None:
        """The transaction that changes the app's tables."""
        runs.fence(connection, self.run.id, self.owner)
        if not granules.claim(connection, self.run.id, span):
            return  # An earlier attempt was committed although its connection broke.
        connection.execute(BY_KEY)
        before = Reading.take(connection)
        written = self.change.write(connection, span)
        # What is deferred to the commit would otherwise be done, or refused, after the proof.
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        expected = {f"{self.database.schema}.{t}": c for t, c in written.expected.items()}
        counted = demand_exactly(connection, before, expected, self.triggers_allowed).values()
        if self.rehearse:
            raise Rehearsed
        connection.execute(
            ledger.batch.insert().values(
                run_id=self.run.id,
                first=span.first,
                rows=span.rows,
                applied=written.applied,
                inserted=sum(counts[0] for counts in counted),
                updated=sum(counts[1] for counts in counted),
                deleted=sum(counts[2] for counts in counted),
            )
        )
        granules.done(connection, self.run.id, span)

    def _apart(self, connection: sa.Connection, span: Span, positions: Sequence[int]) -> list[Span]:
        runs.beat(connection, self.run.id, self.owner)
        return granules.set_apart(connection, self.run.id, span, positions)

    def _halves(self, connection: sa.Connection, span: Span) -> tuple[Span, Span]:
        runs.beat(connection, self.run.id, self.owner)
        return granules.halves(connection, self.run.id, span)

    def _record_failure(self, connection: sa.Connection, span: Span, error: Exception) -> None:
        runs.fence(connection, self.run.id, self.owner)
        if self.rehearse or not granules.claim(connection, self.run.id, span):
            return
        connection.execute(
            ledger.exception.insert().values(
                run_id=self.run.id,
                position=span.first,
                outcome="failed",
                sqlstate=sqlstate(error),
                error=describe(error),
            )
        )
        granules.done(connection, self.run.id, span)

    def _transact(self, work: Callable[[sa.Connection], Result]) -> Result:
        """One transaction, tried again while locks or the connection cannot be had."""
        for attempt in attempts(self.database, self._patient):
            with attempt, self.database.transaction() as connection, self.crew.at(connection):
                return work(connection)
        raise AssertionError("the last attempt raises")

    def _patient(self, error: BaseException) -> bool:
        if self.crew.halted:
            return False
        # Each wait for a lock is short; only so many of them are borne in one run.
        if sqlstate(error) in GIVE_WAY:
            self.patience -= 1
            return self.patience > 0
        return True


def _share(limits: Limits, planned: int) -> int:
    """How many rows a batch has, so that no worker is idle while others do the last ones."""
    batches = max(1, math.ceil(planned / limits.batch_rows))
    fair = math.ceil(batches / limits.workers) * limits.workers
    if fair == batches:
        return limits.batch_rows
    whole_granules = math.ceil(planned / fair / limits.granule_rows) * limits.granule_rows
    return min(limits.batch_rows, whole_granules)


def attempts(
    database: Database, patient: Callable[[BaseException], bool] = lambda error: True
) -> tenacity.Retrying:
    """Tries again, ever more slowly, what a lock or a lost connection has prevented."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: judge(error) is Fault.TRANSIENT and patient(error)
        ),
        stop=tenacity.stop_after_attempt(database.limits.attempts),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
