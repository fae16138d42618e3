"""Units beside the app, under kills, under a role that may do little, and put off while busy."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs, verifying
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.grants import grants
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.units import Units
from maintenance_pipelines_tests.conftest import MakeDatabase, MakeUrl
from maintenance_pipelines_tests.engine import purses
from maintenance_pipelines_tests.engine.conftest import Hiring
from maintenance_pipelines_tests.engine.processes import Tell, Worker
from maintenance_pipelines_tests.engine.sessions import holding

PURSES = 60
LIMITS = Limits(lock_timeout_ms=200, batch_rows=8, granule_rows=4, attempts=8)

SPEND = """
WITH mine AS (SELECT id FROM "Purse" WHERE id = :id AND coins > 0 FOR UPDATE),
     first AS (SELECT l.id FROM "Lot" l JOIN mine ON mine.id = l."purseId"
                WHERE l."left" > 0 ORDER BY l.id LIMIT 1 FOR UPDATE OF l),
     taken AS (UPDATE "Lot" SET "left" = "left" - 1 WHERE id IN (SELECT id FROM first)
               RETURNING "purseId")
UPDATE "Purse" SET coins = coins - 1, spent = spent + 1 WHERE id IN (SELECT "purseId" FROM taken)
"""
UNBALANCED = """
SELECT p.id FROM "Purse" p LEFT JOIN "Lot" l ON l."purseId" = p.id
 GROUP BY p.id, p.coins HAVING p.coins <> coalesce(sum(l."left"), 0)
