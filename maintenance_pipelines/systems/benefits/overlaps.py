"""When an existing status stands in the way of a cycle that starts in the month.

Statuses are held against each other for one benefit, user and occurrence. Besides the key
itself, two things count: the same period at another hour, since earlier versions of the app
stored the user's local midnights, and a period that shares more than 24 hours.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.benefits import cycles
from maintenance_pipelines.systems.benefits.schema import benefit_status

Columns = ReadOnlyColumnCollection[str, sa.ColumnElement[Any]]
Moment = sa.ColumnElement[Any]

DAY: Moment = sa.literal_column("INTERVAL '24 hours'")
starts, ends = benefit_status.c.cycleStartDate, benefit_status.c.cycleEndDate


def same_at_another_hour(start: Moment, end: Moment) -> sa.ColumnElement[bool]:
    """Whether both ends of an existing status lie within 24 hours of `start` and `end`."""
    return sa.and_(
        starts.between(start - DAY, start + DAY),
        ends.between(end - DAY, end + DAY),
    )


def shares_a_day(start: Moment, end: Moment) -> sa.ColumnElement[bool]:
    """Whether an existing status has more than 24 hours in common with `start` to `end`."""
    return sa.and_(
        end > starts + DAY,
        start + DAY < ends,
        starts + DAY < ends,
        start + DAY < end,
    )


def could_meet(month: Month) -> sa.ColumnElement[bool]:
    """Whether an existing status could stand in the way of any cycle that starts in `month`."""
    return sa.or_(_starts_nearby(month), _reaches_in(month))


def existing(month: Month) -> sa.Select[Any]:
    """What is there for a benefit, user and occurrence, whatever the new cycle's length.

    A cycle may meet several existing statuses, and joining them would multiply it; so they are
    one row here, which `reason` can hold any cycle of the month against.
    """
    start = cycles.start(month)
    return sa.select(
        sa.func.bool_or(starts == start).label("has_key"),
        sa.func.min(ends).filter(_starts_nearby(month)).label("first_end_nearby"),
        sa.func.max(ends).filter(_starts_nearby(month)).label("last_end_nearby"),
        sa.func.min(starts).filter(_reaches_in(month)).label("first_that_reaches_in"),
    ).where(could_meet(month))


def reason(
    there: Columns, start: Moment, end: Moment, same_subject: sa.ColumnElement[bool]
) -> sa.Case[Any]:
    """How `existing` stands in the way of the cycle from `start` to `end`; NULL if it does not.

    `same_subject` is the condition that finds a status of that benefit, user and occurrence.
    """
    # Of several that start nearby, an end can lie between the first and the last.
    another = sa.and_(
        there.first_end_nearby.is_distinct_from(there.last_end_nearby),
        sa.exists().where(same_subject, same_at_another_hour(start, end)),
    )
    return sa.case(
        (there.has_key, "already_present"),
        (there.first_end_nearby.between(end - DAY, end + DAY), "present_at_another_hour"),
        (another, "present_at_another_hour"),
        (there.first_that_reaches_in + DAY < end, "would_overlap"),
        else_=sa.null(),
    )


def _starts_nearby(month: Month) -> sa.ColumnElement[bool]:
    day = timedelta(hours=24)
    return starts.between(cycles.moment(month.start - day), cycles.moment(month.start + day))


def _reaches_in(month: Month) -> sa.ColumnElement[bool]:
    """Of `shares_a_day`, all that can be said without the new cycle's end."""
    return sa.and_(ends > cycles.moment(month.start + timedelta(hours=24)), ends > starts + DAY)
