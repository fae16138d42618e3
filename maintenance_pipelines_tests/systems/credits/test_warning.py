"""The warning: one mail for all that expires within a week, each purchase in one mail only."""

from __future__ import annotations

from datetime import timedelta

from maintenance_pipelines.engine import undoing
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines.systems.credits.warning import credit_expiry_warning as job
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    contents,
    finish,
    plan,
    rows,
    service,
    undo,
    write,
)

DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)


def warn(database: Database, day: int = 0) -> Verification:
    """The job, so many days after the tests' now."""
    return finish(job, database, plan(job, database, NOW + day * DAY))


def bought(url: str, *days_left: float, who: str | None = None) -> str:
    """Somebody with purchases that expire so many days after the tests' now."""
    with service(url, NOW - 170 * DAY) as shop:
        who = who or shop.sign_up()
        for left in days_left:
            id_ = shop.purchase(who, 10)
            expiry = NOW + timedelta(days=left)
            shop.connection.execute(
                "UPDATE credit_transactions SET expires_at = %s WHERE id = %s", (expiry, id_)
            )
    return who


def mails(database: Database) -> list[tuple[object, ...]]:
    """Subject, deadline and number of listed purchases of every mail."""
    return rows(
        database,
        "SELECT subject, deadline, (SELECT count(*) FROM maintenance.outbox AS listed JOIN"
        " credit_transactions AS t ON t.id = listed.subject AND t.professional_id = mail.subject"
        " WHERE listed.kind = 'credit_listed' AND listed.run_id = mail.run_id)"
        " FROM maintenance.outbox AS mail WHERE kind = 'credit_expiry_warning'"
        " AND state = 'pending' ORDER BY created_at",
    )


def test_one_mail_lists_all_that_expires_within_a_week(app: Database, app_url: str) -> None:
    who = bought(app_url, 2, 5, 6.5, 20)
    done = warn(app)
    assert (done.run.applied, done.run.state) == (1, "verified")
    assert mails(app) == [(who, NOW + 2 * DAY, 3)]


def test_each_purchase_is_in_one_mail_only(app: Database, app_url: str) -> None:
    who = bought(app_url, 2, 8, 9)
    warn(app)
    assert warn(app).run.planned == 0
    warn(app, 1)
    warn(app, 1)
    warn(app, 2)
    listed = [(deadline, count) for _, deadline, count in mails(app)]
    assert listed == [(NOW + 2 * DAY, 1), (NOW + 8 * DAY, 1), (NOW + 9 * DAY, 1)]
    assert {subject for subject, _, _ in mails(app)} == {who}


def test_a_purchase_with_the_expiry_of_one_that_was_listed_is_warned_of_too(
    app: Database, app_url: str
) -> None:
    who = bought(app_url, 2)
    warn(app)
    bought(app_url, 2, who=who)
    assert warn(app).run.applied == 1
    assert [count for _, _, count in mails(app)] == [1, 1]


def test_a_week_is_a_week_to_the_microsecond(app: Database, app_url: str) -> None:
    due = {}
    for left in (timedelta(0), MICROSECOND, 7 * DAY, 7 * DAY + MICROSECOND):
        who = bought(app_url, 3)
        due[who] = left
        write(
            app,
            f"UPDATE credit_transactions SET expires_at = '{NOW + left}' WHERE type = 'purchase'"
            f" AND professional_id = '{who}'",
        )
    warn(app)
    assert {due[str(who)] for who, _, _ in mails(app)} == {MICROSECOND, 7 * DAY}


def test_what_is_spent_or_free_or_never_expires_is_not_warned_of(
    app: Database, app_url: str
) -> None:
    who = bought(app_url, 3, 4)
    write(app, "UPDATE credit_transactions SET remaining_amount = 0 WHERE type = 'purchase'")
    bought(app_url)
    write(app, f"UPDATE credit_transactions SET expires_at = '{NOW + DAY}' WHERE type = 'bonus'")
    other = bought(app_url, 3)
    write(
        app, f"UPDATE credit_transactions SET expires_at = NULL WHERE professional_id = '{other}'"
    )
    assert who != other
    assert warn(app).run.planned == 0


def test_nothing_of_the_apps_is_written(year: Database) -> None:
    before = contents(year)
    assert warn(year).run.applied > 0
    assert contents(year) == before


def test_no_address_is_in_the_outbox(year: Database) -> None:
    warn(year)
    found = rows(year, "SELECT o::text FROM maintenance.outbox AS o")
    assert found
    assert not any("@" in row[0] for row in found)


def test_undoing_withdraws_what_was_not_sent_and_lists_what_was(
    app: Database, app_url: str
) -> None:
    sent, unsent = bought(app_url, 2), bought(app_url, 3)
    run = warn(app).run
    write(app, f"UPDATE maintenance.outbox SET state = 'sent' WHERE subject = '{sent}'")
    undone = undo(job, app, run)
    assert (undone.run.applied, undone.run.state) == (1, "verified")
    assert dict(undoing.left_alone(job, app, undone.run)).keys() == {sent}
    again = warn(app)
    assert again.run.applied == 1
    assert [subject for subject, _, _ in mails(app)] == [unsent]