"""


def fill(database: Database, tell: Tell) -> str:
    """The whole job, as a process does it."""
    run = purses.plan(database)
    if run.planned and run.state != "applied":
        order = Order(progress=tell)
        run = purses.applying.apply(purses.job, database, run, order)[0]
    return verifying.verify(purses.job, database, run).run.state


@contextmanager
def spending(database: Database, seed: int) -> Iterator[None]:
    """The app spends single coins all the time, each in a transaction that locks the purse."""
    stop, trouble, chance = threading.Event(), list[Exception](), random.Random(seed)

    def spend() -> None:
        while not stop.is_set():
            number = chance.randint(1, PURSES)
            try:
                with database.engine.begin() as connection:
                    # A plain read first, so that the statement after it sees the lock's outcome.
                    lock = sa.text('SELECT 1 FROM "Purse" WHERE id = :id FOR UPDATE')
                    connection.execute(lock, {"id": f"p{number:06}"})
                    connection.execute(sa.text(SPEND), {"id": f"p{number:06}"})
            except sa.exc.DBAPIError as error:
                trouble.append(error)

    thread = threading.Thread(target=spend)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not trouble, trouble[0]


def demand_balance(database: Database) -> None:
    """Every purse was filled once, and holds a hundred less what was spent since its filling."""
    assert purses.rows(database, UNBALANCED) == []
    odd = (
        'SELECT p.id FROM "Purse" p LEFT JOIN "Log" l ON l."purseId" = p.id'
        " GROUP BY p.id, p.coins, p.spent HAVING count(l.*) <> 1"
        # What it began with, less what was spent before, was before; what was spent since is gone.
        " OR p.coins <> substr(p.id, 2)::integer - p.spent + sum(l.after - l.before)"
    )
    assert purses.rows(database, odd) == []


def killed(make_database: MakeDatabase, make_url: MakeUrl, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    while kills > 0:
        url = make_url()
        database = make_database(url, LIMITS)
        purses.sew(database, PURSES, notes=20)
        state = ""
        with spending(database, seed):
            while state != "verified":
                worker = Worker(url, LIMITS, fill)
                worker.go()
                time.sleep(chance.uniform(0, 0.4))
                worker.kill()
                kills -= 1
                newest = next(iter(runs.history(database, limit=1)), None)
                state = newest.state if newest else ""
        demand_balance(database)
        assert purses.rows(database, 'SELECT * FROM "Note"') == []
        assert purses.plan(database).planned == 0


def test_units_killed_at_random_moments_beside_the_app_are_changed_once(
    make_database: MakeDatabase, make_url: MakeUrl
) -> None:
    killed(make_database, make_url, 6, seed=4)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_units_killed_hundreds_of_times_beside_the_app_are_changed_once(
    make_database: MakeDatabase, make_url: MakeUrl, seed: int
) -> None:
    killed(make_database, make_url, 100, seed)


def test_a_rollback_beside_the_app_leaves_what_was_spent(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, LIMITS)
    purses.sew(database, PURSES)
    run = purses.fill(database).run
    with spending(database, 1):
        undone = purses.undo(database, run).run
    assert undone.state == "verified"
    assert undone.applied + undone.conflicts + sum(undone.excluded.values()) == PURSES
    assert purses.rows(database, UNBALANCED) == []


def test_units_are_changed_and_undone_under_a_role_with_only_what_grants_printed(
    make_database: MakeDatabase, app_url: str, hire: Hiring
) -> None:
    owner = make_database(app_url, purses.SMALL)
    purses.sew(owner, 30, notes=5)
    before = purses.contents(owner)
    ledger.install(owner)
    url = hire("tailor")
    role = sa.make_url(url).username
    assert role is not None
    purses.write(owner, grants(purses.job, "public", role, undo=True))
    tailor = make_database(url, purses.SMALL)
    run = purses.fill(tailor).run
    assert (run.state, run.applied) == ("verified", 35)
    assert purses.undo(tailor, run).run.state == "verified"
    assert purses.contents(owner) == before
    for statement in ('UPDATE "Purse" SET spent = 0', 'DELETE FROM "Purse"', 'DELETE FROM "Log"'):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            purses.write(tailor, statement)


def while_held(database: Database, url: str, statement: str) -> None:
    """Fills the purses while the app has written something and not committed it yet."""
    run = purses.plan(database)
    worker = threading.Thread(target=lambda: purses.apply(database, run))
    with holding(url, statement):
        worker.start()
        time.sleep(0.3)
    worker.join()
    assert runs.find(database, run.id).state == "applied"


def test_a_row_that_refers_to_a_unit_and_is_being_inserted_is_waited_for(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, LIMITS)
    purses.sew(database, 30)
    while_held(database, app_url, "INSERT INTO \"Lot\" VALUES ('new', 'p000010', 7, NULL)")
    assert purses.rows(database, UNBALANCED) == []


def test_a_row_that_changes_beside_the_lock_is_read_again(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, LIMITS)
    purses.sew(database, 30)
    while_held(database, app_url, 'UPDATE "Lot" SET "left" = 3 WHERE id = \'l10a\'')
    purses.fill(database)
    (run,) = runs.history(database)
    purses.undo(database, run)
    assert purses.rows(database, 'SELECT "left" FROM "Lot" WHERE id = \'l10a\'') == [(3,)]


def busy_job(settle_s: float) -> Job:
    """The job, putting off purses that have a note which is not to expire."""

    def busy(scope: Scope, among: sa.FromClause) -> sa.Select[str]:
        noted = purses.note.c.purseId.in_(sa.select(among.c.id))
        id = purses.note.c.purseId.label("id")
        return sa.select(id).where(noted, purses.note.c.expiresAt > sa.func.clock_timestamp())

    assert isinstance(purses.job.change, Units)
    part = replace(purses.job.change.parts[0], busy=busy, settle_s=lambda scope: settle_s)
    return replace(purses.job, change=Units((part,)))


def mark_busy(database: Database, first: int, last: int, seconds: float) -> None:
    purses.write(
        database,
        "INSERT INTO \"Note\" SELECT 'busy' || i, 'p' || lpad(i::text, 6, '0'), NULL,"
        f" now() + interval '{seconds} s' FROM generate_series({first}, {last}) i",
    )


def test_busy_units_are_put_off_and_written_once_they_have_settled(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, LIMITS)
    purses.sew(database, 30)
    mark_busy(database, 5, 13, 2)
    job = busy_job(settle_s=3)
    run = purses.apply(database, purses.plan(database, job), job)
    assert (run.state, run.applied) == ("applied", 30)
    assert purses.rows(database, UNBALANCED) == []


def test_units_that_stay_busy_are_left_for_the_next_run(
    make_database: MakeDatabase, app_url: str
) -> None:
    database = make_database(app_url, LIMITS)
    purses.sew(database, 30)
    mark_busy(database, 5, 13, 3600)
    job = busy_job(settle_s=0)
    run = purses.apply(database, purses.plan(database, job), job)
    assert (run.state, run.applied, run.conflicts) == ("partial", 21, 0)
    purses.write(database, 'DELETE FROM "Note"')
    assert purses.fill(database, job).run.applied == 9
