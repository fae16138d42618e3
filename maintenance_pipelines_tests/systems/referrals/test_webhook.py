"""The webhook's simulator: it counts as docs/referrals.md says, in one transaction or in two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg
import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.rules import RULES
from maintenance_pipelines.systems.referrals.schema import commission, creator, member
from maintenance_pipelines.systems.referrals.webhook import Split, Webhook
from maintenance_pipelines_tests.systems.referrals.loading import scope_of, write

OCTOBER = datetime(2025, 10, 20, 12)
CREATOR = """INSERT INTO "Creator" (id, "companyId", "companyName", "productId", "updatedAt")
    VALUES ('c', 'c', 'c', 'c', now())"""


@contextmanager
def webhook(url: str, in_two: bool = False) -> Iterator[Webhook]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield Webhook(connection, in_two=in_two, clock=lambda: OCTOBER)


def counters(database: Database, id: str) -> tuple[int, int, int, int]:
    m = member.c
    columns = (m.totalReferred, m.monthlyReferred)
    amounts = (truth.cents(m.lifetimeEarnings), truth.cents(m.monthlyEarnings))
    with database.transaction() as connection:
        row = connection.execute(sa.select(*columns, *amounts).where(m.id == id)).one()
    return row[0], row[1], row[2], row[3]


def revenue(database: Database) -> tuple[int, int]:
    amounts = (truth.cents(creator.c.totalRevenue), truth.cents(creator.c.monthlyRevenue))
    with database.transaction() as connection:
        row = connection.execute(sa.select(*amounts)).one()
    return row[0], row[1]


@pytest.mark.parametrize("in_two", [False, True])
def test_payments_count_as_the_app_counts(app: Database, app_url: str, in_two: bool) -> None:
    write(app, CREATOR)
    with webhook(app_url, in_two) as hook:
        earner = hook.sign_up("c", code="ADA")
        payer = hook.refer("c", "ADA", 4999, "pay1")
        assert counters(app, earner) == (1, 1, 500, 500)
        assert hook.pay(payer, 4999, "pay2")
        assert counters(app, earner) == (1, 1, 1000, 1000)
        assert revenue(app) == (9998, 9998)
        assert not hook.pay(payer, 4999, "pay2")
        organic = hook.sign_up("c")
        assert not hook.pay(organic, 4999, "pay3")
        assert hook.refund("pay2")
        assert not hook.refund("pay2")
        assert not hook.refund("never paid")
        assert counters(app, earner) == (1, 1, 500, 500)
        assert revenue(app) == (4999, 4999)
    with app.transaction() as connection:
        kinds = connection.scalars(sa.select(commission.c.paymentType)).all()
    assert sorted(kinds) == ["initial", "recurring"]
    assert consistency.judge(app, scope_of(OCTOBER), RULES).json()["warnings"] == []


def test_two_transactions_write_the_row_before_the_counter(app: Database, app_url: str) -> None:
    write(app, CREATOR)
    with webhook(app_url, in_two=True) as hook:
        earner = hook.sign_up("c", code="ADA")
        seen = []
        hook.between = lambda: seen.append((counters(app, earner), rows(app)))
        hook.refer("c", "ADA", 4999, "pay1")
    assert seen == [((0, 0, 0, 0), 1)]
    assert counters(app, earner) == (1, 1, 500, 500)


def rows(database: Database) -> int:
    with database.transaction() as connection:
        count = sa.select(sa.func.count()).select_from(commission)
        return connection.execute(count).scalar_one()


def test_a_crash_in_between_leaves_a_row_that_no_counter_knows_of(
    app: Database, app_url: str
) -> None:
    write(app, CREATOR)
    with webhook(app_url, in_two=True) as hook:
        earner = hook.sign_up("c", code="ADA")

        def crash() -> None:
            raise ConnectionError

        hook.between = crash
        with pytest.raises(ConnectionError):
            hook.refer("c", "ADA", 4999, "pay1")
    assert (rows(app), counters(app, earner)) == (1, (0, 0, 0, 0))
    found = consistency.judge(app, scope_of(OCTOBER), RULES)
    broken = {finding.rule.name for finding in found.findings if not finding.passed}
    assert broken == {"monthly_sum_equals_referrals", "earnings_equal_records"}


def test_many_at_once_lose_nothing(app: Database, app_url: str) -> None:
    write(app, CREATOR)
    with webhook(app_url) as hook:
        for code in ("ADA", "BEN"):
            hook.sign_up("c", code=code)

    def run(worker: int) -> None:
        with webhook(app_url, in_two=worker % 2 == 0) as hook:
            for number in range(25):
                payer = hook.refer("c", ("ADA", "BEN")[number % 2], 4999, f"{worker} {number}")
                hook.pay(payer, 1999, f"shared {number}")

    workers = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert rows(app) == 4 * 25 + 25
    found = consistency.judge(app, scope_of(OCTOBER), RULES)
    assert all(finding.passed for finding in found.findings), found.json()
    assert revenue(app)[1] == 100 * 4999 + 25 * 1999


def test_inside_a_transaction_of_the_callers_nothing_is_committed(
    app: Database, app_url: str
) -> None:
    write(app, CREATOR)
    with psycopg.connect(app_url) as connection:
        connection.execute("SELECT 1")
        Webhook(connection).sign_up("c")
        connection.rollback()
    with app.transaction() as other:
        assert other.execute(sa.text('SELECT count(*) FROM "Member"')).scalar_one() == 0


@pytest.mark.parametrize("sale", [1, 5, 99, 1990, 4999, 9900, 123_456_789])
def test_a_split_adds_up(sale: int) -> None:
    split = Split.of(sale)
    assert split.member + split.creator + split.platform == sale
    assert abs(split.member - sale * 0.1) <= 0.5
    assert abs(split.creator - sale * 0.7) <= 0.5


def test_the_options_default_to_counting_refunds() -> None:
    assert not ReferralsOptions().ignore_refunds
