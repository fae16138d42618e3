"""Killed at any moment and run again: the end is that of one undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import applying, runs, verifying
from maintenance_pipelines.engine.batches import Progress
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.sessions import terminate
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    broken,
    now,
    plan,
    plan_reset,
    rows,
    service,
    undo,
    write,
)

# A clean process forks every worker; the driver is imported when the first engine is made.
sa.create_engine("postgresql+psycopg://")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
JOBS: dict[str, Job] = {"reset": monthly_credits_reset, "expiry": credit_expiry}
COUNT = 40


def start(database: Database, kind: str, progress: Progress = lambda done, total: None) -> str:
    """One start of a job, from its plan, or the run that was interrupted, to its verification."""
    job = JOBS[kind]
    run = plan_reset(database, now(database)) if kind == "reset" else plan(job, database)
    if run.state != "applied":
        run, _ = applying.apply(job, database, run, Order(progress=progress))
    return verifying.verify(job, database, run).run.state


def _work(parent: Connection, url: str, kind: str, limits: Limits) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - it is killed while it writes
    database = Database.connect(url, "WORKER_URL", limits)
    parent.send("ready")
    parent.recv()
    parent.send(start(database, kind, lambda done, total: parent.send(done)))


def begin(url: str, kind: str) -> tuple[multiprocessing.context.ForkServerProcess, Connection]:
    """A process that is about to run the job."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(there, url, kind, toy.SMALL), daemon=True)
    process.start()
    there.close()
    assert here.recv() == "ready"
    return process, here


def crowd(app: Database, url: str) -> None:
    """Professionals with free credits left, and purchases that have expired."""
    with service(url, NOW - timedelta(days=200)) as shop:
        for number in range(COUNT):
            who = shop.sign_up(id=f"{number:024x}")
            if number % 4:
                shop.purchase(who, 10 + number)
                shop.spend(who, number)


def state(app: Database) -> list[tuple[object, ...]]:
    """The books, without ids and stamps of what was written."""
    return rows(
        app,
        "SELECT b.professional_id, total_balance, free_credits, paid_credits, lifetime_earned,"
        " array_agg(format('%s %s %s', t.type, t.amount, t.remaining_amount) ORDER BY"
        " t.type::text, t.amount, t.remaining_amount) FROM credit_balances b"
        " JOIN credit_transactions t USING (professional_id) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1",
    )


def undisturbed(app: Database, kind: str) -> list[tuple[object, ...]]:
    """What one run comes to, taken back again; the bookings of that are forgotten."""
    assert start(app, kind) == "verified"
    result = state(app)
    last = rows(app, "SELECT id FROM maintenance.run WHERE reverts IS NULL")[0][0]
    undo(JOBS[kind], app, runs.find(app, last))
    write(app, "DELETE FROM credit_transactions WHERE type = 'expiry'")
    write(app, "TRUNCATE maintenance.run CASCADE")
    return result


def survive(app: Database, url: str, kind: str, waits: list[Callable[[Connection], None]]) -> None:
    """Killed after each of the waits, and then run to the end."""
    crowd(app, url)
    expected = undisturbed(app, kind)
    for wait in waits:
        process, pipe = begin(url, kind)
        pipe.send("go")
        wait(pipe)
        process.kill()
        process.join(10)
        pipe.close()
        terminate(app)
        app.dispose()
        assert set(broken(app)) <= {"expired_credits_closed"}
    assert start(app, kind) == "verified"
    assert state(app) == expected
    assert start(app, kind) == "verified"
    assert state(app) == expected


@pytest.mark.parametrize("kind", JOBS)
def test_killed_twice_it_ends_as_if_undisturbed(app: Database, app_url: str, kind: str) -> None:
    survive(app, app_url, kind, [_a_batch, _a_batch])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kind", JOBS)
def test_killed_at_any_moment_it_ends_as_if_undisturbed(
    app: Database, app_url: str, kind: str, seed: int
) -> None:
    chance = random.Random(seed)
    survive(app, app_url, kind, [partial(_sleep, chance.uniform(0.02, 0.8)) for _ in range(4)])


def _a_batch(pipe: Connection) -> None:
    """Until a batch is done; the next one has begun."""
    pipe.recv()


def _sleep(seconds: float, pipe: Connection) -> None:
    time.sleep(seconds)
