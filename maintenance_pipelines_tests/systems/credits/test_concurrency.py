"""Beside the app: what is spent, bought or looked at meanwhile is not lost nor counted twice."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import timedelta

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines.systems.credits.app import months_after
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.sessions import meanwhile, waits_for_a_lock
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    balance,
    broken,
    finish,
    history,
    plan,
    plan_reset,
    reset,
    rows,
    service,
    set_clock,
    write,
)

LAST_MONTH = NOW - timedelta(days=30)
MICROSECOND = timedelta(microseconds=1)


def people(url: str, count: int, bought: int = 0, look: bool = True) -> list[str]:
    """Professionals of last month."""
    with service(url, LAST_MONTH) as shop:
        made = [shop.sign_up() for _ in range(count)]
        for who in made:
            if bought:
                shop.purchase(who, bought)
            elif look:
                shop.look(who)
    return made


def persist(job: Job, database: Database, run: Run) -> Verification:
    """Starts the run again and again while units wait for a lock that the app holds."""
    for _ in range(50):
        done = finish(job, database, run)
        if done.run.state != "partial":
            return done
        run = done.run
    raise AssertionError("the run never gets its locks")


def customers(url: str, crowd: list[str], over: threading.Event, seed: int) -> None:
    """A session of the app that spends and buys until it is told to stop."""
    chance = random.Random(seed)
    with service(url) as shop:
        while not over.is_set():
            who = chance.choice(crowd)
            if chance.random() < 0.8:
                shop.spend(who, chance.randint(1, 40))
            else:
                shop.purchase(who, chance.randint(1, 30))


def test_a_reset_among_busy_customers_loses_nothing(
    app: Database, app_url: str, make_database: MakeDatabase
) -> None:
    crowd = people(app_url, 30)
    two_at_once = make_database(app_url, replace(toy.SMALL, workers=2, batch_rows=10))
    run = plan_reset(app)
    with (
        meanwhile(lambda over: customers(app_url, crowd, over, 1)),
        meanwhile(lambda over: customers(app_url, crowd, over, 2)),
    ):
        done = persist(monthly_credits_reset, two_at_once, run)
    assert (done.run.state, done.run.applied) == ("verified", 30)
    assert broken(app) == {}
    resets = "SELECT count(*) FROM credit_transactions WHERE type = 'monthly_reset'"
    assert rows(app, resets) == [(30,)]
    assert reset(app).run.planned == 0


def test_first_looks_beside_a_reset_give_everybody_one_balance(
    app: Database, app_url: str, make_database: MakeDatabase
) -> None:
    crowd = people(app_url, 30, look=False)
    two_at_once = make_database(app_url, replace(toy.SMALL, workers=2, batch_rows=5))
    run = plan_reset(app)
    assert run.planned == 30

    def look(start: int) -> None:
        with service(app_url) as shop:
            for who in crowd[start::2]:
                assert shop.look(who).total == 100

    lookers = [threading.Thread(target=look, args=(start,)) for start in (0, 1)]
    for looker in lookers:
        looker.start()
    done = persist(monthly_credits_reset, two_at_once, run)
    for looker in lookers:
        looker.join()
    assert (done.run.failed, done.run.state) == (0, "verified")
    assert {balance(app, who) for who in crowd} == {(100, 100, 0)}
    assert broken(app) == {}


def test_a_first_look_that_is_not_finished_is_waited_for(app: Database, app_url: str) -> None:
    """The app has made the balance row and not yet committed it."""
    (who,) = people(app_url, 1, look=False)
    run = plan_reset(app)
    seen: list[Run] = []
    with service(app_url) as shop:
        shop.holding = lambda: seen.append(finish(monthly_credits_reset, app, run).run)
        shop.look(who)
    assert (seen[0].state, seen[0].applied, seen[0].failed) == ("partial", 0, 0)
    assert balance(app, who) == (100, 100, 0)
    done = persist(monthly_credits_reset, app, seen[0])
    assert (done.run.state, done.run.applied) == ("verified", 1)
    assert [row[0] for row in history(app, who)] == ["bonus", "monthly_reset"]
    assert broken(app) == {}


def test_a_first_look_that_ends_while_the_job_waits_for_it_is_seen(
    app: Database, app_url: str, make_database: MakeDatabase
) -> None:
    (who,) = people(app_url, 1, look=False)
    patient = make_database(app_url, replace(toy.SMALL, lock_timeout_ms=700))
    run = plan_reset(app)
    ended: list[Run] = []
    job = threading.Thread(
        target=lambda: ended.append(finish(monthly_credits_reset, patient, run).run)
    )

    def wait() -> None:
        job.start()
        while not waits_for_a_lock(app):
            pass

    with service(app_url) as shop:
        shop.holding = wait
        shop.look(who)
    job.join()
    assert (ended[0].applied, ended[0].failed, ended[0].state) == (1, 0, "verified")
    assert [row[0] for row in history(app, who)] == ["bonus", "monthly_reset"]
    assert broken(app) == {}


def test_a_spend_under_way_makes_the_job_give_way(app: Database, app_url: str) -> None:
    who, other = people(app_url, 2)
    run = plan_reset(app)
    seen: list[Run] = []
    with service(app_url) as shop:
        shop.holding = lambda: seen.append(finish(monthly_credits_reset, app, run).run)
        assert shop.spend(who, 60)
    assert (seen[0].state, seen[0].applied) == ("partial", 1)
    assert balance(app, other) == (100, 100, 0)
    done = persist(monthly_credits_reset, app, seen[0])
    assert (done.run.state, done.run.applied) == ("verified", 2)
    assert balance(app, who) == (100, 100, 0)
    assert broken(app) == {}


def test_who_loses_verification_in_a_transaction_under_way_is_left_alone(
    app: Database, app_url: str
) -> None:
    (who,) = people(app_url, 1)
    with service(app_url) as shop:
        shop.spend(who, 60)
        run = plan_reset(app)
        with shop.connection.transaction():
            shop.verify(who, "rejected")
            first = finish(monthly_credits_reset, app, run).run
    assert (first.state, first.applied) == ("partial", 0)
    done = persist(monthly_credits_reset, app, first)
    assert (done.run.applied, done.run.conflicts) == (0, 1)
    assert balance(app, who) == (40, 40, 0)


def test_credits_are_spent_or_expired_and_never_both(
    app: Database, app_url: str, make_database: MakeDatabase
) -> None:
    """The app is still before the moment of expiry, the job is there already."""
    crowd = people(app_url, 20, bought=50)
    expiry = months_after(LAST_MONTH)
    set_clock(app, expiry)
    two_at_once = make_database(app_url, replace(toy.SMALL, workers=2, batch_rows=5))
    run = plan(credit_expiry, app, expiry)
    assert run.planned == 20

    def spend(over: threading.Event) -> None:
        chance = random.Random(3)
        with service(app_url, expiry - MICROSECOND) as shop:
            while not over.is_set():
                shop.spend(chance.choice(crowd), chance.randint(10, 60))

    with meanwhile(spend), meanwhile(spend):
        done = persist(credit_expiry, two_at_once, run)
    assert done.run.state == "verified", done
    assert done.run.applied + done.run.conflicts == 20
    for who in crowd:
        booked = {"spend": 0, "expiry": 0}
        for kind, amount, *_ in history(app, who):
            booked[kind] = booked.get(kind, 0) - amount
        found = balance(app, who)
        assert found is not None and found[2] == 0
        assert booked["spend"] + booked["expiry"] == 150 - found[1]
    assert broken(app) == {}


def test_a_reset_and_an_expiry_at_the_same_time_do_not_disturb_each_other(
    app: Database, app_url: str, make_database: MakeDatabase
) -> None:
    crowd = people(app_url, 15, bought=50)
    write(app, f"UPDATE credit_transactions SET expires_at = '{NOW}' WHERE type = 'purchase'")
    reset_run, expiry_run = plan_reset(app), plan(credit_expiry, app)
    other = make_database(app_url, replace(toy.SMALL, batch_rows=5))
    ended: list[Verification] = []

    def expire() -> None:
        ended.append(persist(credit_expiry, other, expiry_run))

    thread = threading.Thread(target=expire)
    thread.start()
    done = persist(monthly_credits_reset, app, reset_run)
    thread.join()
    assert (done.run.applied, ended[0].run.applied) == (15, 15)
    assert {balance(app, who) for who in crowd} == {(100, 100, 0)}
    assert broken(app) == {}
