"""What happened to the demo's users, told in Python from a seed.

Cards and benefits come from `catalog.csv`, popular cards first. The app creates the statuses of
each month from January to July 2025; in August its job fails partway. Then come the awkward
cases, each with the reason under which the backfill leaves it alone.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from itertools import groupby
from operator import itemgetter
from typing import Any

from maintenance_pipelines.engine.identifiers import ALPHABET, base36
from maintenance_pipelines.engine.months import Month

USERS = 350
FAILED = 0.75
"""How many of the users the job of August had not finished with."""
DONE_BEFORE_IT_FAILED = 0.2
"""How many of such a user's statuses it had already created."""

FIRST, AUGUST, SEPTEMBER = datetime(2025, 1, 1), datetime(2025, 8, 1), datetime(2025, 9, 1)
LAST_LOOK = datetime(2025, 8, 21)
"""Until then the users have marked statuses completed."""
MILLISECOND = timedelta(milliseconds=1)

FIRST_NAMES = ("Ada", "Ben", "Chloe", "Diego", "Emma", "Farid", "Grace", "Iris", "Jonas", "Noah")
LAST_NAMES = ("Adler", "Brandt", "Costa", "Evans", "Fischer", "Haas", "Ito", "Jensen", "Lund")
CARDS_PER_USER = (30, 26, 20, 12, 8, 4)

Row = dict[str, Any]


@dataclass
class Rows:
    """The rows of the app's four tables."""

    users: list[Row] = field(default_factory=list)
    cards: list[Row] = field(default_factory=list)
    benefits: list[Row] = field(default_factory=list)
    statuses: list[Row] = field(default_factory=list)


def tell(seed: int) -> Rows:
    """All rows, the same for the same seed."""
    return _Teller(random.Random(seed)).tell()


def cycle(benefit: Row, card: Row, month: Month) -> datetime | None:
    """The end of the benefit's cycle that starts in `month`, as the app creates it."""
    months = {"MONTHLY": 1, "QUARTERLY": 3, "YEARLY": 12}.get(benefit["frequency"])
    if benefit["cycleAlignment"] == "CALENDAR_FIXED":
        months = benefit["fixedCycleDurationMonths"]
        starts = benefit["fixedCycleStartMonth"] == month.number
    elif months == 12:
        starts = card["openedDate"] is not None and card["openedDate"].month == month.number
    else:
        starts = months is not None and (month.number - 1) % months == 0
    return month.plus(months).start - MILLISECOND if months and starts else None


