"""The story that the demo's data tells: a year of a marketplace whose credits nobody looked after.

For twelve months 220 professionals have bought and spent credits. The app's own reset looked for
a role that nobody has, so free credits came back only where somebody did it by hand; its expiry
never ran, so that what was bought in the first half of the year is still counted. Then come the
awkward cases, each a business that is called after what is odd about it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.credits.account import Account, Row

PROFESSIONALS = 220
"""Besides those of the awkward cases."""
OTHERS = 60
"""Homeowners, guests and administrators, who have no credits."""
YEAR = timedelta(days=365)
NEVER_LOOKED, RESET_BY_HAND = 0.06, 0.25
PACKAGES, WEIGHTS = (25, 50, 100, 250), (5, 6, 4, 1)
VERIFICATIONS = ("basic", "comprehensive", "pending", "unverified", "rejected")
SHARES = (55, 25, 8, 9, 3)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)

FIRST_NAMES = ("amal", "bilal", "carla", "dina", "elias", "farah", "george", "huda", "ivan", "lina")
TRADES = ("Plumbing", "Electric", "Painting", "Carpentry", "Cooling", "Tiling", "Gardens", "Roofs")
PLACES = ("Harbour", "Palm", "Creek", "Dune", "Marina", "Oasis", "Falcon", "Pearl", "Coral")


@dataclass
class Rows:
    """The rows of the app's tables."""

    users: list[Row] = field(default_factory=list)
    profiles: list[Row] = field(default_factory=list)
    balances: list[Row] = field(default_factory=list)
    purchases: list[Row] = field(default_factory=list)
    transactions: list[Row] = field(default_factory=list)


def tell(seed: int, now: datetime) -> Rows:
    """All rows, the same for the same seed and moment (aware, UTC)."""
    return _Teller(random.Random(seed), now).tell()


