"""The simulator of the app's service: it books as docs/credits.md says."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.credits.app import months_after
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    balance,
    broken,
    history,
    rows,
    service,
    write,
)

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("bought", "expires"),
    [
        ("2025-08-31 12:00", "2026-02-28 12:00"),
        ("2023-08-31 12:00", "2024-02-29 12:00"),
        ("2024-02-29 00:00", "2024-08-29 00:00"),
        ("2025-12-31 23:59:59.999999", "2026-06-30 23:59:59.999999"),
        ("2025-07-01 00:00", "2026-01-01 00:00"),
    ],
)
def test_six_months_are_calendar_months_of_utc(bought: str, expires: str) -> None:
    start, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (bought, expires))
    assert months_after(start) == end


def test_the_database_counts_six_months_alike(app: Database) -> None:
    for day in range(366):
        moment = datetime(2027, 1, 1, 23, 30, tzinfo=UTC) + day * DAY
        theirs = rows(
            app, f"SELECT (TIMESTAMP '{moment:%Y-%m-%d %H:%M}' + INTERVAL '6 months')::text"
        )
        assert f"{months_after(moment):%Y-%m-%d %H:%M:%S}" == theirs[0][0]


def test_the_first_look_gives_a_hundred_once(app: Database, app_url: str) -> None:
    with service(app_url) as shop:
        who = shop.sign_up()
        assert balance(app, who) is None
        assert [shop.look(who).total for _ in range(2)] == [100, 100]
    assert history(app, who) == [("bonus", 100, 0, 100, 100)]


def test_free_credits_are_spent_before_paid_ones_and_the_oldest_first(
    app: Database, app_url: str
) -> None:
    with service(app_url, NOW - 9 * DAY) as shop:
        who = shop.sign_up()
        shop.purchase(who, 30)
    with service(app_url, NOW - 8 * DAY) as shop:
        shop.purchase(who, 50)
        shop.bonus(who, 10)
    with service(app_url, NOW) as shop:
        assert shop.spend(who, 145)
    assert balance(app, who) == (45, 0, 45)
    left = {(row[0], row[1]): row[4] for row in history(app, who)}
    assert left["bonus", 100] == left["bonus", 10] == left["purchase", 30] == 0
    assert left["purchase", 50] == 45
    assert broken(app) == {}


def test_more_than_there_is_cannot_be_spent(app: Database, app_url: str) -> None:
    with service(app_url) as shop:
        who = shop.sign_up()
        assert not shop.spend(who, 101)
        assert balance(app, who) is None
        assert shop.spend(who, 100)
    assert balance(app, who) == (0, 0, 0)


def test_expired_credits_are_counted_but_cannot_be_spent(app: Database, app_url: str) -> None:
    with service(app_url, NOW - 200 * DAY) as shop:
        who = shop.sign_up()
        shop.purchase(who, 40)
    with service(app_url, NOW) as shop:
        assert shop.look(who).total == 140
        assert not shop.spend(who, 101)
        assert shop.spend(who, 100)


def test_credits_without_an_expiry_can_be_spent(app: Database, app_url: str) -> None:
    with service(app_url, NOW - 200 * DAY) as shop:
        who = shop.sign_up()
        shop.purchase(who, 40)
        write(app, "UPDATE credit_transactions SET expires_at = NULL")
    with service(app_url, NOW) as shop:
        assert shop.spend(who, 140)


def test_a_refund_has_an_expiry_of_its_own(app: Database, app_url: str) -> None:
    with service(app_url, NOW) as shop:
        who = shop.sign_up()
        shop.refund(who, 12)
    found = rows(
        app, "SELECT expires_at, credit_type::text FROM credit_transactions WHERE type = 'refund'"
    )
    assert found == [(months_after(NOW), "paid")]
    assert broken(app) == {}


def test_remainders_beyond_the_balance_lock_paid_credits_up(app: Database, app_url: str) -> None:
    """What the original reset led to: it added a hundred without closing what was open before."""
    with service(app_url, NOW) as shop:
        who = shop.sign_up()
        shop.purchase(who, 50)
        write(
            app,
            "INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type,"
            " balance_before, balance_after, description, remaining_amount) VALUES ('original',"
            f" '{who}', 'monthly_reset', 0, 'free', 150, 150, 'as the original did', 100)",
        )
        assert shop.look(who).total == 150
        assert not shop.spend(who, 120)
    assert broken(app) == {"balances_equal_remainders": 1}


def test_many_at_once_lose_nothing(app: Database, app_url: str) -> None:
    with service(app_url) as shop:
        people = [shop.sign_up() for _ in range(3)]

    def work(number: int) -> None:
        with service(app_url) as mine:
            for step in range(20):
                who = people[(number + step) % len(people)]
                mine.spend(who, 3)
                if step % 5 == number:
                    mine.purchase(who, 10)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    kinds = dict(rows(app, "SELECT type::text, count(*) FROM credit_transactions GROUP BY 1"))
    assert kinds == {"bonus": 3, "spend": 80, "purchase": 16}
    assert broken(app) == {}


def test_a_request_that_waits_is_stamped_before_it_happens(app: Database, app_url: str) -> None:
    with service(app_url) as shop:
        who = shop.sign_up()
        shop.look(who)
        waiting = threading.Thread(target=lambda: _spend(app_url, who))

        def meanwhile() -> None:
            waiting.start()
            _wait_for_a_lock(app)

        shop.holding = meanwhile
        shop.spend(who, 7)
        waiting.join()
    assert balance(app, who) == (88, 88, 0)
    assert broken(app) == {}


def _spend(url: str, who: str) -> None:
    with service(url) as other:
        assert other.spend(who, 5)


def _wait_for_a_lock(database: Database) -> None:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while not rows(database, waits)[0][0]:
        pass
