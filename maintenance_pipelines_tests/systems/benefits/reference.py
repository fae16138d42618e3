"""The rules once more, in plain Python and written without a look at the SQL.

One benefit at a time, one status at a time, with naive UTC datetimes: slow and obvious.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

MS = timedelta(milliseconds=1)
DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Card:
    id: str
    user: str
    opened: datetime | None
    created: datetime


@dataclass(frozen=True)
class Benefit:
    id: str
    card: Card | None
    frequency: str
    alignment: str | None
    start_month: int | None
    duration: int | None
    occurrences: int
    starts: datetime
    ends: datetime | None
    created: datetime


@dataclass(frozen=True)
class Status:
    id: str
    benefit: str
    user: str
    start: datetime
    end: datetime
    occurrence: int
    created: datetime


Key = tuple[str, str, datetime, int]


def first_of(year: int, month: int, months_later: int = 0) -> datetime:
    while months_later > 0:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        months_later -= 1
    return datetime(year, month, 1)


def is_fixed(benefit: Benefit) -> bool:
    return (
        benefit.alignment == "CALENDAR_FIXED"
        and benefit.start_month is not None
        and 1 <= benefit.start_month <= 12
        and benefit.duration is not None
        and benefit.duration > 0
    )


def cycle_starting_in(
    benefit: Benefit, year: int, month: int, fixed_cycles: str
) -> tuple[datetime, datetime] | None:
    """The benefit's cycle that starts in the month, if there is one. Rules 1 to 4."""
    if benefit.frequency not in ("MONTHLY", "QUARTERLY", "YEARLY"):
        return None
    if is_fixed(benefit):
        assert benefit.start_month is not None and benefit.duration is not None
        starting = {benefit.start_month}
        if (
            fixed_cycles == "quarterly-repeating"
            and benefit.frequency == "QUARTERLY"
            and benefit.duration == 3
        ):
            starting = {(benefit.start_month - 1 + step) % 12 + 1 for step in (0, 3, 6, 9)}
        if month not in starting or benefit.duration > 12 * (9999 - year):
            return None
        length = benefit.duration
    elif benefit.frequency == "MONTHLY":
        length = 1
    elif benefit.frequency == "QUARTERLY":
        if month not in (1, 4, 7, 10):
            return None
        length = 3
    else:
        if benefit.card is None or benefit.card.opened is None:
            return None
        if benefit.card.opened.month != month:
            return None
        length = 12
    return first_of(year, month), first_of(year, month, length) - MS


def pair_reason(
    benefit: Benefit, year: int, month: int, fixed_cycles: str, include_created_after: bool
) -> str | None:
    """Why the pair of benefit and user gets no status in the month."""
    card = benefit.card
    if benefit.frequency not in ("MONTHLY", "QUARTERLY", "YEARLY") or card is None:
        return "out_of_scope"
    if benefit.frequency == "YEARLY" and not is_fixed(benefit) and card.opened is None:
        return "no_opened_date"
    cycle = cycle_starting_in(benefit, year, month, fixed_cycles)
    if cycle is None:
        return "no_cycle_starts"
    start, end = cycle
    if benefit.ends is not None and benefit.ends < start:
        return "expired"
    if benefit.starts > end:
        return "not_started"
    if not include_created_after and (benefit.created > end or card.created > end):
        return "created_after_cycle"
    if card.opened is not None and card.opened > end:
        return "card_not_open"
    if benefit.occurrences < 1 or benefit.occurrences > 366:
        return "invalid_occurrences"
    return None


def shared(start: datetime, end: datetime, status: Status) -> timedelta:
    return min(end, status.end) - max(start, status.start)


def at_another_hour(start: datetime, end: datetime, status: Status) -> bool:
    return abs(status.start - start) <= DAY and abs(status.end - end) <= DAY


def row_reason(start: datetime, end: datetime, existing: Iterable[Status]) -> str | None:
    """How statuses of the same benefit, user and occurrence stand in the way."""
    statuses = list(existing)
    if any(status.start == start for status in statuses):
        return "already_present"
    if any(at_another_hour(start, end, status) for status in statuses):
        return "present_at_another_hour"
    if any(shared(start, end, status) > DAY for status in statuses):
        return "would_overlap"
    return None


@dataclass(frozen=True)
class Expected:
    """Due keys with their ends, and the count of each reason."""

    due: dict[Key, datetime]
    reasons: Counter[str]
    wanted: dict[Key, datetime]
    """All keys of the month, due or not."""


def expected(
    benefits: Iterable[Benefit],
    statuses: Iterable[Status],
    year: int,
    month: int,
    fixed_cycles: str,
    include_created_after: bool,
) -> Expected:
    by_subject: dict[tuple[str, str, int], list[Status]] = {}
    for status in statuses:
        subject = (status.benefit, status.user, status.occurrence)
        by_subject.setdefault(subject, []).append(status)
    found = Expected({}, Counter(), {})
    for benefit in benefits:
        reason = pair_reason(benefit, year, month, fixed_cycles, include_created_after)
        if reason is not None:
            found.reasons[reason] += 1
            continue
        cycle = cycle_starting_in(benefit, year, month, fixed_cycles)
        assert cycle is not None and benefit.card is not None
        start, end = cycle
        for occurrence in range(benefit.occurrences):
            existing = by_subject.get((benefit.id, benefit.card.user, occurrence), [])
            key = (benefit.id, benefit.card.user, start, occurrence)
            found.wanted[key] = end
            reason = row_reason(start, end, existing)
            if reason is None:
                found.due[key] = end
            else:
                found.reasons[reason] += 1
    return found


def overlapping(
    new: Iterable[Status], statuses: Iterable[Status], as_of: datetime
) -> Iterator[str]:
    """Ids of new statuses that share a period with another one that existed at `as_of`."""
    others = [status for status in statuses if status.created <= as_of]
    for row in new:
        if any(
            (at_another_hour(row.start, row.end, other) or shared(row.start, row.end, other) > DAY)
            for other in others
            if other.id != row.id
            and (other.benefit, other.user, other.occurrence)
            == (row.benefit, row.user, row.occurrence)
        ):
            yield row.id
