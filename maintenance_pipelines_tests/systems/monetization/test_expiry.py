"""tier_expiration: who expires and who does not, beside the app, and back again."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.expiry import expired, tier_expiration
from maintenance_pipelines.systems.monetization.schema import promo_redemptions, users
from maintenance_pipelines_tests.engine.sessions import holding
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import NOW

MICROSECOND, DAY = timedelta(microseconds=1), timedelta(days=1)
PAST, FUTURE = NOW - DAY, NOW + DAY


def tier(database: Database, id_: object) -> tuple[object, ...]:
    row = people.row(database, users, id_)
    return row["tier"], row["tier_source"], row["tier_expires_at"]


FREE = ("free", "default", None)


def test_an_expired_tier_is_free_again_by_default_and_without_an_end(app: Database) -> None:
    one = people.paying(app, PAST)
    verification = working.carry_out(tier_expiration, app)
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (1, 0, 0, 0))
    assert tier(app, one) == FREE
    assert people.row(app, users, one)["updated_at"] == NOW


@pytest.mark.parametrize(
    ("expires", "is_due"),
    [(NOW, False), (NOW - MICROSECOND, True), (NOW + MICROSECOND, False), (None, False)],
)
def test_a_tier_is_in_force_up_to_and_at_the_very_instant_of_its_expiry(
    app: Database, expires: datetime | None, is_due: bool
) -> None:
    people.paying(app, expires)
    for zone in ("UTC", "America/New_York", "Asia/Kathmandu"):
        with people.session(app, zone) as connection:
            assert len(connection.execute(expired(people.scope_of(), None)).all()) == is_due


@pytest.mark.parametrize("kept", ["timestamptz", "timestamptz(3)"])
def test_now_is_known_to_the_microsecond_whatever_the_columns_keep(
    app: Database, kept: str
) -> None:
    people.write(app, sa.text(f"ALTER TABLE users ALTER updated_at TYPE {kept}"))
    due, still = people.paying(app, NOW), people.paying(app, NOW + MICROSECOND)
    verification = working.carry_out(tier_expiration, app, people.scope_of(NOW + MICROSECOND))
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (1, 0, 0, 0))
    assert tier(app, due) == FREE
    assert tier(app, still) != FREE


def test_a_free_tier_with_an_expiry_is_left_as_it_is_and_warned_of(app: Database) -> None:
    odd = people.user(app, tier_expires_at=PAST)
    alien = people.user(app, tier_source="promo")
    people.paying(app, PAST)
    before = people.row(app, users, odd)
    verification = working.carry_out(tier_expiration, app)
    assert people.row(app, users, odd) == before
    assert set(working.warnings(verification)["free_tier_without_remains"]) == {
        str(odd),
        str(alien),
    }
    assert verification.run.state == "verified"


def test_nobody_else_is_touched(app: Database) -> None:
    others = [
        people.user(app),
        people.paying(app, FUTURE),
        people.paying(app, None),
        people.on_trial(app, FUTURE),
    ]
    people.paying(app, PAST)
    before = [people.row(app, users, other) for other in others]
    working.carry_out(tier_expiration, app)
    assert [people.row(app, users, other) for other in others] == before


def test_a_second_run_finds_nothing_to_do(app: Database) -> None:
    people.paying(app, PAST)
    working.carry_out(tier_expiration, app)
    again = working.plan(tier_expiration, app)
    assert (again.state, again.planned) == ("verified", 0)


def test_who_renews_between_detection_and_the_write_keeps_the_tier(app: Database) -> None:
    renews, goes, upgraded = (people.paying(app, PAST) for _ in range(3))
    run = working.plan(tier_expiration, app)
    people.change(app, users, renews, tier_expires_at=FUTURE)
    people.change(app, users, upgraded, tier="premium_plus", tier_expires_at=None)
    verification = working.finish(tier_expiration, app, run)
    assert working.counts(verification.run) == (1, 0, 2, 0)
    assert verification.run.state == "verified"
    assert tier(app, renews) == ("premium", "subscription", FUTURE)
    assert tier(app, upgraded) == ("premium_plus", "subscription", None)
    assert tier(app, goes) == FREE


def test_who_is_renewing_at_the_very_moment_of_the_write_keeps_the_tier(
    app: Database, app_url: str
) -> None:
    """The app's transaction holds the row, and commits while the job waits for it."""
    renews, goes = (people.paying(app, PAST) for _ in range(2))
    run = working.plan(tier_expiration, app)
    theirs = f"UPDATE users SET tier_expires_at = now() + interval '9 years' WHERE id = '{renews}'"
    with holding(app_url, theirs) as connection:
        later = threading.Timer(0.3, connection.commit)
        later.start()
        run = working.finish(tier_expiration, app, run).run
        later.join()
    assert working.counts(run) == (1, 0, 1, 0)
    assert tier(app, renews)[0] == "premium"
    assert tier(app, goes) == FREE


def test_who_is_deleted_between_detection_and_the_write_is_a_conflict(app: Database) -> None:
    gone = people.paying(app, PAST)
    run = working.plan(tier_expiration, app)
    people.write(app, users.delete().where(users.c.id == gone))
    verification = working.finish(tier_expiration, app, run)
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (0, 0, 1, 0))


