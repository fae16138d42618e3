"""When a benefit's cycle starts and ends, as SQL.

The rules are the app's ("Cycle rules" in docs/benefits.md). A cycle is [start, end]; the end is
the first instant of the following period minus one millisecond. Every cycle starts at the first
instant of a month, so a cycle that starts in a given month differs from the others only in its
length. All times are naive UTC, as the app stores them: no expression here depends on the
session's time zone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.benefits.schema import MOMENT, benefit, credit_card

LAST_YEAR = 9999
"""No cycle ends later: a longer window is a mistake, and overflows the app's calendar."""


def frequency() -> sa.ColumnElement[str]:
    """The benefit's frequency as text: the enum lacks labels in some versions of the app."""
    return sa.cast(benefit.c.frequency, sa.Text)


def is_fixed() -> sa.ColumnElement[bool]:
    """Rule 1: windows from a start month. With an invalid month or duration, rule 2 holds."""
    return sa.func.coalesce(
        sa.and_(
            sa.cast(benefit.c.cycleAlignment, sa.Text) == "CALENDAR_FIXED",
            benefit.c.fixedCycleStartMonth.between(1, 12),
            benefit.c.fixedCycleDurationMonths > 0,
        ),
        sa.false(),
    )


def has_no_anniversary() -> sa.ColumnElement[bool]:
    """Rule 3: a yearly cycle needs the card's opening date, unless its window is fixed."""
    return sa.and_(frequency() == "YEARLY", credit_card.c.openedDate.is_(None), ~is_fixed())


def length(month: Month, fixed_cycles: str) -> sa.ColumnElement[int]:
    """Months in the cycle that starts in `month`; NULL where none starts in it."""
    opened = sa.cast(sa.extract("month", credit_card.c.openedDate), sa.Integer)
    return sa.case(
        (is_fixed(), _fixed_length(month, fixed_cycles)),
        (frequency() == "MONTHLY", 1),
        (frequency() == "QUARTERLY", 3 if month.number in (1, 4, 7, 10) else sa.null()),
        (sa.and_(frequency() == "YEARLY", opened == month.number), 12),
        else_=sa.null(),
    )


def moment(when: datetime) -> sa.ColumnElement[Any]:
    """A naive UTC time as SQL, of the type that the app's columns have."""
    return sa.cast(sa.literal(when, MOMENT), MOMENT)


def start(month: Month) -> sa.ColumnElement[Any]:
    """Where every cycle that starts in `month` starts."""
    return moment(month.start)


def end(month: Month, fixed_cycles: str) -> sa.ColumnElement[Any]:
    """Where the cycle that starts in `month` ends; NULL where none starts in it."""
    months = sa.func.make_interval(0, length(month, fixed_cycles))
    return start(month) + months - sa.text("INTERVAL '1 millisecond'")


def began_before(month: Month, fixed_cycles: str) -> sa.ColumnElement[bool]:
    """Whether none of its cycles starts in `month` but one that began earlier reaches into it."""
    since = sa.func.mod(month.number - benefit.c.fixedCycleStartMonth + 12, 12)
    reaches = sa.or_(since < benefit.c.fixedCycleDurationMonths, _repeats(fixed_cycles))
    running = sa.case(
        (is_fixed(), reaches),
        else_=sa.or_(
            frequency() == "QUARTERLY",
            sa.and_(frequency() == "YEARLY", credit_card.c.openedDate.is_not(None)),
        ),
    )
    return sa.and_(running, length(month, fixed_cycles).is_(None))


def _repeats(fixed_cycles: str) -> sa.ColumnElement[bool]:
    """Whether a fixed window repeats every three months, as the app's successor has it."""
    if fixed_cycles == "yearly-window":
        return sa.false()
    return sa.and_(frequency() == "QUARTERLY", benefit.c.fixedCycleDurationMonths == 3)


def _fixed_length(month: Month, fixed_cycles: str) -> sa.ColumnElement[int]:
    first, duration = benefit.c.fixedCycleStartMonth, benefit.c.fixedCycleDurationMonths
    starts = sa.or_(
        first == month.number,
        sa.and_(_repeats(fixed_cycles), (month.number - first) % 3 == 0),
    )
    longest = 12 * (LAST_YEAR - month.year)
    return sa.case((sa.and_(starts, duration <= longest), duration), else_=sa.null())
