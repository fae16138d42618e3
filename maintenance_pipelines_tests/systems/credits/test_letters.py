"""The mails: what they say, to whom, and when they are held back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.systems.credits.letters import LETTERS
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines.systems.credits.warning import credit_expiry_warning
from maintenance_pipelines_tests.systems.credits.books import (
    NOW,
    finish,
    plan,
    reset,
    service,
    undo,
    write,
)

DAY = timedelta(days=1)


def recipients(database: Database, kind: str, as_of: datetime = NOW) -> list[dict[str, Any]]:
    """What the letter knows of its mails in the outbox, stage and deadline included."""
    letter = next(letter for letter in LETTERS if letter.kind == kind)
    mails = sa.select(outbox).where(outbox.c.kind == kind).subquery("mails")
    found = letter.recipients(as_of, mails).add_columns(mails.c.stage, mails.c.deadline)
    with database.transaction() as connection:
        return [dict(row) for row in connection.execute(found).mappings()]


def said(kind: str, facts: dict[str, Any]) -> tuple[str, str, str]:
    """Subject line, text and HTML of a mail."""
    letter = next(letter for letter in LETTERS if letter.kind == kind)
    message = letter.write({name: value for name, value in facts.items() if name != "address"})
    text, html = (part.get_content() for part in message.iter_parts())
    return message["Subject"], text, html


def warned(app: Database, app_url: str) -> str:
    with service(app_url, NOW - 178 * DAY) as shop:
        who = shop.sign_up()
        shop.purchase(who, 25)
    with service(app_url, NOW - 176 * DAY) as shop:
        shop.purchase(who, 50)
        shop.spend(who, 110)
    finish(credit_expiry_warning, app, plan(credit_expiry_warning, app, NOW))
    return who


def test_the_warning_lists_what_is_left_of_all_purchases(app: Database, app_url: str) -> None:
    who = warned(app, app_url)
    (facts,) = recipients(app, "credit_expiry_warning")
    assert facts["address"] == f"{who}@example.com"
    assert (facts["withheld"], facts["credits"]) == (None, [15, 50])
    subject, text, html = said("credit_expiry_warning", facts)
    assert subject == "65 of your credits expire soon"
    assert "- 15 credits on 13 March 2026, 12:00 UTC\n- 50 credits on 15 March 2026" in text
    assert "<strong>50 credits</strong>" in html


def test_what_was_spent_meanwhile_is_not_in_it(app: Database, app_url: str) -> None:
    who = warned(app, app_url)
    with service(app_url, NOW) as shop:
        shop.spend(who, 20)
    assert recipients(app, "credit_expiry_warning")[0]["credits"] == [45]
    with service(app_url, NOW) as shop:
        shop.spend(who, 45)
    assert recipients(app, "credit_expiry_warning")[0]["withheld"] == "nothing_left_to_expire"


def test_a_warning_that_comes_too_late_is_held_back(app: Database, app_url: str) -> None:
    warned(app, app_url)
    (facts,) = recipients(app, "credit_expiry_warning", NOW + 4 * DAY)
    assert facts["credits"] == [50]
    (facts,) = recipients(app, "credit_expiry_warning", NOW + 9 * DAY)
    assert facts["withheld"] == "nothing_left_to_expire"


def test_the_name_of_a_business_cannot_break_the_html(app: Database, app_url: str) -> None:
    warned(app, app_url)
    write(app, "UPDATE pro_profiles SET business_name = '<b>Bolts & Co'")
    (facts,) = recipients(app, "credit_expiry_warning")
    _, text, html = said("credit_expiry_warning", facts)
    assert "<b>Bolts & Co" in text
    assert "&lt;b&gt;Bolts &amp; Co" in html


def test_the_note_is_held_back_where_the_reset_was_taken_back(app: Database, app_url: str) -> None:
    with service(app_url, NOW - 40 * DAY) as shop:
        shop.look(shop.sign_up())
    run = reset(app, notify_reset=True).run
    (facts,) = recipients(app, "credits_reset")
    assert facts["withheld"] is None
    assert "100 free credits" in said("credits_reset", facts)[1]
    assert recipients(app, "credits_reset", NOW + 30 * DAY)[0]["withheld"] == "over"
    undo(monthly_credits_reset, app, run)
    assert recipients(app, "credits_reset")[0]["withheld"] == "taken_back"