class _Teller:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.rows = Rows()
        self.owners: dict[str, Row] = {}
        """The card of each benefit, by the benefit's id."""

    def tell(self) -> Rows:
        catalog = _catalog()
        for number in range(USERS):
            user = self._user(number)
            for name in self._wallet(list(catalog)):
                card = self._card(user, name, catalog[name][0]["issuer"])
                for entry in catalog[name]:
                    self._benefit(card, entry)
        for month in (Month(2024, 1).plus(n) for n in range(19)):
            self._app_creates(month)
        missing = self._august()
        self._awkward(missing)
        return self.rows

    def _user(self, number: int) -> Row:
        first, last = self.chance.choice(FIRST_NAMES), self.chance.choice(LAST_NAMES)
        joined = self._between(datetime(2023, 2, 1), datetime(2025, 6, 30))
        email = f"{first}.{last}.{number}@example.com".lower()
        user = {"id": self._id(joined), "email": email} | _made(joined)
        self.rows.users.append(user)
        return user

    def _wallet(self, names: list[str]) -> list[str]:
        """One to six different cards; the catalog has the popular ones first."""
        wallet: list[str] = []
        for _ in range(self.chance.choices(range(1, 7), CARDS_PER_USER)[0]):
            weights = [1 / (place + 3) for place in range(len(names))]
            name = self.chance.choices(names, weights)[0]
            names.remove(name)
            wallet.append(name)
        return wallet

    def _card(self, user: Row, name: str, issuer: str) -> Row:
        added = user["createdAt"] + timedelta(minutes=self.chance.randint(1, 90))
        if self.chance.random() < 0.3:
            added = self._between(added, datetime(2025, 7, 20))
        opened = self._between(datetime(2016, 1, 1), added)
        card = {
            "id": self._id(added),
            "name": name,
            "issuer": issuer,
            "openedDate": opened.replace(hour=0, minute=0, second=0, microsecond=0),
            "userId": user["id"],
        } | _made(added)
        if self.chance.random() < 0.03:
            card["openedDate"] = None
        self.rows.cards.append(card)
        return card

    def _benefit(self, card: Row, entry: Row, **differences: Any) -> Row:
        made = card["createdAt"]
        benefit = {
            "id": self._id(made),
            "category": entry["category"],
            "description": entry["benefit"],
            "percentage": 0.0,
            "maxAmount": float(entry["max_amount"] or 0),
            "startDate": made,
            "endDate": None,
            "frequency": entry["frequency"],
            "creditCardId": card["id"],
            "cycleAlignment": entry["cycle_alignment"] or None,
            "fixedCycleStartMonth": _number(entry["fixed_cycle_start_month"]),
            "fixedCycleDurationMonths": _number(entry["fixed_cycle_duration_months"]),
            "occurrencesInCycle": int(entry["occurrences_in_cycle"]),
        } | _made(made)
        benefit |= differences
        self.owners[benefit["id"]] = card
        self.rows.benefits.append(benefit)
        return benefit

    def _app_creates(self, month: Month) -> None:
        """The app's job on the 1st: all cycles that start, as far as they reach into 2025."""
        for benefit in self.rows.benefits:
            end = cycle(benefit, self.owners[benefit["id"]], month)
            if end is None or end < max(FIRST, benefit["createdAt"]):
                continue
            for occurrence in range(benefit["occurrencesInCycle"]):
                self._status(benefit, month.start, end, occurrence)

    def _august(self) -> list[Row]:
        """The job that failed partway. Returns the monthly benefits that it did not get to."""
        unlucky = set(self.chance.sample(range(USERS), round(USERS * FAILED)))
        failed = {user["id"] for place, user in enumerate(self.rows.users) if place in unlucky}
        missing = []
        for benefit in self.rows.benefits:
            card = self.owners[benefit["id"]]
            end = cycle(benefit, card, Month.of(AUGUST))
            if end is None:
                continue
            if card["userId"] in failed and self.chance.random() > DONE_BEFORE_IT_FAILED:
                missing += [benefit] if benefit["frequency"] == "MONTHLY" else []
                continue
            for occurrence in range(benefit["occurrencesInCycle"]):
                self._status(benefit, AUGUST, end, occurrence)
        return missing

    def _awkward(self, missing: list[Row]) -> None:
        self.chance.shuffle(missing)
        cases = iter(missing)
        for _ in range(12):
            self._at_another_hour(next(cases), timedelta(hours=7))  # present_at_another_hour
        for _ in range(6):
            self._at_another_hour(next(cases), timedelta(hours=-1))
        for _ in range(6):
            self._badly_repaired(next(cases))  # would_overlap
        for _ in range(5):
            self._third_of_four_missing(next(cases))  # due, beside already_present
        for _ in range(8):
            self._expired(next(cases))
        self._never_due(cases)

    def _at_another_hour(self, benefit: Row, offset: timedelta) -> None:
        """As earlier versions of the app stored it: the user's local midnights."""
        self._status(benefit, AUGUST + offset, SEPTEMBER + offset - MILLISECOND, 0)

    def _badly_repaired(self, benefit: Row) -> None:
        """By the first repair, which began the cycle on the day it ran."""
        self._status(benefit, datetime(2025, 8, 12), datetime(2025, 9, 12) - MILLISECOND, 0)

    def _third_of_four_missing(self, benefit: Row) -> None:
        mine = [row for row in self.rows.statuses if row["benefitId"] == benefit["id"]]
        for row in mine:
            for occurrence in (1, 2, 3):
                self._status(benefit, row["cycleStartDate"], row["cycleEndDate"], occurrence)
        for occurrence in (0, 1, 3):
            self._status(benefit, AUGUST, SEPTEMBER - MILLISECOND, occurrence)
        benefit["occurrencesInCycle"] = 4

    def _expired(self, benefit: Row) -> None:
        july = datetime(2025, 7, 1)
        benefit["endDate"] = july - MILLISECOND
        self.rows.statuses = [
            row
            for row in self.rows.statuses
            if row["benefitId"] != benefit["id"] or row["cycleStartDate"] < july
        ]

    def _never_due(self, missing: Iterator[Row]) -> None:
        """Benefits that get no status of August, and had none before."""
        entry = _catalog()["American Express Gold Card"][1]
        in_september = _made(datetime(2025, 9, 3, 9, 30))
        for differences in (
            *([in_september] * 5),  # created_after_cycle
            *([{"startDate": datetime(2025, 10, 1)}] * 4),  # not_started
            *([{"occurrencesInCycle": 0}] * 2),  # invalid_occurrences
            {"occurrencesInCycle": 400},
            *([{"frequency": "ONE_TIME", "description": "Welcome bonus"}] * 12),  # out_of_scope
        ):
            card = self.owners[next(missing)["id"]]
            self._benefit(card, entry, **differences)
        for _ in range(3):  # card_not_open
            owner = self.owners[next(missing)["id"]]
            approved = self._card({"id": owner["userId"]} | _made(datetime(2025, 7, 19)), *GOLD)
            approved["openedDate"] = datetime(2025, 9, 15)
            self._benefit(approved, entry)

    def _status(self, benefit: Row, start: datetime, end: datetime, occurrence: int) -> None:
        made = max(start, benefit["createdAt"]) + timedelta(seconds=self.chance.randint(300, 3000))
        luck = self.chance.random()
        used = self._between(made, min(end, LAST_LOOK)) if made < min(end, LAST_LOOK) else made
        self.rows.statuses.append(
            {
                "id": self._id(made),
                "benefitId": benefit["id"],
                "userId": self.owners[benefit["id"]]["userId"],
                "cycleStartDate": start,
                "cycleEndDate": end,
                "isCompleted": luck < 0.5,
                "completedAt": used if luck < 0.5 else None,
                "isNotUsable": luck > 0.95,
                "orderIndex": self.chance.randint(0, 9) if self.chance.random() < 0.1 else None,
                "occurrenceIndex": occurrence,
                "createdAt": made,
                "updatedAt": used if luck < 0.5 or luck > 0.95 else made,
            }
        )

    def _id(self, moment: datetime) -> str:
        milliseconds = int((moment - datetime(1970, 1, 1)) / MILLISECOND)
        return "c" + base36(milliseconds) + "".join(self.chance.choices(ALPHABET, k=16))

    def _between(self, first: datetime, last: datetime) -> datetime:
        seconds = int((last - first).total_seconds())
        return first + timedelta(seconds=self.chance.randint(0, max(seconds, 0)))


GOLD = ("American Express Gold Card", "American Express")


def _made(moment: datetime) -> Row:
    return {"createdAt": moment, "updatedAt": moment}


def _number(text: str) -> int | None:
    return int(text) if text else None


def _catalog() -> dict[str, list[Row]]:
    """The catalog's benefits by card, in its order."""
    text = resources.files(__package__).joinpath("catalog.csv").read_text(encoding="utf-8")
    entries = list(csv.DictReader(text.splitlines()))
    return {card: list(group) for card, group in groupby(entries, itemgetter("card"))}