def test_who_changes_a_name_meanwhile_expires_all_the_same(app: Database) -> None:
    one = people.paying(app, PAST)
    run = working.plan(tier_expiration, app)
    later = NOW + timedelta(minutes=1)
    people.change(app, users, one, name="New Name", updated_at=later)
    run = working.finish(tier_expiration, app, run).run
    assert (tier(app, one), people.row(app, users, one)["name"]) == (FREE, "New Name")
    working.take_back(tier_expiration, app, run)
    assert people.row(app, users, one)["updated_at"] == later


def test_a_rollback_restores_every_row_exactly(app: Database) -> None:
    for expires in (PAST, PAST - MICROSECOND, NOW - MICROSECOND, FUTURE, None):
        people.paying(app, expires)
    people.on_trial(app, PAST, updated_at=PAST + MICROSECOND)
    before = people.rows(app, users)
    run = working.carry_out(tier_expiration, app).run
    assert people.rows(app, users) != before
    undo = working.take_back(tier_expiration, app, run)
    assert undo.run.state == "verified"
    assert people.rows(app, users) == before


def test_a_rollback_leaves_whom_the_app_has_given_a_tier_since(app: Database) -> None:
    bought, idle, renamed = (people.paying(app, PAST) for _ in range(3))
    before = people.row(app, users, idle)
    run = working.carry_out(tier_expiration, app).run
    people.change(app, users, bought, tier="premium_plus", tier_expires_at=FUTURE)
    people.change(app, users, renamed, name="New Name", updated_at=FUTURE)
    theirs = people.row(app, users, bought)
    undo = working.take_back(tier_expiration, app, run)
    assert working.left_alone(tier_expiration, app, undo.run) == {str(bought): "touched"}
    assert people.row(app, users, bought) == theirs
    assert people.row(app, users, idle) == before
    assert tier(app, renamed) == ("premium", "subscription", PAST)
    assert people.row(app, users, renamed)["updated_at"] == FUTURE


def test_who_has_another_grant_in_force_is_downgraded_and_listed(app: Database) -> None:
    promo, trial, plain, over = (people.paying(app, PAST) for _ in range(4))
    code = people.code(app)
    people.redemption(app, code, promo, PAST, applied_until=NOW)
    people.redemption(app, code, over, PAST, applied_until=NOW - MICROSECOND)
    people.change(app, users, trial, trial_ends_at=FUTURE)
    verification = working.carry_out(tier_expiration, app)
    assert set(working.warnings(verification)["no_other_grant_in_force"]) == {
        str(promo),
        str(trial),
    }
    assert [tier(app, one) for one in (promo, trial, plain, over)] == [FREE] * 4
    assert len(people.rows(app, promo_redemptions)) == 2


def test_a_tier_from_an_override_is_odd_only_while_none_is_in_force(app: Database) -> None:
    people.paying(app, PAST)
    one = people.paying(app, None, tier_source="global_override")
    name = "override_tier_while_override"
    assert working.warnings(working.carry_out(tier_expiration, app))[name] == (str(one),)
    people.override(app, f'{{"tier": "premium", "expires_at": "{NOW.isoformat()}"}}')
    people.paying(app, PAST)
    assert name not in working.warnings(working.carry_out(tier_expiration, app))


def test_a_failing_user_does_not_stop_the_others(app: Database) -> None:
    """One row that the database refuses to change: recorded, and the rest go on."""
    bad, *good = [people.paying(app, PAST) for _ in range(20)]
    people.write(
        app,
        f"ALTER TABLE users ADD CONSTRAINT stays CHECK (id <> '{bad}' OR tier <> 'free')",
    )
    verification = working.carry_out(tier_expiration, app)
    assert (verification.run.state, working.counts(verification.run)) == ("partial", (19, 0, 0, 1))
    assert {tier(app, one) for one in good} == {FREE}
    assert tier(app, bad)[0] == "premium"


def test_no_mail_about_it_is_put_into_the_outbox_unless_it_is_wanted(app: Database) -> None:
    people.paying(app, PAST)
    working.carry_out(tier_expiration, app)
    assert people.rows(app, ledger.outbox) == []
    one = people.paying(app, PAST)
    working.carry_out(tier_expiration, app, people.scope_of(mail_expired_tiers=True))
    (mail,) = people.rows(app, ledger.outbox)
    assert (mail["kind"], mail["subject"], mail["deadline"]) == ("tier_expired", str(one), PAST)


def test_a_rollback_is_not_held_up_by_mails_that_have_been_sent(app: Database) -> None:
    one = people.paying(app, PAST)
    scope = people.scope_of(mail_expired_tiers=True)
    run = working.carry_out(tier_expiration, app, scope).run
    people.write(app, ledger.outbox.update().values(state="sent"))
    working.take_back(tier_expiration, app, run)
    assert tier(app, one) == ("premium", "subscription", PAST)
    # Nobody is told of the same expiry twice.
    assert working.carry_out(tier_expiration, app, scope).run.applied == 1
    assert len(people.rows(app, ledger.outbox)) == 1
