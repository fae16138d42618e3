"""The monthly reset: who gets what, the traps of the original, and the edges of a month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import applying, planning, undoing, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.engine.results import result_keys
from maintenance_pipelines.systems.credits import clock
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset as job
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    balance,
    broken,
    contents,
    expire,
    failed,
    finish,
    history,
    now,
    plan_reset,
    reset,
    rows,
    service,
    set_clock,
    someone,
    undo,
    write,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
LAST_MONTH = NOW - 30 * DAY


def professional(url: str, spent: int = 0, paid: int = 0, verification: str = "basic") -> str:
    """Somebody who has had a balance since last month."""
    with service(url, LAST_MONTH) as shop:
        who = shop.sign_up(verification)
        shop.look(who)
        if spent:
            assert shop.spend(who, spent)
        if paid:
            shop.purchase(who, paid)
    return who


def test_whatever_was_left_there_are_a_hundred_free_credits(app: Database, app_url: str) -> None:
    people = {}
    for verification in ("basic", "comprehensive"):
        for spent, bonus in ((70, 0), (0, 20), (100, 0), (0, 0)):
            who = professional(app_url, spent, 50, verification)
            if bonus:
                with service(app_url, LAST_MONTH) as shop:
                    shop.bonus(who, bonus)
            people[who] = 100 - spent + bonus
    done = reset(app)
    assert (done.run.applied, done.run.state) == (8, "verified")
    for who, free in people.items():
        assert balance(app, who) == (150, 100, 50)
        assert history(app, who)[-1] == ("monthly_reset", 100 - free, free + 50, 150, 100)
    given = rows(
        app,
        "SELECT professional_id, previous_free_credits FROM credit_transactions WHERE"
        " type = 'monthly_reset' AND credit_type = 'free' AND expires_at IS NULL",
    )
    assert {row[0]: row[1] for row in given} == people
    assert broken(app) == {}


def test_the_balance_row_says_when_and_how_much_was_earned(app: Database, app_url: str) -> None:
    who, richer = professional(app_url, spent=70), professional(app_url)
    with service(app_url, LAST_MONTH) as shop:
        shop.bonus(richer, 20)
    moment = now(app).replace(microsecond=0)
    reset(app, moment)
    columns = "lifetime_earned, lifetime_spent, last_reset_date"
    asked = f"SELECT {columns} FROM credit_balances WHERE professional_id = '{{}}'"
    assert rows(app, asked.format(who)) == [(170, 70, moment)]
    assert rows(app, asked.format(richer)) == [(120, 0, moment)]


def test_remainders_of_older_free_credits_are_closed(app: Database, app_url: str) -> None:
    """The second trap: they would be spent although the balance does not have them."""
    who = professional(app_url, spent=30)
    with service(app_url, LAST_MONTH + HOUR) as shop:
        shop.bonus(who, 25)
    reset(app)
    left = [(row[0], row[4]) for row in history(app, who) if row[4]]
    assert left == [("monthly_reset", 100)]
    with service(app_url) as shop:
        assert not shop.spend(who, 101)
        assert shop.spend(who, 100)
    assert balance(app, who) == (0, 0, 0)
    assert broken(app) == {}


def test_what_the_original_left_open_is_mended_by_a_reset(app: Database, app_url: str) -> None:
    who = professional(app_url, paid=50)
    write(
        app,
        "INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type,"
        " balance_before, balance_after, description, remaining_amount, created_at) VALUES ('o',"
        f" '{who}', 'monthly_reset', 0, 'free', 150, 150, '', 100, '{LAST_MONTH}')",
    )
    assert broken(app) == {"balances_equal_remainders": 1}
    assert reset(app).run.state == "verified"
    with service(app_url) as shop:
        assert shop.spend(who, 150)
    assert broken(app) == {}


def test_a_second_run_gives_nothing_back_that_was_spent_since(app: Database, app_url: str) -> None:
    """The third trap."""
    who = professional(app_url)
    reset(app)
    with service(app_url) as shop:
        shop.spend(who, 40)
    again = reset(app)
    assert (again.run.planned, again.run.state) == (0, "verified")
    assert again.run.excluded == {"already_reset": 1}
    assert balance(app, who) == (60, 60, 0)


def test_a_reset_is_known_by_its_transaction_and_not_by_the_balance(
    app: Database, app_url: str
) -> None:
    """Somebody who first looked this month has a fresh date and was not reset."""
    with service(app_url, NOW - HOUR) as shop:
        who = shop.sign_up()
        shop.spend(who, 60)
    assert reset(app).run.applied == 1
    assert balance(app, who) == (100, 100, 0)


def test_who_has_no_balance_gets_one_as_the_app_would_create_it(
    app: Database, app_url: str
) -> None:
    with service(app_url, LAST_MONTH) as shop:
        who = shop.sign_up()
    assert reset(app).run.state == "verified"
    assert balance(app, who) == (100, 100, 0)
    assert history(app, who) == [("monthly_reset", 100, 0, 100, 100)]
    assert rows(app, "SELECT length(id), lifetime_earned, lifetime_spent FROM credit_balances") == [
        (24, 100, 0)
    ]
    with service(app_url) as shop:
        assert shop.look(who).total == 100
    assert broken(app) == {}


def test_others_are_left_alone(app: Database, app_url: str) -> None:
    eligible = professional(app_url, spent=30)
    others = []
    for role, verification in (
        ("pro", "unverified"),
        ("pro", "pending"),
        ("pro", "rejected"),
        ("homeowner", "basic"),
        ("admin", "comprehensive"),
    ):
        with service(app_url, LAST_MONTH) as shop:
            others.append(shop.sign_up(verification, role=role))
            shop.spend(others[-1], 30)
    done = reset(app)
    assert done.run.excluded == {"not_verified": 3, "not_a_professional": 2}
    assert [balance(app, who) for who in others] == [(70, 70, 0)] * 5
    assert balance(app, eligible) == (100, 100, 0)


def test_who_loses_verification_between_plan_and_write_is_left_alone(
    app: Database, app_url: str
) -> None:
    who, other = professional(app_url, spent=30), professional(app_url, spent=30)
    run = plan_reset(app)
    with service(app_url) as shop:
        shop.verify(who, "rejected")
    done = finish(job, app, run).run
    assert (done.applied, done.conflicts, done.state) == (1, 1, "verified")
    assert balance(app, who) == (70, 70, 0)
    assert balance(app, other) == (100, 100, 0)


def test_what_is_spent_between_plan_and_write_is_not_lost(app: Database, app_url: str) -> None:
    """The fourth trap: the reset is of the balance as it is then."""
    who = professional(app_url, spent=10, paid=20)
    run = plan_reset(app)
    with service(app_url) as shop:
        shop.spend(who, 100)
        shop.purchase(who, 30)
    done = finish(job, app, run).run
    assert (done.applied, done.state) == (1, "verified")
    assert balance(app, who) == (140, 100, 40)
    assert history(app, who)[-1] == ("monthly_reset", 100, 40, 140, 100)
    assert broken(app) == {}


def test_a_balance_that_disagrees_with_itself_is_left_alone_and_named(
    app: Database, app_url: str
) -> None:
    who, other = professional(app_url), professional(app_url)
    write(app, f"UPDATE credit_balances SET paid_credits = 5 WHERE professional_id = '{who}'")
    done = reset(app)
    assert done.run.excluded == {"balance_disagrees": 1}
    assert (done.run.applied, done.run.state) == (1, "failed")
    check = next(c for c in done.checks if c.name == "total_is_free_plus_paid")
    assert check.sample == (who,)
    assert balance(app, other) == (100, 100, 0)


def test_nobody_eligible_is_a_failure_and_not_a_success(app: Database, app_url: str) -> None:
    """The first trap: the original looked for a role that nobody has."""
    professional(app_url, verification="pending")
    done = reset(app)
    assert done.run.state == "failed"
    assert failed(done) == {"somebody_is_eligible"}


def test_on_an_empty_app_the_reset_fails_too(app: Database) -> None:
    assert failed(reset(app)) == {"somebody_is_eligible"}


@pytest.mark.parametrize("month", ["2026-02", "2026-04", "2025-03"])
def test_only_the_running_month_can_be_reset(app: Database, app_url: str, month: str) -> None:
    professional(app_url)
    before = contents(app)
    with pytest.raises(BadInput, match="running month, 2026-03"):
        planning.plan(job, app, Scope(NOW, month, CreditsOptions()), someone)
    assert contents(app) == before


def test_a_moment_in_the_past_does_not_make_its_month_the_running_one(
    app: Database, app_url: str
) -> None:
    professional(app_url)
    with pytest.raises(BadInput, match="not for 2026-02 as of 2026-02-28"):
        plan_reset(app, datetime(2026, 2, 28, 23, 59, tzinfo=UTC))


def test_a_month_that_ends_between_plan_and_write_is_not_reset(app: Database, app_url: str) -> None:
    who = professional(app_url, spent=30)
    set_clock(app, datetime(2026, 3, 31, 23, 59, 30, tzinfo=UTC))
    run = plan_reset(app)
    set_clock(app, datetime(2026, 4, 1, tzinfo=UTC))
    done = finish(job, app, run).run
    assert (done.applied, done.conflicts) == (0, 1)
    assert balance(app, who) == (70, 70, 0)
    assert reset(app).run.applied == 1
    assert balance(app, who) == (100, 100, 0)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
def test_a_month_begins_and_ends_to_the_microsecond_in_utc(
    app: Database, app_url: str, zone: str
) -> None:
    """February of a leap year, whatever the time zone of the server."""
    write(app, f"ALTER DATABASE {app.engine.url.database} SET TimeZone = '{zone}'")
    app.dispose()
    first, after = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
    stamps = {}
    for stamp in (first - MICROSECOND, first, after - MICROSECOND, after):
        who = professional(app_url)
        stamps[who] = stamp
        write(
            app,
            "INSERT INTO credit_transactions (id, professional_id, type, amount, credit_type,"
            " balance_before, balance_after, description, created_at) VALUES ('r' || "
            f"'{who}', '{who}', 'monthly_reset', 0, 'free', 100, 100, '', '{stamp}')",
        )
    set_clock(app, datetime(2024, 2, 29, 23, 30, tzinfo=UTC))
    run = plan_reset(app)
    planned = rows(app, f"SELECT professional_id FROM maintenance.plan_{run.id}_professional")
    assert {stamps[row[0]] for row in planned} == {first - MICROSECOND, after}


def test_the_first_and_the_last_moment_of_a_month_are_its_own(app: Database, app_url: str) -> None:
    who = professional(app_url)
    set_clock(app, datetime(2026, 12, 31, 23, 59, 55, tzinfo=UTC))
    assert reset(app).run.applied == 1
    set_clock(app, datetime(2027, 1, 1, tzinfo=UTC))
    assert reset(app).run.applied == 1
    stamps = rows(
        app,
        "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM') FROM credit_transactions WHERE"
        f" type = 'monthly_reset' AND professional_id = '{who}' ORDER BY created_at",
    )
    assert [stamp[0] for stamp in stamps] == ["2026-12", "2027-01"]
    assert broken(app) == {}


def test_what_was_found_within_a_month_is_stamped_within_it(app: Database) -> None:
    """Between the look at the clock and the stamp, the month may end."""
    march = Month(2026, 3)
    set_clock(app, datetime(2026, 4, 1, 0, 0, 0, 17, tzinfo=UTC))
    with app.transaction() as connection:
        stamp = connection.execute(sa.select(clock.stamp(march))).scalar_one()
        running = connection.execute(sa.select(clock.is_running(march))).scalar_one()
    assert stamp == datetime(2026, 4, 1, tzinfo=UTC) - MICROSECOND
    assert not running


def test_a_rollback_restores_everything_as_it_was(year: Database) -> None:
    before = contents(year)
    done = reset(year)
    assert done.run.applied > 150
    undone = undo(job, year, done.run)
    assert (undone.run.state, undone.run.applied) == ("verified", done.run.applied)
    assert contents(year) == before
    assert reset(year).run.applied == done.run.applied


def test_a_reset_that_something_has_followed_stays_and_is_listed(
    app: Database, app_url: str
) -> None:
    spent, bought, quiet, new = (professional(app_url, spent=30, paid=20) for _ in range(4))
    with service(app_url, LAST_MONTH) as shop:
        looked = shop.sign_up()
    run = reset(app).run
    with service(app_url) as shop:
        shop.spend(spent, 15)
        shop.purchase(bought, 10)
        shop.spend(looked, 1)
    undone = undo(job, app, run)
    assert undone.run.state == "verified"
    stayed = dict(undoing.left_alone(job, app, undone.run))
    assert set(stayed) == {spent, bought, looked}
    assert balance(app, quiet) == balance(app, new) == (90, 70, 20)
    assert balance(app, spent) == (105, 85, 20)
    assert balance(app, bought) == (130, 100, 30)
    assert balance(app, looked) == (99, 99, 0)
    assert broken(app) == {}
    with service(app_url) as shop:
        assert shop.spend(quiet, 90)
    assert broken(app) == {}


def test_what_was_taken_back_in_between_is_a_later_transaction_too(
    app: Database, app_url: str
) -> None:
    """The balance is just what the reset made of it, and still others stand on its numbers."""
    who = professional(app_url, spent=30, paid=40)
    run = reset(app).run
    write(app, "UPDATE credit_transactions SET expires_at = now() WHERE type = 'purchase'")
    later = expire(app, NOW + 400 * DAY).run
    assert balance(app, who) == (100, 100, 0)
    undo(credit_expiry, app, later)
    assert balance(app, who) == (140, 100, 40)
    undone = undo(job, app, run)
    left = undoing.left_alone(job, app, undone.run)
    assert left == [(who, "not_the_last_transaction")]
    assert "balances_chain" not in broken(app)


def test_a_spend_stamped_before_the_reset_that_it_followed_is_noticed(
    app: Database, app_url: str
) -> None:
    who = professional(app_url)
    run = reset(app).run
    with service(app_url, LAST_MONTH) as late:
        late.spend(who, 5)
    assert undo(job, app, run).run.applied == 0
    assert balance(app, who) == (95, 95, 0)
    assert broken(app) == {}


def test_a_new_balance_goes_again_with_its_reset(app: Database, app_url: str) -> None:
    with service(app_url, LAST_MONTH) as shop:
        who = shop.sign_up()
    run = reset(app).run
    undo(job, app, run)
    assert balance(app, who) is None
    with service(app_url) as shop:
        assert shop.look(who).total == 100
    assert history(app, who) == [("bonus", 100, 0, 100, 100)]


def test_one_professional_at_fault_does_not_stop_the_others(app: Database, app_url: str) -> None:
    people = [professional(app_url, spent=30) for _ in range(12)]
    write(
        app,
        "ALTER TABLE credit_transactions ADD CHECK (type <> 'monthly_reset'"
        f" OR professional_id <> '{people[5]}')",
    )
    run, failures = applying.apply(job, app, plan_reset(app), Order())
    assert (run.applied, run.failed, run.state) == (11, 1, "partial")
    assert len(failures) == 1
    assert balance(app, people[5]) == (70, 70, 0)
    assert {balance(app, who) for who in people} == {(70, 70, 0), (100, 100, 0)}
    assert broken(app) == {}
    write(app, "ALTER TABLE credit_transactions DROP CONSTRAINT credit_transactions_check")
    run, _ = applying.apply(job, app, run, Order())
    assert (run.applied, run.failed) == (12, 0)
    assert verifying.verify(job, app, run).run.state == "verified"
    assert broken(app) == {}


def test_a_dry_run_changes_nothing(year: Database) -> None:
    before = contents(year)
    run = plan_reset(year)
    assert run.planned > 150
    assert contents(year) == before


def test_no_note_is_put_into_the_outbox_unless_asked_for(app: Database, app_url: str) -> None:
    professional(app_url)
    run = reset(app).run
    assert rows(app, "SELECT count(*) FROM maintenance.outbox") == [(0,)]
    undo(job, app, run)


def test_a_note_where_it_is_asked_for_is_told_once(app: Database, app_url: str) -> None:
    who = professional(app_url)
    run = reset(app, notify_reset=True).run
    outbox = "SELECT kind, stage, subject, state FROM maintenance.outbox"
    assert rows(app, outbox) == [("credits_reset", "2026-03", who, "pending")]
    undo(job, app, run)
    assert reset(app, notify_reset=True).run.applied == 1
    assert rows(app, outbox) == [("credits_reset", "2026-03", who, "pending")]


def test_results_have_the_sources_keys_and_nobodys_address(app: Database, app_url: str) -> None:
    professional(app_url)
    done = reset(app)
    assert result_keys(job, app, done.run) == {
        "totalProfessionals": 1,
        "successCount": 1,
        "errorCount": 0,
        "errors": [],
    }
    assert "@" not in str(done)
