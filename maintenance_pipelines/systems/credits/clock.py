"""Months of UTC by the database's own clock: which one is running, and stamps that lie in it.

A month's reset is known by the stamp of its transaction alone, so it is the clock that stamps
which has to say what month it is, not the one of whoever started the job.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput

NOW: sa.ColumnElement[datetime] = sa.func.clock_timestamp(type_=sa.TIMESTAMP(timezone=True))
MICROSECOND: sa.ColumnElement[Any] = sa.literal_column("INTERVAL '1 microsecond'")


def start(month: Month) -> sa.ColumnElement[datetime]:
    """Its first instant."""
    return _moment(month.start)


def end(month: Month) -> sa.ColumnElement[datetime]:
    """The first instant after it."""
    return _moment(month.end)


def within(month: Month, moment: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Whether a moment lies in the month."""
    return sa.and_(moment >= start(month), moment < end(month))


def is_running(month: Month) -> sa.ColumnElement[bool]:
    """Whether the month is the running one, asked once for a statement."""
    now = sa.select(NOW.label("now")).scalar_subquery()
    return within(month, now)


def stamp(month: Month) -> sa.ColumnElement[datetime]:
    """The moment of writing, for what was found to lie in the month a moment ago."""
    return sa.func.least(NOW, end(month) - MICROSECOND)


def admit(connection: sa.Connection, scope: Scope) -> None:
    """Refuses any month but the running one.

    Nothing stored tells which month a reset that is stamped later was for.
    """
    now = connection.execute(sa.select(NOW)).scalar_one()
    running = Month.of(now.astimezone(UTC))
    if scope.month != running or Month.of(scope.as_of) != running:
        raise BadInput(
            f"Credits can only be reset for the running month, {running} by the database's clock,"
            f" not for {scope.month} as of {scope.as_of:%Y-%m-%d %H:%M}."
        )


def _moment(naive: datetime) -> sa.ColumnElement[datetime]:
    return sa.literal(naive.replace(tzinfo=UTC), sa.TIMESTAMP(timezone=True))
