"""Alerts, from the book to real webhooks and mailboxes: told once, told of changes, never lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alert_delivery import (
    LONGEST_PAUSE,
    Delivered,
    deliver,
    pending,
    try_out,
)
from maintenance_pipelines.operations.alert_routes import Channel, Routes
from maintenance_pipelines.operations.alerts import Alert, Severity, scrub
from maintenance_pipelines.settings import Settings
from maintenance_pipelines_tests.support.channels import Hook, Mailbox, mailbox, webhook

NOW = datetime(2025, 9, 1, 0, 45, tzinfo=UTC)

PARTIAL = Alert(
    cause="ledger/benefits/benefit_status_backfill/2025-08",
    severity=Severity.ERROR,
    system="benefits",
    title="benefit_status_backfill 2025-08 is partial",
    happened="3 of 1,200 rows failed.",
    written="1,197 of 1,200 planned rows were written; 3 failed and were not.",
    run="0123456789abcdef",
    next_step="./maintenance resume 01234567",
    changes="partial 3",
)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(app_database: Database) -> Database:
    alert_book.prepare(app_database)
    return app_database


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as running:
        yield running


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as running:
        yield running


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Routes]:
    def read(**variables: str) -> Routes:
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        return Routes.load(Settings.load(), ["benefits", "credits"])

    return read


def enter(storage: Database, alert: Alert, now: datetime = NOW) -> bool:
    with storage.transaction() as connection:
        return alert_book.raise_(connection, alert, now)


def passes(storage: Database, alert: Alert, now: datetime = NOW) -> bool:
    with storage.transaction() as connection:
        return alert_book.recover(connection, alert.cause, now, "run 01234567 is verified")


def test_an_alert_arrives_by_http_and_by_mail_with_all_that_one_has_to_know(
    storage: Database, hook: Hook, box: Mailbox, routes: Callable[..., Routes], clock: Clock
) -> None:
    enter(storage, PARTIAL)
    both = routes(MAINTENANCE_ALERTS=f"{hook.address} {box.address}")
    assert deliver(storage, both, clock) == Delivered(told=2)
    (posted,), (mailed,) = hook.received, box.received
    assert posted["title"] == mailed["subject"]
    assert posted["title"] == "ERROR benefits: benefit_status_backfill 2025-08 is partial"
    text = mailed.get_body(("plain", "html"))
    assert text is not None
    for body in (posted["message"], text.get_content()):
        for part in ("3 of 1,200 rows failed", "1,197 of 1,200", "0123456789abcdef", "resume"):
            assert part in body
    assert pending(storage) == []


def test_one_cause_is_told_once_until_it_changes_and_its_end_is_announced(
    storage: Database, hook: Hook, routes: Callable[..., Routes], clock: Clock
) -> None:
    to_hook = routes(MAINTENANCE_ALERTS=hook.address)
    for _ in range(5):
        enter(storage, PARTIAL)
        deliver(storage, to_hook, clock)
    assert len(hook.received) == 1
    enter(storage, replace(PARTIAL, happened="4 rows failed.", changes="partial 4"))
    deliver(storage, to_hook, clock)
    assert len(hook.received) == 2
    assert passes(storage, PARTIAL)
    assert not passes(storage, PARTIAL)
    deliver(storage, to_hook, clock)
    assert hook.titles[-1].startswith("RECOVERED benefits: benefit_status_backfill 2025-08")
    enter(storage, PARTIAL)
    deliver(storage, to_hook, clock)
    assert len(hook.received) == 4


def test_what_cannot_pass_is_told_once_and_is_never_over(storage: Database) -> None:
    note = replace(PARTIAL, cause="completed/1", lasting=False)
    assert enter(storage, note)
    assert not enter(storage, note)
    assert not passes(storage, note)
    with storage.transaction() as connection:
        assert alert_book.open_causes(connection) == []


def test_what_is_not_seen_any_more_in_a_domain_has_passed_and_the_undecided_stays(
    storage: Database,
) -> None:
    july, august = (replace(PARTIAL, cause=f"ledger/benefits/job/2025-0{n}") for n in (7, 8))
    other = replace(PARTIAL, cause="ledger/credits/job/2025-08", system="credits")
    for alert in (july, august, other):
        enter(storage, alert)
    with storage.transaction() as connection:
        alert_book.reconcile(connection, "ledger/benefits/", [], NOW, {july.cause})
        assert [each.key for each in alert_book.open_causes(connection)] == [
            july.cause,
            other.cause,
        ]


def test_the_most_specific_setting_decides_and_none_keeps_silent(
    routes: Callable[..., Routes],
) -> None:
    chosen = routes(
        MAINTENANCE_ALERTS="json://127.0.0.1/all",
        MAINTENANCE_ALERTS_NOTES="none",
        BENEFITS_ALERTS="json://127.0.0.1/benefits",
        BENEFITS_ALERTS_ERRORS="json://127.0.0.1/night json://127.0.0.1/day",
    )

    def places(system: str, severity: Severity) -> list[str]:
        return [each.address.rsplit("/", 1)[1] for each in chosen.of(system, severity)]

    assert places("benefits", Severity.ERROR) == ["night", "day"]
    assert places("benefits", Severity.WARNING) == ["benefits"]
    assert places("benefits", Severity.NOTE) == ["benefits"]
    assert places("credits", Severity.ERROR) == ["all"]
    assert places("credits", Severity.NOTE) == []
    assert places("maintenance", Severity.ERROR) == ["all"]


def test_an_address_that_apprise_does_not_know_is_refused_without_showing_it(
    routes: Callable[..., Routes],
) -> None:
    with pytest.raises(Misconfigured) as refused:
        routes(BENEFITS_ALERTS="json://127.0.0.1/a slakc://s3cr3t")
    assert "BENEFITS_ALERTS: its address number 2" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize("outage", ["down", "refuses"])
def test_a_channel_that_is_down_loses_nothing_and_is_tried_ever_less_often(
    storage: Database,
    hook: Hook,
    box: Mailbox,
    routes: Callable[..., Routes],
    clock: Clock,
    outage: str,
) -> None:
    both = routes(MAINTENANCE_ALERTS=f"{hook.address} {box.address}")
    if outage == "down":
        hook.stop()
    else:
        hook.status = 503
    enter(storage, PARTIAL)
    came = deliver(storage, both, clock)
    assert (came.told, came.failed) == (1, 1), "the other channel is told all the same"
    (waiting,) = pending(storage)
    reason = "it could not be reached" if outage == "down" else "it answered 503"
    assert (waiting.service, waiting.attempts, waiting.error) == ("JSON", 1, reason)

    pauses = []
    for _ in range(9):
        before = clock.now
        assert deliver(storage, both, clock) == Delivered(), "not before its time"
        (waiting,) = pending(storage)
        clock.now = waiting.next_attempt_at
        assert deliver(storage, both, clock).failed == 1
        pauses.append(clock.now - before)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE

    hook.status = 200
    if outage == "down":
        hook.start()
    clock.now += LONGEST_PAUSE
    assert deliver(storage, both, clock).told == 1
    assert len(hook.received) == 1
    assert len(box.received) == 1
    assert pending(storage) == []


def test_what_piled_up_about_one_cause_is_told_in_one_message(
    storage: Database, hook: Hook, routes: Callable[..., Routes], clock: Clock
) -> None:
    to_hook = routes(MAINTENANCE_ALERTS=hook.address)
    hook.status = 500
    for minute in range(0, 30, 10):
        at = NOW + timedelta(minutes=minute)
        enter(storage, PARTIAL, at)
        passes(storage, PARTIAL, at + timedelta(minutes=5))
    deliver(storage, to_hook, clock)
    hook.status = 200
    clock.now += timedelta(hours=1)
    assert deliver(storage, to_hook, clock).told == 6
    (told,) = hook.received
    assert told["title"].startswith("RECOVERED")
    assert told["message"].count("ERROR benefits") == 3
    assert "2025-09-01 00:45 UTC: ERROR" in told["message"]


def test_a_dead_channel_does_not_keep_other_causes_or_channels_waiting(
    storage: Database, hook: Hook, box: Mailbox, routes: Callable[..., Routes], clock: Clock
) -> None:
    both = routes(MAINTENANCE_ALERTS=f"{hook.address} {box.address}")
    hook.stop()
    for number in range(5):
        enter(storage, replace(PARTIAL, cause=f"c/{number}"))
    came = deliver(storage, both, clock)
    assert (came.told, came.failed) == (5, 1), "one attempt on the dead channel and pass"
    assert len(box.received) == 5


def test_a_process_that_dies_while_sending_sends_again(
    storage: Database, hook: Hook, routes: Callable[..., Routes], clock: Clock
) -> None:
    to_hook = routes(MAINTENANCE_ALERTS=hook.address)
    enter(storage, PARTIAL)

    def dies(channel: Channel, subject: str, body: str, event: str) -> str | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver(storage, to_hook, clock, dies)
    assert deliver(storage, to_hook, clock).told == 1
    assert len(hook.received) == 1


def test_several_that_deliver_at_once_tell_each_alert_once(
    storage: Database, hook: Hook, routes: Callable[..., Routes], clock: Clock
) -> None:
    to_hook = routes(MAINTENANCE_ALERTS=hook.address)
    for number in range(12):
        enter(storage, replace(PARTIAL, cause=f"c/{number}", title=f"job {number}"))
    with ThreadPoolExecutor(3) as pool:
        told = [*pool.map(lambda _: deliver(storage, to_hook, clock).told, range(3))]
    assert sum(told) == 12
    assert len(set(hook.titles)) == len(hook.titles) == 12


def test_without_a_channel_it_waits_and_is_told_when_there_is_one(
    storage: Database, hook: Hook, routes: Callable[..., Routes], clock: Clock
) -> None:
    over = replace(PARTIAL, cause="over")
    enter(storage, PARTIAL)
    enter(storage, over)
    passes(storage, over)
    assert deliver(storage, routes(), clock) == Delivered(nowhere=3)
    clock.now += timedelta(days=2)
    assert deliver(storage, routes(), clock) == Delivered(nowhere=1)
    assert deliver(storage, routes(MAINTENANCE_ALERTS=hook.address), clock).told == 1
    assert hook.titles == [PARTIAL.subject], "what has long been over is not told any more"


def test_a_channel_that_was_replaced_hands_over_what_it_was_not_told(
    storage: Database, hook: Hook, box: Mailbox, routes: Callable[..., Routes], clock: Clock
) -> None:
    hook.stop()
    enter(storage, PARTIAL)
    assert deliver(storage, routes(MAINTENANCE_ALERTS=hook.address), clock).failed == 1
    assert deliver(storage, routes(MAINTENANCE_ALERTS=box.address), clock).told == 1
    assert pending(storage) == []


def test_the_test_tries_every_channel_and_says_which_did_not_answer(
    hook: Hook, box: Mailbox, routes: Callable[..., Routes]
) -> None:
    both = routes(MAINTENANCE_ALERTS=box.address, CREDITS_ALERTS_ERRORS=hook.address)
    hook.status = 404
    came = {channel.service: problem for channel, problem in try_out(both).items()}
    assert came == {"E-Mail": None, "JSON": "it answered 404"}
    assert box.received[0]["subject"].startswith("TEST")


def test_nothing_secret_or_personal_is_in_an_alert_the_book_or_a_log(
    storage: Database,
    hook: Hook,
    routes: Callable[..., Routes],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    leaks = (
        "could not connect to postgresql://app:hunter2@db.example.com:5432/app for "
        "ada.lovelace@example.com with password=hunter2, api_key: k3y and "
        "https://hooks.example.com/services/T0/B0/tok3n"
    )
    leaky = replace(PARTIAL, title=leaks, happened=leaks, written=leaks, next_step=leaks, run=leaks)
    secrets = ("hunter2", "ada.lovelace", "example.com", "k3y", "tok3n", "s3cr3t-t0ken")
    caplog.set_level(logging.DEBUG)
    enter(storage, leaky)
    hook.status = 500
    to_hook = routes(MAINTENANCE_ALERTS=hook.address)
    deliver(storage, to_hook, clock)
    with storage.transaction() as connection:
        written = [str(row) for table in alert_book.metadata.sorted_tables
                   for row in connection.execute(table.select())]  # fmt: skip
    assert written
    hook.status = 200
    clock.now += LONGEST_PAUSE
    passes(storage, leaky)
    deliver(storage, to_hook, clock)
    everything = [*written, str(hook.received), repr(to_hook), caplog.text, str(pending(storage))]
    for secret in secrets:
        assert not any(secret in text for text in everything), secret


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mail to ada@example.com bounced", "mail to <e-mail> bounced"),
        ("slack://a/b/c did not answer", "<address> did not answer"),
        ("DB_PASSWORD=x and Token: y", "DB_PASSWORD=<hidden> and Token: <hidden>"),
        ("1,200 rows of run 0123abcd", "1,200 rows of run 0123abcd"),
    ],
)
def test_scrubbing_takes_what_is_secret_and_leaves_the_rest(text: str, left: str) -> None:
    assert scrub(text) == left


def test_the_book_forgets_what_was_delivered_long_ago_and_nothing_else(
    storage: Database, hook: Hook, routes: Callable[..., Routes], clock: Clock
) -> None:
    to_hook = routes(MAINTENANCE_ALERTS=hook.address)
    enter(storage, PARTIAL)
    deliver(storage, to_hook, clock)
    hook.status = 500
    enter(storage, replace(PARTIAL, cause="untold"))
    deliver(storage, to_hook, clock)
    with storage.transaction() as connection:
        alert_book.prune(connection, NOW + alert_book.KEPT + timedelta(days=1))
        assert len(connection.execute(alert_book.message.select()).all()) == 1
        assert len(alert_book.open_causes(connection)) == 2
    assert [each.cause for each in pending(storage)] == ["untold"]
