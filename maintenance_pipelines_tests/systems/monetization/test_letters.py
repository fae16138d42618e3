"""The mails of this system, from a job through the outbox to a mail server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.operations.outbox import Delivery, send_due
from maintenance_pipelines.operations.smtp import MailServer
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.letters import LETTERS
from maintenance_pipelines.systems.monetization.schema import users
from maintenance_pipelines.systems.monetization.trials import trial_reminder
from maintenance_pipelines_tests.support.mailserver import Mailbox, mailserver
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import NOW

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailserver() as running:
        yield running


def deliver(database: Database, mailbox: Mailbox, as_of: datetime = NOW) -> Delivery:
    server = MailServer.parse(mailbox.url, "Trading Journal <no-reply@example.com>", 5)
    return send_due(database, LETTERS, server, as_of)


def outcome(database: Database) -> dict[str, tuple[str, str | None]]:
    return {
        row["subject"]: (row["state"], row["error"]) for row in people.rows(database, ledger.outbox)
    }


def test_reminders_go_from_the_job_to_the_people(app: Database, mailbox: Mailbox) -> None:
    early = people.on_trial(app, NOW + 2 * DAY, email="early@example.com", name="Ada")
    people.on_trial(app, NOW + HOUR, email="late@example.com", name=None, tier="premium_plus")
    working.carry_out(trial_reminder, app)
    assert deliver(app, mailbox) == Delivery(sent=2)
    told = {mail.recipient: mail.content for mail in mailbox.received}
    assert told["early@example.com"]["Subject"] == (
        "Your Premium trial ends on 4 November 2025, 09:00 UTC"
    )
    texts = {
        to: body.get_content()
        for to, mail in told.items()
        if (body := mail.get_body(["plain"])) is not None
    }
    assert texts["early@example.com"].startswith("Hello Ada,")
    assert "ends in a few days, on 4 November 2025" in texts["early@example.com"]
    assert texts["late@example.com"].startswith("Hello,")
    assert "Premium Plus trial ends within a day" in texts["late@example.com"]
    assert str(early) not in str(told["early@example.com"])


def test_who_has_been_extended_or_converted_in_between_is_skipped(
    app: Database, mailbox: Mailbox
) -> None:
    extended, converted, gone, over, due = (people.on_trial(app, NOW + 2 * DAY) for _ in range(5))
    people.change(app, users, over, trial_ends_at=NOW + HOUR)
    working.carry_out(trial_reminder, app)
    people.change(app, users, extended, trial_ends_at=NOW + 9 * DAY)
    people.change(app, users, converted, tier_source="subscription", tier_expires_at=None)
    people.write(app, users.delete().where(users.c.id == gone))
    assert deliver(app, mailbox, NOW + HOUR) == Delivery(sent=1, skipped=4)
    assert outcome(app) == {
        str(extended): ("skipped", "extended"),
        str(converted): ("skipped", "converted"),
        str(gone): ("skipped", "recipient_gone"),
        str(over): ("skipped", "over"),
        str(due): ("sent", None),
    }


def test_a_reminder_that_was_held_up_gives_way_to_the_more_urgent_one(
    app: Database, mailbox: Mailbox
) -> None:
    people.on_trial(app, NOW + 2 * DAY)
    working.carry_out(trial_reminder, app)
    later = NOW + DAY + HOUR
    working.carry_out(trial_reminder, app, people.scope_of(later))
    assert deliver(app, mailbox, later) == Delivery(sent=1, skipped=1)
    assert "within a day" in str(mailbox.received[0].content)


def test_jobs_and_deliveries_over_four_days_send_one_mail_for_each_stage(
    app: Database, mailbox: Mailbox
) -> None:
    people.on_trial(app, NOW + 3 * DAY + HOUR, email="ada@example.com")
    people.on_trial(app, NOW + 5 * HOUR, email="ben@example.com")
    for hours in range(0, 96, 6):
        moment = NOW + hours * HOUR
        run = working.carry_out(trial_reminder, app, people.scope_of(moment)).run
        if hours == 18:
            mailbox.then("rcpt", "451 4.7.1 Greylisted")
        deliver(app, mailbox, moment)
        if hours == 30:
            working.take_back(trial_reminder, app, run)
    assert mailbox.recipients() == ["ada@example.com"] * 2 + ["ben@example.com"]


def test_a_mail_about_an_expired_tier_is_skipped_where_the_tier_is_back(
    app: Database, mailbox: Mailbox
) -> None:
    scope = people.scope_of(mail_expired_tiers=True)
    renewed, expired = (people.paying(app, NOW - DAY) for _ in range(2))
    working.carry_out(tier_expiration, app, scope)
    people.change(app, users, renewed, tier="premium", tier_expires_at=NOW + DAY)
    assert deliver(app, mailbox) == Delivery(sent=1, skipped=1)
    assert outcome(app) == {
        str(renewed): ("skipped", "has_a_tier_again"),
        str(expired): ("sent", None),
    }
    assert mailbox.received[0].content["Subject"] == "Your plan has ended"
