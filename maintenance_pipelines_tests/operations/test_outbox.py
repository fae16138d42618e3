"""The outbox through a real SMTP dialogue: each mail once, and never twice by itself."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.operations.outbox import MOST_ATTEMPTS, Delivery, wait_after
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine.sessions import holding, terminate
from maintenance_pipelines_tests.operations import readers
from maintenance_pipelines_tests.operations.readers import NOW, deliver, mails, queue, states
from maintenance_pipelines_tests.support.mailserver import DIE, HANG, HOLD, LEAVE, Mailbox, Stage

MINUTE = timedelta(minutes=1)
SOON = 0.3


def update(database: Database, **values: object) -> None:
    with database.transaction() as connection:
        connection.execute(outbox.update().values(values))


def test_what_is_due_is_sent_once_as_text_and_html(reading: Database, mailbox: Mailbox) -> None:
    id_ = queue(reading, "ada")
    assert deliver(reading, mailbox.url) == Delivery(sent=1)
    assert deliver(reading, mailbox.url) == Delivery()
    (mail,) = mailbox.received
    assert mail.recipient == "ada@example.com"
    assert mail.content["To"] == "ada@example.com"
    assert mail.content["From"] == readers.SENDER
    assert mail.content["Subject"] == "It is late"
    assert mail.content["Message-ID"] == f"<{id_}@example.com>"
    text, html = (mail.content.get_body([kind]) for kind in ("plain", "html"))
    assert text is not None and html is not None
    assert text.get_content().replace("\r\n", "\n") == (
        "Dear Ada, it is late until 3 November 2025, 09:00 UTC.\n.hidden\n"
    )
    assert "<p>Dear Ada" in html.get_content()
    row = mails(reading)["ada"]
    assert (row["state"], row["attempts"], row["error"]) == ("sent", 1, None)
    assert row["created_at"] <= row["handed_over_at"] <= row["settled_at"]


def test_a_name_cannot_put_anything_into_the_html(reading: Database, mailbox: Mailbox) -> None:
    queue(reading, "<img src=x>", "eve@example.com")
    deliver(reading, mailbox.url)
    html = mailbox.received[0].content.get_body(["html"])
    assert html is not None and "&lt;Img Src=X&gt;" in html.get_content()


def test_many_mails_go_over_one_connection(reading: Database, mailbox: Mailbox) -> None:
    for number in range(12):
        queue(reading, f"r{number}")
    assert deliver(reading, mailbox.url).sent == 12
    assert (len(mailbox.received), mailbox.connections) == (12, 1)


def test_what_is_not_due_yet_waits(reading: Database, mailbox: Mailbox) -> None:
    queue(reading, "ada", next_attempt_at=NOW + timedelta(microseconds=1))
    assert deliver(reading, mailbox.url) == Delivery()
    assert (mailbox.received, mailbox.connections) == ([], 0)


def test_a_mail_of_another_kind_is_left_for_those_who_know_it(
    reading: Database, mailbox: Mailbox
) -> None:
    queue(reading, "ada", kind="other")
    assert deliver(reading, mailbox.url) == Delivery()
    assert states(reading) == {"ada": "pending"}


def test_who_should_not_get_it_any_more_is_skipped_with_the_reason(
    reading: Database, mailbox: Mailbox
) -> None:
    for name in ("left", "gone", "here"):
        queue(reading, name)
    with reading.transaction() as connection:
        connection.execute(
            readers.reader.update().where(readers.reader.c.id == "left").values(left=True)
        )
        connection.execute(readers.reader.delete().where(readers.reader.c.id == "gone"))
    assert deliver(reading, mailbox.url) == Delivery(sent=1, skipped=2)
    found = {name: (row["state"], row["error"]) for name, row in mails(reading).items()}
    assert found == {
        "left": ("skipped", "left"),
        "gone": ("skipped", "recipient_gone"),
        "here": ("sent", None),
    }


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "answer"])
def test_a_mail_that_is_declined_for_good_has_failed_and_the_others_go_on(
    reading: Database, mailbox: Mailbox, stage: Stage
) -> None:
    queue(reading, "ada", next_attempt_at=NOW - MINUTE)
    queue(reading, "ben")
    mailbox.then(stage, "550 5.1.1 <ada@example.com>: no such user")
    assert deliver(reading, mailbox.url) == Delivery(sent=1, failed=1)
    assert states(reading) == {"ada": "failed", "ben": "sent"}
    assert mails(reading)["ada"]["error"] == "SMTP 550 5.1.1"
    assert mailbox.recipients() == ["ben@example.com"]


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "answer"])
def test_a_greylisted_mail_is_tried_again_later_and_then_sent_once(
    reading: Database, mailbox: Mailbox, stage: Stage
) -> None:
    queue(reading, "ada")
    mailbox.then(stage, "451 4.7.1 Greylisted, try later")
    assert deliver(reading, mailbox.url) == Delivery(postponed=1)
    row = mails(reading)["ada"]
    assert (row["state"], row["attempts"], row["error"]) == ("pending", 1, "SMTP 451 4.7.1")
    assert row["next_attempt_at"] == NOW + 5 * MINUTE
    assert deliver(reading, mailbox.url, NOW + 5 * MINUTE - timedelta(microseconds=1)) == Delivery()
    assert deliver(reading, mailbox.url, NOW + 5 * MINUTE) == Delivery(sent=1)
    assert mails(reading)["ada"]["attempts"] == 2
    assert mailbox.recipients() == ["ada@example.com"]


def test_the_message_id_is_the_same_for_every_attempt(reading: Database, mailbox: Mailbox) -> None:
    id_ = queue(reading, "ada")
    mailbox.then("answer", "451 4.3.0 Later")
    deliver(reading, mailbox.url)
    assert mails(reading)["ada"]["message_id"] == f"<{id_}@example.com>"
    deliver(reading, mailbox.url, NOW + 5 * MINUTE)
    assert mailbox.received[0].content["Message-ID"] == f"<{id_}@example.com>"


def test_the_waits_double_up_to_six_hours() -> None:
    waits = [wait_after(made) / MINUTE for made in range(1, 9)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 360]


def test_a_mail_that_is_put_off_too_often_has_failed(reading: Database, mailbox: Mailbox) -> None:
    queue(reading, "ada")
    mailbox.then("rcpt", "451 4.7.1 Greylisted", times=MOST_ATTEMPTS + 1)
    later = NOW
    for _ in range(MOST_ATTEMPTS + 2):
        deliver(reading, mailbox.url, later)
        later += timedelta(hours=7)
    row = mails(reading)["ada"]
    assert (row["state"], row["attempts"]) == ("failed", MOST_ATTEMPTS)
    assert len(mailbox.script["rcpt"]) == 1


@pytest.mark.parametrize("does", [HANG, DIE])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_dialogue_that_breaks_before_the_message_is_tried_again(
    reading: Database, mailbox: Mailbox, stage: Stage, does: str
) -> None:
    queue(reading, "ada")
    mailbox.then(stage, does)
    assert deliver(reading, mailbox.url, timeout_s=SOON) == Delivery(postponed=1)
    assert (states(reading), mailbox.received) == ({"ada": "pending"}, [])
    assert deliver(reading, mailbox.url, NOW + 5 * MINUTE) == Delivery(sent=1)
    assert mailbox.recipients() == ["ada@example.com"]


@pytest.mark.parametrize("does", [HANG, DIE])
@pytest.mark.parametrize("stage", ["content", "answer"])
def test_a_dialogue_that_breaks_after_the_message_was_handed_over_is_never_repeated(
    reading: Database, mailbox: Mailbox, stage: Stage, does: str
) -> None:
    queue(reading, "ada", next_attempt_at=NOW - MINUTE)
    queue(reading, "ben")
    mailbox.then(stage, does)
    assert deliver(reading, mailbox.url, timeout_s=SOON) == Delivery(sent=1, unknown=1)
    assert states(reading) == {"ada": "unknown", "ben": "sent"}
    for hours in (1, 24, 240):
        assert deliver(reading, mailbox.url, NOW + timedelta(hours=hours)) == Delivery()
    assert mailbox.recipients().count("ada@example.com") == (1 if stage == "answer" else 0)


@pytest.mark.parametrize("does", [HANG, DIE, "554 no service"])
def test_a_server_that_does_not_let_anybody_in_costs_no_mail_an_attempt(
    reading: Database, mailbox: Mailbox, does: str
) -> None:
    queue(reading, "ada")
    mailbox.then("greeting", does)
    delivery = deliver(reading, mailbox.url, timeout_s=SOON)
    assert delivery.trouble is not None and "cannot be reached" in delivery.trouble
    row = mails(reading)["ada"]
    assert (row["state"], row["attempts"], row["next_attempt_at"]) == ("pending", 0, NOW)
    assert deliver(reading, mailbox.url) == Delivery(sent=1)


def test_where_nobody_listens_nothing_is_lost(reading: Database) -> None:
    queue(reading, "ada")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        delivery = deliver(reading, f"smtp://127.0.0.1:{unused.getsockname()[1]}")
    assert delivery.trouble is not None
    assert states(reading) == {"ada": "pending"}


@pytest.mark.parametrize("stage", ["rcpt", "answer"])
def test_a_server_that_breaks_off_again_and_again_is_left_alone(
    reading: Database, mailbox: Mailbox, stage: Stage
) -> None:
    for number in range(6):
        queue(reading, f"r{number}")
    mailbox.then(stage, DIE, times=100)
    delivery = deliver(reading, mailbox.url)
    assert (delivery.postponed + delivery.unknown, delivery.sent) == (3, 0)
    assert delivery.trouble is not None and "3 dialogues" in delivery.trouble
    assert sorted(states(reading).values())[:3] == ["pending"] * 3


def test_a_server_that_hangs_up_between_two_mails_costs_neither_an_attempt(
    reading: Database, mailbox: Mailbox
) -> None:
    queue(reading, "ada", next_attempt_at=NOW - MINUTE)
    queue(reading, "ben")
    mailbox.then("answer", LEAVE)
    assert deliver(reading, mailbox.url) == Delivery(sent=2)
    assert mailbox.connections == 2
    assert {row["attempts"] for row in mails(reading).values()} == {1}


def test_a_server_that_says_goodbye_with_421_is_called_again(
    reading: Database, mailbox: Mailbox
) -> None:
    queue(reading, "ada", next_attempt_at=NOW - MINUTE)
    queue(reading, "ben")
    mailbox.then("mail", "421 4.3.2 Closing")
    assert deliver(reading, mailbox.url) == Delivery(sent=1, postponed=1)
    assert mailbox.connections == 2


@pytest.mark.parametrize(
    "address",
    ["", "nobody", "a@b@example.com", "ada@example.com\r\nRCPT TO:<eve@example.com>", "<a@b.c>"],
)
def test_what_is_no_address_fails_without_a_word_to_the_server(
    reading: Database, mailbox: Mailbox, address: str
) -> None:
    queue(reading, "ada", address or " ")
    assert deliver(reading, mailbox.url) == Delivery(failed=1)
    assert (mailbox.connections, states(reading)) == (0, {"ada": "failed"})


def test_an_address_outside_ascii_is_sent_to_where_the_server_can(
    reading: Database, mailbox: Mailbox
) -> None:
    queue(reading, "zoë", "zoë@example.com")
    assert deliver(reading, mailbox.url) == Delivery(sent=1)
    assert mailbox.recipients() == ["zoë@example.com"]
    mailbox.extensions.clear()
    queue(reading, "chloë", "chloë@example.com")
    assert deliver(reading, mailbox.url) == Delivery(failed=1)


def test_no_address_and_no_name_is_logged_or_kept(
    reading: Database, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, words in (("ada", "550 5.1.1 <ada@example.com> unknown to ada@example.com"),):
        queue(reading, name)
        mailbox.then("rcpt", words)
    queue(reading, "ben")
    deliver(reading, mailbox.url)
    kept = str([row for name, row in mails(reading).items()])
    for secret in ("@example.com>:", "ada@", "ben@", "Ada", "Ben"):
        assert secret not in caplog.text
        assert secret not in kept


def test_two_senders_at_once_send_each_mail_once(
    make_database: MakeDatabase, reading: Database, app_url: str, mailbox: Mailbox
) -> None:
    for number in range(40):
        queue(reading, f"r{number:02}")
    others = [make_database(app_url) for _ in range(3)]
    found: list[Delivery] = []
    threads = [
        threading.Thread(target=lambda d=other: found.append(deliver(d, mailbox.url)))
        for other in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(delivery.sent for delivery in found) == 40
    assert mailbox.recipients() == sorted(f"r{number:02}@example.com" for number in range(40))


def test_a_mail_that_somebody_else_holds_is_passed_over(
    reading: Database, app_url: str, mailbox: Mailbox
) -> None:
    queue(reading, "ada")
    queue(reading, "ben")
    with holding(app_url, "SELECT FROM maintenance.outbox WHERE subject = 'ada' FOR UPDATE"):
        assert deliver(reading, mailbox.url) == Delivery(sent=1)
    assert states(reading) == {"ada": "pending", "ben": "sent"}


def test_a_mail_whose_sender_died_is_given_up_after_a_while_and_not_sent(
    reading: Database, mailbox: Mailbox
) -> None:
    queue(reading, "ada", state="sending", attempts=1)
    update(reading, handed_over_at=sa.func.clock_timestamp() - timedelta(minutes=14))
    assert deliver(reading, mailbox.url) == Delivery()
    update(reading, handed_over_at=sa.func.clock_timestamp() - timedelta(minutes=16))
    assert deliver(reading, mailbox.url) == Delivery(unknown=1)
    assert (states(reading), mailbox.received) == ({"ada": "unknown"}, [])


CONTEXT = multiprocessing.get_context("forkserver")


def _send(url: str, mail_url: str) -> None:
    deliver(Database.connect(url, "WORKER_URL"), mail_url, timeout_s=30)


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "content", "answer"])
def test_a_sender_that_is_killed_at_any_moment_sends_nothing_twice(
    reading: Database, app_url: str, mailbox: Mailbox, stage: Stage
) -> None:
    queue(reading, "ada")
    mailbox.then(stage, HANG)
    worker = CONTEXT.Process(target=_send, args=(app_url, mailbox.url), daemon=True)
    worker.start()
    assert mailbox.reached.wait(30)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    handed_over = stage in ("content", "answer")
    assert states(reading) == {"ada": "sending" if handed_over else "pending"}
    deliver(reading, mailbox.url)
    if handed_over:
        assert states(reading) == {"ada": "sending"}
        assert len(mailbox.received) == (1 if stage == "answer" else 0)
    else:
        assert states(reading) == {"ada": "sent"}
        assert len(mailbox.received) == 1


def test_a_database_that_goes_away_after_the_claim_leaves_nothing_handed_over(
    reading: Database, mailbox: Mailbox
) -> None:
    """The server is ready for the message, and then `sending` cannot be committed."""
    queue(reading, "ada")
    mailbox.then("data", HOLD)

    def end_every_session() -> None:
        assert mailbox.reached.wait(30)
        terminate(reading)
        mailbox.go.set()

    thread = threading.Thread(target=end_every_session)
    thread.start()
    with pytest.raises(sa.exc.DBAPIError):
        deliver(reading, mailbox.url)
    thread.join()
    assert (states(reading), mailbox.received) == ({"ada": "pending"}, [])
