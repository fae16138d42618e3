"""The candidates' SQL against the reference, on a real PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import cycle, product

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.benefits.rules import overlapping
from maintenance_pipelines.systems.benefits.schema import benefit_status
from maintenance_pipelines_tests.systems.benefits import reference
from maintenance_pipelines_tests.systems.benefits.loading import (
    found,
    load,
    scope_of,
    session,
)
from maintenance_pipelines_tests.systems.benefits.reference import Benefit, Card, Status
from maintenance_pipelines_tests.systems.benefits.situations import Situation, situations

ZONES = ("UTC", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Kiritimati")
FIXED_CYCLES = ("yearly-window", "quarterly-repeating")
LONG_AGO = datetime(2022, 1, 1)
AUGUST, SEPTEMBER = datetime(2025, 8, 1), datetime(2025, 9, 1)
DAY, MILLISECOND = timedelta(hours=24), timedelta(milliseconds=1)
LAST_INSTANT = SEPTEMBER - MILLISECOND

thorough = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


def compare(database: Database, situation: Situation, fixed: str, include: bool, zone: str) -> None:
    month, benefits, statuses = situation
    scope = scope_of(month, fixed_cycles=fixed, include_created_after_cycle=include)
    wanted = reference.expected(benefits, statuses, month.year, month.number, fixed, include)
    with session(database, zone) as connection:
        load(connection, benefits, statuses)
        assert found(connection, scope) == (wanted.due, wanted.reasons)
        others = [
            (benefit, user, start + nudge, occurrence + 1)
            for benefit, user, start, occurrence in wanted.wanted
            for nudge in (timedelta(), timedelta(hours=7))
        ]
        others += [(key[0], "u2" if key[1] == "u1" else "u1", *key[2:]) for key in wanted.wanted]
        keys = {*wanted.wanted, *others, ("nobody", "u1", month.start, 0)}
        due, _ = found(connection, scope, among=keys)
        assert due == wanted.due


@thorough
@given(
    situation=situations(later_app=False),
    fixed=st.sampled_from(FIXED_CYCLES),
    include=st.booleans(),
    zone=st.sampled_from(ZONES),
)
def test_the_statement_finds_what_the_reference_finds(
    app_of_2025: Database, situation: Situation, fixed: str, include: bool, zone: str
) -> None:
    compare(app_of_2025, situation, fixed, include, zone)


@thorough
@given(situation=situations(later_app=True), fixed=st.sampled_from(FIXED_CYCLES))
def test_weekly_benefits_and_benefits_without_a_card_are_out_of_scope(
    later_app: Database, situation: Situation, fixed: str
) -> None:
    compare(later_app, situation, fixed, include=False, zone="UTC")


@thorough
@given(situation=situations(later_app=False, size=8))
def test_the_rule_finds_the_overlaps_that_the_reference_finds(
    app_of_2025: Database, situation: Situation
) -> None:
    month, benefits, statuses = situation
    as_of = datetime(2027, 1, 1)
    wanted = reference.expected(benefits, statuses, month.year, month.number, FIXED_CYCLES[0], True)
    taken = {(row.benefit, row.user, row.start, row.occurrence) for row in statuses}
    new = [
        Status(f"new{number}", benefit, user, start, end, occurrence, as_of)
        for number, ((benefit, user, start, occurrence), end) in enumerate(wanted.wanted.items())
        if (benefit, user, start, occurrence) not in taken and occurrence < 5
    ]
    with session(app_of_2025) as connection:
        load(connection, benefits, [*statuses, *new])
        rows = sa.select(*(column.label(f"new_{column.name}") for column in benefit_status.c[:5]))
        applied = (
            rows.add_columns(benefit_status.c.occurrenceIndex.label("new_occurrenceIndex"))
            .where(benefit_status.c.id.in_([row.id for row in new]))
            .subquery()
        )
        offenders = connection.scalars(overlapping(scope_of(month, as_of), applied)).all()
    assert sorted(offenders) == sorted(reference.overlapping(new, [*statuses, *new], as_of))


@pytest.mark.parametrize("fixed", FIXED_CYCLES)
def test_every_combination_of_frequency_and_window_agrees_in_every_month(
    app_of_2025: Database, fixed: str
) -> None:
    combinations = product(
        ("MONTHLY", "QUARTERLY", "YEARLY", "ONE_TIME"),
        (None, "CARD_ANNIVERSARY", "CALENDAR_FIXED"),
        (None, 0, *range(1, 14)),
        (None, -1, 0, 1, 2, 3, 6, 12, 48, 2**31 - 1),
    )
    benefits = [
        monthly(
            number,
            card=Card(f"card{number}", "u1", opened, LONG_AGO),
            frequency=frequency,
            alignment=alignment,
            start_month=start_month,
            duration=duration,
        )
        for number, ((frequency, alignment, start_month, duration), opened) in enumerate(
            zip(combinations, cycle([None, datetime(2020, 2, 29), datetime(2019, 12, 31)]))
        )
    ]
    with session(app_of_2025) as connection:
        load(connection, benefits, [])
        for month in (Month(2024, 1).plus(number) for number in range(12)):
            wanted = reference.expected(benefits, [], month.year, month.number, fixed, False)
            answer = found(connection, scope_of(month, fixed_cycles=fixed))
            assert answer == (wanted.due, wanted.reasons), month


def monthly(number: int, **differences: object) -> Benefit:
    card = Card(f"card{number}", "u1", datetime(2020, 3, 5), LONG_AGO)
    plain: dict[str, object] = {
        "id": f"benefit{number}",
        "card": card,
        "frequency": "MONTHLY",
        "alignment": "CARD_ANNIVERSARY",
        "start_month": None,
        "duration": None,
        "occurrences": 1,
        "starts": LONG_AGO,
        "ends": None,
        "created": LONG_AGO,
    }
    return Benefit(**(plain | differences))  # type: ignore[arg-type]


def status(number: int, start: datetime, end: datetime) -> Status:
    return Status(f"status{number}-{start}", f"benefit{number}", "u1", start, end, 0, LONG_AGO)


def test_a_status_at_the_users_midnight_is_the_same_status(app_of_2025: Database) -> None:
    shifts = [timedelta(hours=hours) for hours in (7, 8, -1, 24, -24)]
    benefits = [monthly(number) for number in range(len(shifts) + 1)]
    statuses = [
        status(number, AUGUST + shift, SEPTEMBER + shift - timedelta(milliseconds=1))
        for number, shift in enumerate(shifts)
    ]
    with session(app_of_2025) as connection:
        load(connection, benefits, statuses)
        due, reasons = found(connection, scope_of(Month(2025, 8)))
    assert reasons == {"present_at_another_hour": 5}
    assert [key[0] for key in due] == ["benefit5"]


def test_several_statuses_in_the_way_of_one_cycle_count_once(app_of_2025: Database) -> None:
    statuses = [
        status(0, datetime(2025, 8, 12), datetime(2025, 9, 11)),
        status(0, datetime(2025, 7, 20), datetime(2025, 8, 19)),
        status(0, datetime(2025, 8, 1, 7), datetime(2025, 9, 1, 6, 59)),
        status(1, datetime(2025, 8, 12), datetime(2025, 9, 11)),
        status(1, datetime(2025, 7, 20), datetime(2025, 8, 19)),
        status(1, SEPTEMBER, datetime(2025, 10, 1) - MILLISECOND),
        status(2, datetime(2025, 8, 12), datetime(2025, 9, 11)),
        status(2, AUGUST, datetime(2025, 8, 11)),
        status(3, AUGUST + timedelta(hours=1), datetime(2025, 8, 2)),
        status(3, AUGUST + timedelta(hours=2), SEPTEMBER + timedelta(hours=2)),
        status(3, AUGUST + timedelta(hours=3), datetime(2025, 12, 1)),
    ]
    with session(app_of_2025) as connection:
        load(connection, [monthly(number) for number in range(4)], statuses)
        assert found(connection, scope_of(Month(2025, 8))) == (
            {},
            {"present_at_another_hour": 2, "would_overlap": 1, "already_present": 1},
        )


def test_the_neighbouring_months_at_another_hour_are_not_in_the_way(app_of_2025: Database) -> None:
    local, end = timedelta(hours=7), timedelta(milliseconds=1)
    statuses = [
        status(0, datetime(2025, 7, 1) + local, AUGUST + local - end),
        status(0, SEPTEMBER - timedelta(hours=1), datetime(2025, 10, 1) - timedelta(hours=1) - end),
    ]
    with session(app_of_2025) as connection:
        load(connection, [monthly(0)], statuses)
        due, reasons = found(connection, scope_of(Month(2025, 8)))
    assert list(due.values()) == [SEPTEMBER - end]
    assert not reasons


@pytest.mark.parametrize("month", [Month(2025, 6), Month(2025, 7), Month(2025, 9), Month(2026, 7)])
def test_a_quarter_or_a_year_that_began_earlier_is_not_missing(
    app_of_2025: Database, month: Month
) -> None:
    benefits = [monthly(0, frequency="QUARTERLY"), monthly(1, frequency="YEARLY")]
    with session(app_of_2025) as connection:
        load(connection, benefits, [])
        due, _ = found(connection, scope_of(month))
    starting = ["benefit0"] if month.number == 7 else []
    assert [key[0] for key in due] == starting


def test_a_yearly_cycle_begins_with_the_month_in_which_the_card_was_opened(
    app_of_2025: Database,
) -> None:
    card = Card("card", "u1", datetime(2020, 2, 29), LONG_AGO)
    with session(app_of_2025) as connection:
        load(connection, [monthly(0, frequency="YEARLY", card=card)], [])
        due, _ = found(connection, scope_of(Month(2025, 2)))
    assert due == {
        ("benefit0", "u1", datetime(2025, 2, 1), 0): datetime(2026, 1, 31, 23, 59, 59, 999000)
    }


def test_each_excluded_pair_is_counted_under_its_first_reason(app_of_2025: Database) -> None:
    after = datetime(2025, 9, 1)
    unopened = Card("card1", "u1", None, LONG_AGO)
    opened_later = Card("card6", "u1", after, LONG_AGO)
    benefits = [
        monthly(0, frequency="ONE_TIME", ends=LONG_AGO, occurrences=0),
        monthly(1, frequency="YEARLY", card=unopened, ends=LONG_AGO),
        monthly(2, frequency="QUARTERLY", ends=LONG_AGO),
        monthly(3, ends=datetime(2025, 7, 31, 23, 59, 59, 999000), starts=after),
        monthly(4, starts=after, created=after),
        monthly(5, created=after, occurrences=0),
        monthly(6, card=opened_later, occurrences=0),
        monthly(7, occurrences=0),
        monthly(8, ends=AUGUST),
    ]
    with session(app_of_2025) as connection:
        load(connection, benefits, [])
        due, reasons = found(connection, scope_of(Month(2025, 8)))
    assert list(reasons) and set(reasons.values()) == {1}
    assert set(reasons) == {
        "out_of_scope",
        "no_opened_date",
        "no_cycle_starts",
        "expired",
        "not_started",
        "created_after_cycle",
        "card_not_open",
        "invalid_occurrences",
    }
    assert [key[0] for key in due] == ["benefit8"]


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        ({"starts": LAST_INSTANT}, None),
        ({"starts": SEPTEMBER}, "not_started"),
        ({"created": LAST_INSTANT}, None),
        ({"created": SEPTEMBER}, "created_after_cycle"),
        ({"card": Card("card0", "u1", LAST_INSTANT, LAST_INSTANT)}, None),
        ({"card": Card("card0", "u1", None, SEPTEMBER)}, "created_after_cycle"),
        ({"card": Card("card0", "u1", SEPTEMBER, LONG_AGO)}, "card_not_open"),
        ({"ends": AUGUST}, None),
        ({"ends": AUGUST - MILLISECOND}, "expired"),
        ({"occurrences": 366}, None),
        ({"occurrences": 367}, "invalid_occurrences"),
    ],
)
def test_the_last_instant_of_a_cycle_still_belongs_to_it(
    app_of_2025: Database, differences: dict[str, object], reason: str | None
) -> None:
    with session(app_of_2025) as connection:
        load(connection, [monthly(0, **differences)], [])
        due, reasons = found(connection, scope_of(Month(2025, 8)))
    assert reasons == ({} if reason is None else {reason: 1})
    assert bool(due) is (reason is None)


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (AUGUST - 40 * DAY, AUGUST + DAY, None),
        (AUGUST - 40 * DAY, AUGUST + DAY + MILLISECOND, "would_overlap"),
        (LAST_INSTANT - DAY, SEPTEMBER + 40 * DAY, None),
        (LAST_INSTANT - DAY - MILLISECOND, SEPTEMBER + 40 * DAY, "would_overlap"),
        (AUGUST + 5 * DAY, AUGUST + 6 * DAY, None),
        (AUGUST + 5 * DAY, AUGUST + 6 * DAY + MILLISECOND, "would_overlap"),
        (AUGUST + DAY, LAST_INSTANT - DAY, "present_at_another_hour"),
        (AUGUST - DAY, LAST_INSTANT + DAY, "present_at_another_hour"),
        (AUGUST + DAY + MILLISECOND, LAST_INSTANT, "would_overlap"),
        (AUGUST - DAY - MILLISECOND, LAST_INSTANT, "would_overlap"),
        (AUGUST + 7 * MILLISECOND, LAST_INSTANT + DAY + MILLISECOND, "would_overlap"),
    ],
)
def test_exactly_twenty_four_hours_are_still_apart(
    app_of_2025: Database, start: datetime, end: datetime, reason: str | None
) -> None:
    with session(app_of_2025) as connection:
        load(connection, [monthly(0)], [status(0, start, end)])
        due, reasons = found(connection, scope_of(Month(2025, 8)))
    assert reasons == ({} if reason is None else {reason: 1})
    assert bool(due) is (reason is None)
