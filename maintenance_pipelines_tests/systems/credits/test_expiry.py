"""The expiry: only what was left, with one transaction each, and never a balance made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.credits.app import months_after
from maintenance_pipelines.systems.credits.expiry import credit_expiry as job
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    balance,
    broken,
    contents,
    expire,
    failed,
    finish,
    history,
    plan,
    rows,
    service,
    set_clock,
    undo,
    write,
)

DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
LONG_AGO = NOW - 200 * DAY


def holder(url: str, *bought: int, spent: int = 0, at: datetime = LONG_AGO) -> str:
    """Somebody who bought credits so long ago that they have expired."""
    with service(url, at) as shop:
        who = shop.sign_up()
        shop.look(who)
        for credits in bought:
            shop.purchase(who, credits)
        if spent:
            assert shop.spend(who, spent)
    return who


def test_what_was_left_is_gone_and_booked(app: Database, app_url: str) -> None:
    who = holder(app_url, 100, spent=160)
    done = expire(app)
    assert (done.run.applied, done.run.state) == (1, "verified")
    assert balance(app, who) == (0, 0, 0)
    assert history(app, who)[-1] == ("expiry", -40, 40, 0, 0)
    booked = rows(
        app,
        "SELECT e.credit_type::text, e.purchase_id = p.purchase_id, e.description,"
        " p.remaining_amount"
        " FROM credit_transactions e JOIN credit_transactions p ON p.type = 'purchase'"
        " WHERE e.type = 'expiry'",
    )
    assert booked == [("paid", True, f"Expired: 40 of 100 credits of {LONG_AGO:%Y-%m-%d}", 0)]
    assert rows(app, "SELECT lifetime_spent, lifetime_earned FROM credit_balances") == [(160, 200)]
    assert broken(app) == {}


def test_several_at_once_are_booked_one_by_one(app: Database, app_url: str) -> None:
    who = holder(app_url, 25, 50, 100, spent=100)
    with service(app_url, NOW - 10 * DAY) as shop:
        shop.purchase(who, 30)
    expire(app)
    assert balance(app, who) == (30, 0, 30)
    expired = [row for row in history(app, who) if row[0] == "expiry"]
    assert sorted(row[1] for row in expired) == [-100, -50, -25]
    assert {row[2] for row in expired} | {30} == {row[3] for row in expired} | {205}
    assert broken(app) == {}


def test_the_very_moment_of_expiry_is_expired(app: Database, app_url: str) -> None:
    bought, expiry = datetime(2023, 8, 31, 12, tzinfo=UTC), datetime(2024, 2, 29, 12, tzinfo=UTC)
    early, exactly, late = (
        holder(app_url, 50, at=bought + shift * MICROSECOND) for shift in (-1, 0, 1)
    )
    expire(app, expiry)
    assert balance(app, early) == balance(app, exactly) == (100, 100, 0)
    assert balance(app, late) == (150, 100, 50)


def test_six_months_from_31_august_end_with_february(app: Database, app_url: str) -> None:
    who = holder(app_url, 50, at=datetime(2025, 8, 31, 12, tzinfo=UTC))
    expire(app, datetime(2026, 2, 28, 11, 59, 59, tzinfo=UTC))
    assert balance(app, who) == (150, 100, 50)
    expire(app, datetime(2026, 2, 28, 12, tzinfo=UTC))
    assert balance(app, who) == (100, 100, 0)


def test_without_an_expiry_credits_stay_and_are_warned_of(app: Database, app_url: str) -> None:
    who = holder(app_url, 50)
    write(app, "UPDATE credit_transactions SET expires_at = NULL")
    done = expire(app)
    assert (done.run.planned, done.run.state) == (0, "verified")
    warned = {check.name for check in done.checks if check.warning and not check.passed}
    assert "paid_credits_expire" in warned
    assert balance(app, who) == (150, 100, 50)


def test_refunds_expire_like_purchases(app: Database, app_url: str) -> None:
    who = holder(app_url)
    with service(app_url, LONG_AGO) as shop:
        shop.refund(who, 12)
    expire(app)
    assert balance(app, who) == (100, 100, 0)
    assert history(app, who)[-1] == ("expiry", -12, 112, 100, 0)
    assert broken(app) == {}


def test_free_credits_never_expire_here(app: Database, app_url: str) -> None:
    who = holder(app_url)
    write(app, "UPDATE credit_transactions SET expires_at = '2020-01-01'")
    assert expire(app).run.planned == 0
    assert balance(app, who) == (100, 100, 0)


def test_a_second_run_finds_nothing(year: Database) -> None:
    first = expire(year)
    assert first.run.applied > 30
    after = contents(year)
    second = expire(year)
    assert (second.run.planned, second.run.state) == (0, "verified")
    assert contents(year) == after
    assert set(broken(year)) == {"paid_credits_expire"}


def test_a_balance_that_disagrees_is_left_alone_and_named(app: Database, app_url: str) -> None:
    damages = (
        "paid_credits = 30, total_balance = 130",  # less than has to expire
        "paid_credits = 60, total_balance = 160",  # more than the transactions have
        "total_balance = 140",  # not free and paid
    )
    damaged = {holder(app_url, 50): damage for damage in damages}
    other = holder(app_url, 50)
    for who, damage in damaged.items():
        write(app, f"UPDATE credit_balances SET {damage} WHERE professional_id = '{who}'")
    before = {who: balance(app, who) for who in damaged}
    done = expire(app)
    assert done.run.excluded == {"balance_disagrees": 3}
    assert (done.run.applied, done.run.state) == (1, "failed")
    assert "balances_agree" in failed(done)
    check = next(c for c in done.checks if c.name == "balances_agree")
    assert set(check.sample) == set(damaged)
    assert {who: balance(app, who) for who in damaged} == before
    assert balance(app, other) == (100, 100, 0)


def test_a_single_balance_that_disagrees_is_named_though_nothing_is_planned(
    app: Database, app_url: str
) -> None:
    who = holder(app_url, 50)
    write(app, "UPDATE credit_balances SET paid_credits = 30, total_balance = 130")
    done = expire(app)
    assert (done.run.planned, done.run.state) == (0, "failed")
    assert next(c for c in done.checks if c.name == "balances_agree").sample == (who,)


def test_expired_credits_without_a_balance_are_named(app: Database, app_url: str) -> None:
    who = holder(app_url, 50)
    write(app, "DELETE FROM credit_balances")
    done = expire(app)
    assert done.run.planned == 0
    assert next(c for c in done.checks if c.name == "balances_agree").sample == (who,)


def test_a_professional_at_fault_does_not_stop_the_others(app: Database, app_url: str) -> None:
    """The sixth trap: and nothing of the one at fault is written."""
    people = [holder(app_url, 50) for _ in range(7)]
    write(
        app,
        "ALTER TABLE credit_transactions ADD CHECK (type <> 'expiry'"
        f" OR professional_id <> '{people[3]}')",
    )
    done = expire(app)
    assert (done.run.applied, done.run.failed, done.run.state) == (6, 1, "partial")
    assert balance(app, people[3]) == (150, 100, 50)
    left = "SELECT sum(remaining_amount) FROM credit_transactions WHERE credit_type = 'paid'"
    assert rows(app, left) == [(50,)]
    assert set(broken(app)) == {"expired_credits_closed"}


def test_what_is_spent_between_plan_and_write_is_not_expired_too(
    app: Database, app_url: str
) -> None:
    bought = NOW - 170 * DAY
    who = holder(app_url, 100, at=bought)
    expiry = months_after(bought)
    set_clock(app, expiry)
    run = plan(job, app, expiry)
    with service(app_url, expiry - MICROSECOND) as shop:
        assert shop.spend(who, 130)
    done = finish(job, app, run).run
    assert (done.applied, done.state) == (1, "verified")
    assert balance(app, who) == (0, 0, 0)
    assert history(app, who)[-1] == ("expiry", -70, 70, 0, 0)
    assert broken(app) == {}


def test_what_is_spent_to_the_last_before_the_write_is_a_conflict(
    app: Database, app_url: str
) -> None:
    bought = NOW - 170 * DAY
    who = holder(app_url, 100, at=bought)
    run = plan(job, app, months_after(bought))
    with service(app_url, months_after(bought) - MICROSECOND) as shop:
        assert shop.spend(who, 200)
    done = finish(job, app, run).run
    assert (done.applied, done.conflicts, done.state) == (0, 1, "verified")
    assert broken(app) == {}


def test_a_rollback_gives_the_remainders_back(app: Database, app_url: str) -> None:
    who = holder(app_url, 25, 50, spent=110)
    run = expire(app).run
    undone = undo(job, app, run)
    assert (undone.run.state, undone.run.applied) == ("verified", 1)
    assert balance(app, who) == (65, 0, 65)
    left = sorted(row[4] for row in history(app, who) if row[0] == "purchase")
    assert left == [15, 50]
    assert set(broken(app)) == {"expired_credits_closed"}
    assert expire(app).run.applied == 1
    assert balance(app, who) == (0, 0, 0)
    assert broken(app) == {}


def test_a_rollback_after_more_was_bought_and_spent_still_balances(
    app: Database, app_url: str
) -> None:
    who = holder(app_url, 25, 50)
    run = expire(app).run
    with service(app_url) as shop:
        shop.purchase(who, 40)
        shop.spend(who, 120)
    undone = undo(job, app, run)
    assert undone.run.applied == 1
    assert balance(app, who) == (95, 0, 95)
    assert set(broken(app)) == {"expired_credits_closed"}


def test_the_books_keep_what_was_taken_back(app: Database, app_url: str) -> None:
    who = holder(app_url, 50)
    undo(job, app, expire(app).run)
    assert [row[:2] for row in history(app, who)[-2:]] == [("expiry", -50), ("expiry", 50)]
    says = rows(
        app, "SELECT description FROM credit_transactions WHERE type = 'expiry' AND amount > 0"
    )
    assert says == [(f"Expiry taken back: 50 of 50 credits of {LONG_AGO:%Y-%m-%d}",)]


def test_stamps_are_the_databases_under_the_lock(app: Database, app_url: str) -> None:
    holder(app_url, 50)
    later = NOW + 2 * DAY
    run = plan(job, app, NOW)
    set_clock(app, NOW + timedelta(hours=20))
    finish(job, app, run)
    stamp = rows(app, "SELECT created_at FROM credit_transactions WHERE type = 'expiry'")[0][0]
    assert NOW + timedelta(hours=20) <= stamp < later


def test_nobodys_address_is_in_the_outcome(year: Database) -> None:
    assert "@" not in str(expire(year))
