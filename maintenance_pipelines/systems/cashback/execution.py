"""Execution: a run taken by this process, carried out in one transaction, and left in a state.

On PostgreSQL the ledger commits with the tables. An SQLite file commits a moment before the
ledger: whoever finds such a run interrupted looks whether the tables are there already.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.batches import Rehearsed, Stopped
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.faults import describe
from maintenance_pipelines.engine.refusals import Guarded, Refusal
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.systems.cashback.instance import Instance

Take = Callable[[sa.Connection, Run], None]
"""Looks whether a run may be carried out, in the ledger's transaction that takes it."""

Carry = Callable[[sa.Connection, sa.Connection, Run], None]
"""Carries a run out: the instance's connection, the ledger's, and the run as it was taken."""


def execute(
    instance: Instance, database: Database, run: Run, order: Order, take: Take, carry: Carry
) -> Run:
    """Carries out a run as a whole or not at all; returns it as it is left.

    A refusal and a rehearsal leave the run as it was. Ctrl-C rolls back and leaves it paused, any
    other trouble interrupted.
    """
    started = time.monotonic()
    held, owner = _take(database, run, order, take)
    state, error = "interrupted", None
    try:
        _carry_out(instance, database, held, owner, order, carry)
        state = "applied"
    except Rehearsed:
        state = held.state
    except Stopped as request:
        state = {"pause": "paused", "cancel": "cancelled"}[str(request)]
    except KeyboardInterrupt:
        state = "paused"
        raise
    except Refusal as refusal:
        state, error = held.state, str(refusal)
        raise
    except Exception as trouble:
        refused = instance.refusal(trouble)
        if refused is not None:
            state, error = held.state, str(refused)
            raise refused from None
        error = describe(trouble)
        raise
    finally:
        # Where even this cannot be written, the dead heartbeat tells that it was interrupted.
        with contextlib.suppress(DBAPIError, Refusal), database.transaction() as book:
            runs.spend(book, run.id, time.monotonic() - started)
            runs.leave(book, run.id, owner, state, error=error)
    with database.transaction() as book:
        return runs.load(book, run.id)


def _take(database: Database, run: Run, order: Order, take: Take) -> tuple[Run, str]:
    with database.transaction() as book:
        held = runs.load(book, run.id, lock=True)
        if held.state == "applying":
            raise Guarded(f"Run {run.id} is being applied by another process.")
        take(book, held)
        return held, runs.begin(book, held, order.dagster_run_id)


def _carry_out(
    instance: Instance, database: Database, run: Run, owner: str, order: Order, carry: Carry
) -> None:
    if run.applied == run.planned:
        return  # all but the last word of an earlier attempt
    order.progress(0, run.planned)
    for attempt in instance.attempts():
        with attempt:
            _demand_wanted(database, run, owner)
            with ExitStack() as after, instance.transaction() as connection:
                book = (
                    connection
                    if instance.keeps_ledger
                    else after.enter_context(database.transaction())
                )
                runs.fence(book, run.id, owner)
                carry(connection, book, run)
                if order.rehearse:
                    raise Rehearsed
                _record(book, run)
    order.progress(run.planned, run.planned)


def _demand_wanted(database: Database, run: Run, owner: str) -> None:
    """Says that this process is alive; stops where a person has asked for it."""
    with database.transaction() as book:
        request = runs.beat(book, run.id, owner)
    if request:
        raise Stopped(request)


def _record(book: sa.Connection, run: Run) -> None:
    """One batch, all of it; that no row was written has been shown before."""
    counts = dict.fromkeys(("inserted", "updated", "deleted"), 0)
    values = {"run_id": run.id, "first": 1, "rows": run.planned, "applied": run.planned, **counts}
    book.execute(ledger.batch.insert().values(**values))
