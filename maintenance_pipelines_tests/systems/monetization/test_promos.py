"""promo_cleanup: codes that end, redemptions that age; beside the app, and back again."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.promos import (
    expired_codes,
    old_redemptions,
    promo_cleanup,
)
from maintenance_pipelines.systems.monetization.schema import promo_codes, promo_redemptions
from maintenance_pipelines_tests.engine.sessions import holding, meanwhile, waits_for_a_lock
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import NOW

MICROSECOND, DAY = timedelta(microseconds=1), timedelta(days=1)
PAST, FUTURE = NOW - DAY, NOW + DAY
OLD = NOW - 366 * DAY
OVER = {"is_active": False}
ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe")


def is_active(database: Database, id_: object) -> bool:
    return bool(people.row(database, promo_codes, id_)["is_active"])


def redemptions(database: Database) -> set[Any]:
    return {row["id"] for row in people.rows(database, promo_redemptions)}


@pytest.mark.parametrize(
    ("until", "is_due"),
    [(NOW, False), (NOW - MICROSECOND, True), (NOW + MICROSECOND, False), (None, False)],
)
def test_a_code_is_valid_up_to_and_at_the_very_instant_of_its_end(
    app: Database, until: object, is_due: bool
) -> None:
    people.code(app, valid_until=until)
    for zone in ZONES:
        with people.session(app, zone) as connection:
            assert len(connection.execute(expired_codes(people.scope_of(), None)).all()) == is_due


def test_expired_active_codes_are_deactivated_and_others_left(app: Database) -> None:
    due = people.code(app, valid_until=PAST)
    others = [
        people.code(app),
        people.code(app, valid_until=FUTURE),
        people.code(app, valid_until=PAST, is_active=False),
    ]
    before = [people.row(app, promo_codes, other) for other in others]
    verification = working.carry_out(promo_cleanup, app)
    assert (verification.run.state, verification.run.applied) == ("verified", 1)
    assert not is_active(app, due)
    assert [people.row(app, promo_codes, other) for other in others] == before


@pytest.mark.parametrize(
    ("age", "is_due"),
    [
        (timedelta(days=365), False),
        (timedelta(days=365) + MICROSECOND, True),
        (timedelta(days=365) - MICROSECOND, False),
        (timedelta(), False),
    ],
)
def test_a_redemption_of_exactly_365_days_is_not_yet_older_than_that(
    app: Database, age: timedelta, is_due: bool
) -> None:
    people.redemption(app, people.code(app, **OVER), people.user(app), NOW - age)
    for zone in ZONES:
        with people.session(app, zone) as connection:
            found = connection.execute(old_redemptions(people.scope_of(), None)).all()
            assert len(found) == is_due


def test_old_redemptions_go_and_young_ones_stay(app: Database) -> None:
    code, one = people.code(app, **OVER), people.user(app)
    people.redemption(app, code, one, OLD)
    young = people.redemption(app, code, one, PAST)
    assert working.carry_out(promo_cleanup, app).run.applied == 1
    assert redemptions(app) == {young}


REDEEMABLE: list[dict[str, Any]] = [
    {},
    {"valid_until": NOW},
    {"valid_until": FUTURE, "max_uses": 5, "current_uses": 4},
    {"valid_from": FUTURE},
    {"max_uses_per_user": 3},
]
NOT_REDEEMABLE: list[dict[str, Any]] = [
    OVER,
    {"valid_until": NOW - MICROSECOND},
    {"max_uses": 5, "current_uses": 5},
    {"max_uses": 5, "current_uses": 6},
    {"max_uses_per_user": None},
]


@pytest.mark.parametrize("code", REDEEMABLE)
def test_a_redemption_of_a_code_that_could_be_redeemed_again_is_kept(
    app: Database, code: dict[str, Any]
) -> None:
    people.redemption(app, people.code(app, **code), people.user(app), OLD)
    assert working.plan(promo_cleanup, app).excluded == {"code_still_redeemable": 1}


@pytest.mark.parametrize("code", NOT_REDEEMABLE)
def test_a_redemption_of_a_code_that_nobody_can_redeem_again_goes(
    app: Database, code: dict[str, Any]
) -> None:
    people.redemption(app, people.code(app, **code), people.user(app), OLD)
    working.carry_out(promo_cleanup, app)
    assert redemptions(app) == set()


@pytest.mark.parametrize(
    ("until", "stays"),
    [(None, False), (NOW - MICROSECOND, False), (NOW, True), (FUTURE, True)],
)
def test_a_redemption_whose_grant_still_runs_is_kept(
    app: Database, until: object, stays: bool
) -> None:
    people.redemption(app, people.code(app, **OVER), people.user(app), OLD, applied_until=until)
    run = working.carry_out(promo_cleanup, app).run
    assert run.excluded == ({"grant_still_running": 1} if stays else {})
    assert len(redemptions(app)) == stays


def test_by_age_alone_both_go_where_the_setting_says_so(app: Database) -> None:
    one = people.user(app)
    people.redemption(app, people.code(app), one, OLD)
    people.redemption(app, people.code(app, **OVER), one, OLD, applied_until=FUTURE)
    working.carry_out(promo_cleanup, app, people.scope_of(retention_only=True))
    assert redemptions(app) == set()


def test_the_retention_is_a_setting(app: Database) -> None:
    code, one = people.code(app, **OVER), people.user(app)
    people.redemption(app, code, one, NOW - 31 * DAY)
    young = people.redemption(app, code, one, NOW - 30 * DAY)
    working.carry_out(promo_cleanup, app, people.scope_of(retention_days=30))
    assert redemptions(app) == {young}


def test_a_code_that_is_extended_between_detection_and_the_write_stays_active(
    app: Database,
) -> None:
    extended, gone, due = (people.code(app, valid_until=PAST) for _ in range(3))
    run = working.plan(promo_cleanup, app)
    people.change(app, promo_codes, extended, valid_until=FUTURE)
    people.write(app, promo_codes.delete().where(promo_codes.c.id == gone))
    verification = working.finish(promo_cleanup, app, run)
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (1, 0, 2, 0))
    assert is_active(app, extended) and not is_active(app, due)


def test_what_changes_about_a_redemption_between_detection_and_the_delete_saves_it(
    app: Database,
) -> None:
    code, again, one = people.code(app, **OVER), people.code(app, **OVER), people.user(app)
    extended, gone, due = (people.redemption(app, code, one, OLD) for _ in range(3))
    rearmed = people.redemption(app, again, one, OLD)
    run = working.plan(promo_cleanup, app)
    people.change(app, promo_redemptions, extended, applied_until=FUTURE)
    people.change(app, promo_codes, again, is_active=True)
    people.write(app, promo_redemptions.delete().where(promo_redemptions.c.id == gone))
    made = people.redemption(app, code, one, NOW)
    verification = working.finish(promo_cleanup, app, run)
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (1, 0, 3, 0))
    assert redemptions(app) == {extended, rearmed, made}
    assert due not in redemptions(app)


def test_a_code_that_is_being_extended_saves_its_redemptions(app: Database) -> None:
    code, one = people.code(app, **OVER), people.user(app)
    kept = people.redemption(app, code, one, OLD)
    run = working.plan(promo_cleanup, app)
    url = app.engine.url.render_as_string(hide_password=False)
    with holding(url, "UPDATE promo_codes SET is_active = true") as extending:

        def commit(over: threading.Event) -> None:
            while not waits_for_a_lock(app) and not over.is_set():
                over.wait(0.01)
            extending.commit()

        with meanwhile(commit):
            verification = working.finish(promo_cleanup, app, run)
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (0, 0, 1, 0))
    assert redemptions(app) == {kept}


def test_a_rollback_restores_codes_and_redemptions_exactly(app: Database) -> None:
    one = people.user(app)
    code = people.code(app, valid_until=PAST, max_uses=5, created_by=one)
    old = {"applied_until": PAST, "tier_granted": "premium"}
    for values in ({}, old):
        people.redemption(app, code, one, OLD - MICROSECOND, **values)
    before = people.rows(app, promo_codes), people.rows(app, promo_redemptions)
    run = working.carry_out(promo_cleanup, app).run
    assert run.applied == 3
    assert working.take_back(promo_cleanup, app, run).run.state == "verified"
    assert (people.rows(app, promo_codes), people.rows(app, promo_redemptions)) == before


def test_a_rollback_lists_a_redemption_whose_user_has_gone(app: Database) -> None:
    code, leaves, stays = people.code(app, **OVER), people.user(app), people.user(app)
    orphan, kept = (people.redemption(app, code, by, OLD) for by in (leaves, stays))
    run = working.carry_out(promo_cleanup, app).run
    people.write(app, "DELETE FROM users WHERE id = :id", id=leaves)
    undo = working.take_back(promo_cleanup, app, run)
    assert working.left_alone(promo_cleanup, app, undo.run) == {str(orphan): "parent_gone"}
    assert redemptions(app) == {kept}


def test_a_rollback_leaves_a_code_that_somebody_has_activated_again(app: Database) -> None:
    code = people.code(app, valid_until=PAST)
    run = working.carry_out(promo_cleanup, app).run
    people.change(app, promo_codes, code, is_active=True, valid_until=FUTURE)
    undo = working.take_back(promo_cleanup, app, run)
    assert working.left_alone(promo_cleanup, app, undo.run) == {str(code): "touched"}


def test_a_second_run_finds_nothing_to_do(app: Database) -> None:
    people.redemption(app, people.code(app, valid_until=PAST), people.user(app), OLD)
    assert working.carry_out(promo_cleanup, app).run.applied == 2
    assert working.plan(promo_cleanup, app).planned == 0


def test_codes_that_are_used_up_or_redeemed_too_often_are_warned_of(app: Database) -> None:
    one = people.user(app)
    used_up = people.code(app, max_uses=1, current_uses=1)
    too_often = people.code(app, max_uses=1, is_active=False)
    for _ in range(2):
        people.redemption(app, too_often, one, PAST)
    people.code(app, valid_until=PAST)
    verification = working.carry_out(promo_cleanup, app)
    assert working.warnings(verification) == {
        "active_code_has_uses_left": (str(used_up),),
        "redemptions_within_uses": (str(too_often),),
    }
    assert verification.run.state == "verified"


def test_every_old_redemption_is_deleted_or_counted_by_a_reason(app: Database) -> None:
    one = people.user(app)
    for values in (*REDEEMABLE, *NOT_REDEEMABLE):
        for until in (None, PAST, FUTURE):
            people.redemption(app, people.code(app, **values), one, OLD, applied_until=until)
    with people.session(app) as connection:
        found = connection.execute(old_redemptions(people.scope_of(), None)).all()
    assert Counter(row.reason for row in found) == {
        "grant_still_running": 10,
        "code_still_redeemable": 10,
        None: 10,
    }
