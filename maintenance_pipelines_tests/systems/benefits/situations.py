"""Random benefits with cards and statuses, crowded around the edges of a month's cycles."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count

from hypothesis import strategies as st

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines_tests.systems.benefits.reference import (
    Benefit,
    Card,
    Key,
    Status,
    cycle_starting_in,
)

MS = timedelta(milliseconds=1)
HOURS = timedelta(hours=1)
USERS = ("u1", "u2")

months = st.sampled_from(
    [Month(2023, 12), Month(2024, 2), Month(2024, 3), *(Month(2025, n) for n in range(1, 13))]
)
nudges = st.sampled_from(
    [
        timedelta(),
        timedelta(),
        *(MS * n for n in (1, -1)),
        *(HOURS * n for n in (7, 8, -1, 23, 24, -24, 25, -25)),
        *(HOURS * 24 + MS * n for n in (1, -1)),
        *(HOURS * -24 + MS * n for n in (1, -1)),
        *(timedelta(days=n) for n in (5, -5, 15, -40, 40, -200, 200, 400)),
    ]
)
opened_dates = st.one_of(
    st.none(),
    st.sampled_from(
        [
            datetime(2024, 2, 29),
            datetime(2020, 2, 29, 23, 59, 59, 999000),
            datetime(2023, 12, 31, 23, 59, 59, 999000),
            datetime(2024, 1, 1),
            datetime(2019, 8, 31, 23, 30),
        ]
    ),
    st.builds(datetime, st.integers(2015, 2026), st.integers(1, 12), st.integers(1, 28)),
)


def edges(month: Month) -> st.SearchStrategy[datetime]:
    """Moments on and around the edges of the cycles that start in the month."""
    starts = [month.plus(length).start for length in (0, 0, 1, 2, 3, 6, 12)]
    ends = [month.plus(length).start - MS for length in (1, 1, 2, 3, 6, 12)]
    return st.builds(lambda edge, nudge: edge + nudge, st.sampled_from(starts + ends), nudges)


def usually(value: object, edge: st.SearchStrategy[datetime]) -> st.SearchStrategy[object]:
    """`value` nine times in ten, else an edge; so that most benefits pass most conditions."""
    return st.integers(0, 9).flatmap(lambda dice: edge if dice == 9 else st.just(value))


@st.composite
def benefits(draw: st.DrawFn, month: Month, number: int, later_app: bool) -> Benefit:
    """A benefit, on a card of its own or (in the later app) on none."""
    edge, long_ago = edges(month), datetime(2022, 5, 5)
    card = Card(
        id=f"card{number}",
        user=draw(st.sampled_from(USERS)),
        opened=draw(st.one_of(opened_dates, opened_dates, edge)),
        created=draw(usually(long_ago, edge)),  # type: ignore[arg-type]
    )
    frequencies = [*["MONTHLY"] * 4, *["QUARTERLY"] * 2, *["YEARLY"] * 3, "ONE_TIME"]
    lost = later_app and draw(st.sampled_from([True, False, False, False, False]))
    return Benefit(
        id=f"benefit{number}",
        card=None if lost else card,
        frequency=draw(st.sampled_from([*frequencies, *(["WEEKLY"] if later_app else [])])),
        alignment=draw(st.sampled_from([None, "CARD_ANNIVERSARY", "CALENDAR_FIXED"])),
        start_month=draw(st.sampled_from([None, 0, 13, -1, *[month.number] * 8, *range(1, 13)])),
        duration=draw(st.sampled_from([None, 0, -3, 1, 2, 3, 3, 3, 6, 12, 12, 18, 48, 2**31 - 1])),
        occurrences=draw(st.sampled_from([*[1] * 16, 2, 4, 0, -1, 366, 367])),
        starts=draw(usually(long_ago, edge)),  # type: ignore[arg-type]
        ends=draw(st.one_of(st.none(), st.none(), edge)),
        created=draw(usually(long_ago, edge)),  # type: ignore[arg-type]
    )


def own_ends(benefit: Benefit, month: Month) -> list[st.SearchStrategy[datetime]]:
    """Moments around the end of the benefit's own cycle, if one starts in the month."""
    cycle = cycle_starting_in(benefit, month.year, month.number, "quarterly-repeating")
    if cycle is None or cycle[1].year > 9000:
        return []
    return [st.builds(cycle[1].__add__, nudges)] * 2


@st.composite
def statuses(draw: st.DrawFn, month: Month, of: list[Benefit]) -> list[Status]:
    """Statuses of these benefits, unique in the key, mostly of the card's own user."""
    edge, start = edges(month), st.builds(lambda nudge: month.start + nudge, nudges)
    numbers, found = count(), dict[Key, Status]()
    for benefit in of:
        ends = [edge, *own_ends(benefit, month)]
        owner = benefit.card.user if benefit.card else USERS[0]
        for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
            status = Status(
                id=f"status{next(numbers)}",
                benefit=benefit.id,
                user=draw(st.sampled_from([owner] * 5 + list(USERS))),
                start=draw(st.one_of(start, start, edge)),
                end=draw(st.one_of(*ends)),
                occurrence=draw(st.sampled_from([0, 0, 0, 1, 3])),
                created=draw(st.sampled_from([datetime(2025, 1, 1), datetime(2030, 1, 1)])),
            )
            found[status.benefit, status.user, status.start, status.occurrence] = status
    return list(found.values())


Situation = tuple[Month, list[Benefit], list[Status]]


@st.composite
def situations(draw: st.DrawFn, later_app: bool, size: int = 12) -> Situation:
    """A month, benefits, and statuses of them."""
    month = draw(months)
    numbers = range(draw(st.integers(1, size)))
    some = [draw(benefits(month, number, later_app)) for number in numbers]
    return month, some, draw(statuses(month, some))
