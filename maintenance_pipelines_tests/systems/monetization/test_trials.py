"""trial_reminder: one reminder for each stage and end of a trial, in the outbox and no further."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.schema import users
from maintenance_pipelines.systems.monetization.trials import trial_reminder as job
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import NOW

MICROSECOND, DAY, HOUR = timedelta(microseconds=1), timedelta(days=1), timedelta(hours=1)


def stages(database: Database) -> list[tuple[str, str, datetime]]:
    found = people.rows(database, ledger.outbox)
    return sorted((row["subject"], row["stage"], row["deadline"]) for row in found)


@pytest.mark.parametrize(
    ("left", "stage"),
    [
        (3 * DAY + MICROSECOND, None),
        (3 * DAY, "three_days"),
        (DAY + MICROSECOND, "three_days"),
        (DAY, "one_day"),
        (MICROSECOND, "one_day"),
        (timedelta(), None),
        (-MICROSECOND, None),
    ],
)
def test_a_trial_is_in_the_stage_that_its_remaining_time_says(
    app: Database, left: timedelta, stage: str | None
) -> None:
    one = people.on_trial(app, NOW + left)
    assert working.carry_out(job, app).run.state == "verified"
    assert stages(app) == ([(str(one), stage, NOW + left)] if stage else [])


def test_who_is_on_no_trial_is_not_reminded(app: Database) -> None:
    people.on_trial(app, None)
    people.paying(app, NOW + DAY, trial_ends_at=NOW + DAY)
    people.user(app, trial_ends_at=NOW + DAY)
    assert working.plan(job, app).planned == 0


def test_a_second_run_adds_nothing(app: Database) -> None:
    people.on_trial(app, NOW + DAY)
    working.carry_out(job, app)
    again = working.plan(job, app, people.scope_of(NOW + HOUR))
    assert (again.planned, again.excluded) == (0, {"already_told": 1})
    assert len(stages(app)) == 1


def test_day_after_day_everybody_gets_one_reminder_for_each_stage(app: Database) -> None:
    ends = NOW + 3 * DAY + HOUR
    one, late = people.on_trial(app, ends), people.on_trial(app, NOW + 3 * HOUR)
    for day in range(5):
        for hour in range(0, 24, 8):
            working.carry_out(job, app, people.scope_of(NOW + day * DAY + hour * HOUR))
    assert stages(app) == sorted(
        [
            (str(one), "one_day", ends),
            (str(one), "three_days", ends),
            (str(late), "one_day", NOW + 3 * HOUR),
        ]
    )


def test_an_extended_trial_is_reminded_of_its_new_end(app: Database) -> None:
    one = people.on_trial(app, NOW + DAY)
    working.carry_out(job, app)
    people.change(app, users, one, trial_ends_at=NOW + 9 * DAY)
    working.carry_out(job, app, people.scope_of(NOW + 8 * DAY))
    assert stages(app) == [(str(one), "one_day", NOW + DAY), (str(one), "one_day", NOW + 9 * DAY)]


def test_a_trial_that_is_converted_between_detection_and_the_write_is_a_conflict(
    app: Database,
) -> None:
    converted, extended, due = (people.on_trial(app, NOW + 2 * DAY) for _ in range(3))
    run = working.plan(job, app)
    people.change(app, users, converted, tier_source="subscription")
    people.change(app, users, extended, trial_ends_at=NOW + 2 * DAY + MICROSECOND)
    run = working.finish(job, app, run).run
    assert working.counts(run) == (1, 0, 2, 0)
    assert [subject for subject, _, _ in stages(app)] == [str(due)]


def test_a_reminder_that_is_there_by_the_time_of_the_write_is_skipped(app: Database) -> None:
    one = people.on_trial(app, NOW + DAY)
    run = working.plan(job, app)
    row: people.Row = {"id": uuid.uuid4(), "kind": "trial_reminder", "stage": "one_day"}
    row |= {"subject": str(one), "deadline": NOW + DAY, "state": "sent", "run_id": "another"}
    theirs = ledger.outbox.insert().values(row | {"attempts": 1, "next_attempt_at": NOW})
    people.write(app, theirs)
    run = working.finish(job, app, run).run
    assert (run.state, working.counts(run)) == ("verified", (0, 1, 0, 0))


def test_neither_address_nor_name_is_in_the_outbox(app: Database) -> None:
    one = people.on_trial(app, NOW + DAY)
    working.carry_out(job, app)
    person = people.row(app, users, one)
    assert person["email"] not in str(people.rows(app, ledger.outbox))
    assert person["name"] not in str(people.rows(app, ledger.outbox))


def test_a_rollback_withdraws_what_was_not_sent_and_lists_the_rest(app: Database) -> None:
    there = [people.on_trial(app, NOW + DAY) for _ in range(4)]
    run = working.carry_out(job, app).run
    for one, state in zip(there, ("pending", "sent", "unknown", "skipped"), strict=True):
        mine = ledger.outbox.c.subject == str(one)
        people.write(app, ledger.outbox.update().where(mine).values(state=state))
    tried = ledger.outbox.c.subject == str(there[0])
    people.write(app, ledger.outbox.update().where(tried).values(attempts=2, error="451"))
    undo = working.take_back(job, app, run)
    assert undo.run.state == "verified"
    assert working.left_alone(job, app, undo.run) == {
        str(there[1]): "was_sent",
        str(there[2]): "was_unknown",
        str(there[3]): "was_skipped",
    }
    assert len(stages(app)) == 3


def test_what_was_withdrawn_can_be_planned_again(app: Database) -> None:
    people.on_trial(app, NOW + DAY)
    run = working.carry_out(job, app).run
    working.take_back(job, app, run)
    assert working.carry_out(job, app).run.applied == 1
