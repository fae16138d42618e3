"""The reset beside webhooks at full speed: each is counted once, in the month it happened in."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from maintenance_pipelines.engine import applying, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines.systems.referrals.schema import TABLES, create_app_tables
from maintenance_pipelines_tests.conftest import MakeDatabase, MakeUrl
from maintenance_pipelines_tests.engine.sessions import holding, meanwhile
from maintenance_pipelines_tests.systems.referrals.jobs import (
    broken,
    carry_out,
    creator_counters,
    creator_records,
    creator_snapshots,
    demand_verified,
    member_records,
    member_snapshots,
    plan,
    rows,
)
from maintenance_pipelines_tests.systems.referrals.live import Traffic
from maintenance_pipelines_tests.systems.referrals.processes import SMALL, kill_after

SETTLE = 2
MOMENT = timedelta(milliseconds=1)
Trial = Callable[[Database, str, int, bool], None]
MANY_BATCHES = replace(SMALL, lock_patience=1_000)


def demand_archived(traffic: Traffic) -> None:
    """Everybody has the one snapshot, and it is what the records say."""
    month = str(traffic.closed)
    records = member_records(traffic.database, month)
    there = {id for (id,) in rows(traffic.database, THERE.format(traffic.closed.end))}
    assert member_snapshots(traffic.database, month) == {id: records[id] for id in there}
    assert creator_snapshots(traffic.database, month) == creator_records(traffic.database, month)


THERE = """SELECT id FROM "Member" WHERE "createdAt" < '{}'"""


def demand_counted(traffic: Traffic, but: frozenset[str] = frozenset()) -> None:
    """Every counter is what the records say of the running month."""
    month = str(traffic.closed.plus(1))
    records = member_records(traffic.database, month)
    counters = traffic.counters()
    assert {id: counters[id] for id in counters if id not in but} == {
        id: records[id] for id in counters if id not in but
    }
    if not but:
        revenue = creator_records(traffic.database, month)
        expected = {id: cents for id, (_, cents) in revenue.items()}
        assert creator_counters(traffic.database) == expected


def one_transaction(database: Database, url: str, seed: int, kill: bool = False) -> None:
    traffic = Traffic(database, url, seed=seed)
    traffic.populate(members=12)
    chance = random.Random(seed)
    with meanwhile(traffic.run):
        traffic.await_events(10)
        if kill:
            kill_after(chance.uniform(0.1, 1.5), url, traffic.scope(settle_seconds=0))
        found = carry_out(monthly_stats_reset, database, traffic.scope(settle_seconds=0))
        assert broken(found, warnings=False) == {}
        traffic.await_events(10)
    assert traffic.deadlocks == 0
    demand_archived(traffic)
    demand_counted(traffic)


def two_transactions(database: Database, url: str, seed: int, kill: bool = False) -> None:
    traffic = Traffic(
        database, url, seed=seed, in_two=True, pause=0.1, kills=0.02, threads=2, settle_s=SETTLE
    )
    traffic.populate(members=12)
    chance = random.Random(seed)
    with meanwhile(traffic.run):
        traffic.await_events(10)
        if kill:
            kill_after(chance.uniform(0.1, 1.5), url, traffic.scope(settle_seconds=SETTLE))
        run = plan(monthly_stats_reset, database, traffic.scope(settle_seconds=SETTLE))
        run, failures = applying.apply(monthly_stats_reset, database, run, Order())
        assert not failures
        traffic.await_events(5)
    # Whoever was busy to the end of the run waits for the next one.
    time.sleep(SETTLE + 0.2)
    if run.state == "partial":
        run, _ = applying.apply(monthly_stats_reset, database, run, Order())
    found = verifying.verify(monthly_stats_reset, database, run)
    assert run.state == "applied", run
    assert broken(found, warnings=False) == {}
    assert traffic.deadlocks == 0
    demand_archived(traffic)
    demand_counted(traffic, frozenset(traffic.unsettled))
    # Whose counter was never written is for the recalculation to mend.
    demand_verified(
        carry_out(monthly_stats_recalculation, database, traffic.running(settle_seconds=0))
    )
    demand_counted(traffic)


@pytest.fixture
def many_batches(app: Database, app_url: str, make_database: MakeDatabase) -> Database:
    return make_database(app_url, MANY_BATCHES)


def test_one_transaction_each(many_batches: Database, app_url: str) -> None:
    one_transaction(many_batches, app_url, seed=1)


def test_one_transaction_each_and_the_job_killed(many_batches: Database, app_url: str) -> None:
    one_transaction(many_batches, app_url, seed=2, kill=True)


def test_two_transactions_each_some_of_them_killed(many_batches: Database, app_url: str) -> None:
    two_transactions(many_batches, app_url, seed=3)


IN_FLIGHT = """INSERT INTO "Commission" (id, "whopPaymentId", "whopMembershipId", "saleAmount",
    "memberShare", "creatorShare", "platformShare", "paymentType", status, "memberId",
    "creatorId", "createdAt")
    VALUES ('x', 'x', 'x', 10, 1, 7, 2, 'recurring', 'paid', 'm0', 'c1', '{}')"""


def test_a_commission_that_is_being_inserted_is_waited_for(app: Database, app_url: str) -> None:
    """Of the closed month: not waited for, it would never be archived."""
    traffic = Traffic(app, app_url)
    traffic.populate(members=2)
    run = plan(monthly_stats_reset, app, traffic.scope(settle_seconds=0))

    def apply(over: threading.Event) -> None:
        applying.apply(monthly_stats_reset, app, run, Order())

    with contextlib.ExitStack() as stack:
        inserting = stack.enter_context(contextlib.ExitStack())
        inserting.enter_context(holding(app_url, IN_FLIGHT.format(traffic.closed.end - MOMENT)))
        stack.enter_context(meanwhile(apply))
        time.sleep(0.8)
        inserting.close()
    records = member_records(app, str(traffic.closed))
    assert records["m0"] == (1, 100 + 100)
    assert member_snapshots(app, str(traffic.closed))["m0"] == records["m0"]


@pytest.mark.long
@pytest.mark.parametrize("trials", [one_transaction, two_transactions])
def test_hundreds_of_trials_with_kills(
    trials: Trial, make_url: MakeUrl, make_database: MakeDatabase
) -> None:
    url = make_url()
    database = make_database(url, MANY_BATCHES)
    with database.engine.begin() as connection:
        create_app_tables(connection, database.schema)
    for seed in range(100):
        trials(database, url, 100 + seed, True)
        with database.engine.begin() as connection:
            for table in TABLES:
                connection.exec_driver_sql(f'TRUNCATE "{table.name}" CASCADE')
            connection.exec_driver_sql("DROP SCHEMA maintenance CASCADE")