class _Teller:
    def __init__(self, chance: random.Random, now: datetime) -> None:
        self.chance, self.now, self.beginning = chance, now, now - YEAR
        self.month = Month.of(now).start.replace(tzinfo=now.tzinfo)
        self.rows = Rows()

    def tell(self) -> Rows:
        for number in range(PROFESSIONALS):
            self._somebody(number)
        for _ in range(OTHERS):
            role = self.chance.choices(("homeowner", "guest", "admin"), (90, 8, 2))[0]
            self._user(role, self._between(self.beginning, self.now - DAY))
        for name, live in self._cases():
            self._case(name, live)
        return self.rows

    def _somebody(self, number: int) -> None:
        joined = self._between(self.beginning, self.now - 20 * DAY)
        words = (self.chance.choice(PLACES), self.chance.choice(TRADES))
        verification = self.chance.choices(VERIFICATIONS, SHARES)[0]
        account = self._professional(f"{' '.join(words)} {number}", joined, verification)
        if self.chance.random() > NEVER_LOOKED:
            self._live(account, joined)
            self._keep(account)

    def _live(self, account: Account, joined: datetime) -> None:
        """Leads claimed every week or two, a purchase now and then, a bonus once in a while."""
        account.look(at := joined + HOUR)
        by_hand = self.chance.random() < RESET_BY_HAND
        while (then := at + self._days(0.2, 12)) < self.now - HOUR:
            if by_hand and Month.of(then) != Month.of(at) and then < self.month:
                account.reset(self._between(Month.of(then).start.replace(tzinfo=at.tzinfo), then))
            at = then
            luck = self.chance.random()
            if luck < 0.1:
                account.purchase(self.chance.choices(PACKAGES, WEIGHTS)[0], at)
            elif luck < 0.13:
                account.bonus(self.chance.choice((10, 20, 25)), at)
            elif luck < 0.15:
                account.refund(self.chance.randint(3, 12), at)
            else:
                account.spend(self.chance.randint(2, 18), at)

    def _cases(self) -> Iterator[tuple[str, Callable[[Account], Any]]]:
        ago = self._ago
        yield "Thirty Left", lambda a: a.spend(70, ago(9))
        yield "A Hundred and Twenty Left", lambda a: a.bonus(20, ago(40))
        yield "Nothing Left", lambda a: a.spend(100, ago(9))
        yield "Never Reset", lambda a: a.spend(55, ago(200))
        yield "Reset Today", lambda a: (a.spend(64, ago(60)), a.reset(self._today()))
        yield (
            "Reset Today and Spent Since",
            lambda a: (a.reset(self._today()), a.spend(15, self.now - MINUTE)),
        )
        yield "Expires Exactly Now", lambda a: a.purchase(50, ago(180), expires=self.now)
        yield (
            "Expired a Second Ago",
            lambda a: a.purchase(50, ago(180), expires=self.now - timedelta(seconds=1)),
        )
        yield "Partly Spent", lambda a: (a.purchase(100, ago(230)), a.spend(160, ago(120)))
        yield "Three Expire at Once", self._three_at_once
        yield "Two Expire This Week", self._two_this_week
        yield "Bought on 31 August", lambda a: a.purchase(25, self._end_of_august())
        yield "Purchase Without Expiry", self._without_expiry
        yield "Lost Verification", lambda a: (a.purchase(50, ago(100)), a.spend(20, ago(90)))
        yield "No Professional Any More", lambda a: a.spend(10, ago(80))
        yield "A Refund That Expired", lambda a: (a.spend(30, ago(300)), a.refund(30, ago(210)))
        yield "A Spend That Waited", self._waited

    def _case(self, name: str, live: Callable[[Account], Any]) -> None:
        verification = "rejected" if name == "Lost Verification" else "basic"
        role = "homeowner" if name == "No Professional Any More" else "pro"
        joined = self._ago(370)
        account = self._professional(name, joined, verification, role)
        account.look(joined + HOUR)
        live(account)
        self._keep(account)

    def _three_at_once(self, account: Account) -> None:
        """One bought, two given together with it: all are valid until the same moment."""
        for credits in (25, 50, 100):
            account.purchase(credits, self._ago(200), expires=self._ago(15))
        account.spend(110, self._ago(150))

    def _two_this_week(self, account: Account) -> None:
        account.purchase(25, self._ago(179), expires=self.now + 2 * DAY)
        account.purchase(50, self._ago(177), expires=self.now + 5 * DAY)
        account.purchase(100, self._ago(20))

    def _without_expiry(self, account: Account) -> None:
        account.purchase(25, self._ago(220))["expires_at"] = None

    def _waited(self, account: Account) -> None:
        """The second of two requests had to wait for the first, which came a moment later."""
        first = self._ago(30)
        account.spend(12, first)
        account.spend(8, first + MINUTE, stamped=first - MINUTE)

    def _end_of_august(self) -> datetime:
        """Noon of the last 31 August: what is bought then expires at the end of February."""
        this_year = datetime(self.now.year, 8, 31, 12, tzinfo=self.now.tzinfo)
        return this_year if this_year < self.now else this_year.replace(year=self.now.year - 1)

    def _professional(
        self, name: str, joined: datetime, verification: str, role: str = "pro"
    ) -> Account:
        id_ = self._user(role, joined)
        profile = {"business_name": name, "verification_status": verification}
        self.rows.profiles.append({"user_id": id_} | profile)
        return Account(id_, self._id)

    def _user(self, role: str, joined: datetime) -> str:
        id_ = self._id(joined)
        address = f"{self.chance.choice(FIRST_NAMES)}.{len(self.rows.users)}@example.com"
        made = {"created_at": joined, "updated_at": joined}
        self.rows.users.append({"id": id_, "email": address, "role": role} | made)
        return id_

    def _keep(self, account: Account) -> None:
        self.rows.balances.append(account.balance)
        self.rows.purchases += account.purchases
        self.rows.transactions += account.transactions

    def _today(self) -> datetime:
        """A little earlier, and in this month."""
        return max(self.month, self.now - 2 * HOUR)

    def _ago(self, days: int) -> datetime:
        return self.now - days * DAY

    def _days(self, fewest: float, most: float) -> timedelta:
        return timedelta(seconds=round(self.chance.uniform(fewest, most) * 86400))

    def _id(self, moment: datetime) -> str:
        return f"{int(moment.timestamp()):08x}{self.chance.getrandbits(64):016x}"

    def _between(self, first: datetime, last: datetime) -> datetime:
        seconds = int((last - first).total_seconds())
        return first + timedelta(seconds=self.chance.randint(0, max(seconds, 0)))
