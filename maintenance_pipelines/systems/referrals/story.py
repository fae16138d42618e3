"""The story that the demo's data tells: eight months, and counters that nobody ever reset.

Four communities grow from March 2025 on. The webhook has counted every referral and payment, but
no month was ever closed: at the end of October each of the 726 members who had referred somebody
before still shows all of it as "this month". October itself brought eleven new referrals and the
payments of half of those who had been referred before.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from maintenance_pipelines.engine.identifiers import ALPHABET, base36
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals.webhook import Split

REFERRERS = 726
"""Members who had referred somebody before October; the counters of all of them are stale."""
OCTOBER = Month(2025, 10)
BEGINNING = datetime(2025, 2, 20)
SPREAD = (3, 2, 2, 1, 1, 1, 1, 0, 0, 0)
"""October's new referrals, over the ten who have referred the most."""
LAST_DAY = 25
"""The day of October on which the data ends."""
FOUNDERS = 8
"""Members of each community in its first days, from whom most referrals come."""
REFERRED, BY_A_NEWCOMER, STAYS = 0.7, 0.62, 0.8
TIERS = ((25, "gold"), (10, "silver"), (0, "bronze"))
MILLISECOND, HOURS = timedelta(milliseconds=1), timedelta(hours=6)

COMMUNITIES = (
    ("Alpine Traders", 4999),
    ("Bright Kitchen", 1990),
    ("Clay & Kiln", 2900),
    ("Deep Work Club", 9900),
)
FIRST_NAMES = ("ada", "ben", "chloe", "diego", "emma", "farid", "grace", "iris", "jonas", "noah")
SECOND_NAMES = ("birch", "cloud", "delta", "ember", "frost", "grove", "harbor", "ivory", "juniper")

Row = dict[str, Any]


@dataclass
class Rows:
    """The rows of the app's tables; nothing was ever archived or audited."""

    creators: list[Row] = field(default_factory=list)
    members: list[Row] = field(default_factory=list)
    commissions: list[Row] = field(default_factory=list)
    refunds: list[Row] = field(default_factory=list)


def tell(seed: int) -> Rows:
    """All rows, the same for the same seed."""
    return _Teller(random.Random(seed)).tell()


class _Teller:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.rows = Rows()
        self.prices: dict[str, int] = {}
        """Cents a month, by creator's id."""
        self.communities: dict[str, list[Row]] = {}
        """Members by creator's id, the earliest first."""
        self.earners: dict[str, Row] = {}
        """Who earns when a member pays, by that member's id."""
        self.referrers: dict[str, list[Row]] = {}
        """Who has referred somebody, once for each time, by creator's id."""
        self.unsuccessful: dict[str, list[Row]] = {}
        """Who has not, by creator's id."""

    def tell(self) -> Rows:
        for name, price in COMMUNITIES:
            self._found(name, price)
        self._grow()
        referred = [row for row in self.rows.members if row["id"] in self.earners]
        for member in referred:
            self._pay_until_october(member)
        self._october(referred)
        self._refunds()
        self._orphans()
        for member in self.rows.members:
            member["currentTier"] = next(t for n, t in TIERS if member["totalReferred"] >= n)
        _to_amounts(self.rows.members, ("lifetimeEarnings", "monthlyEarnings"))
        _to_amounts(self.rows.creators, ("totalRevenue", "monthlyRevenue"))
        return self.rows

    def _found(self, name: str, price: int) -> None:
        creator: Row = {
            "id": self._id(BEGINNING),
            "companyId": f"biz_{self._letters(14)}",
            "companyName": name,
            "productId": f"prod_{self._letters(14)}",
            "totalReferrals": 0,
            "totalRevenue": 0,
            "monthlyRevenue": 0,
        } | _made(BEGINNING)
        self.rows.creators.append(creator)
        self.prices[creator["id"]] = price
        self.communities[creator["id"]], self.referrers[creator["id"]] = [], []
        self.unsuccessful[creator["id"]] = []
        for _ in range(FOUNDERS):
            self._join(creator, None, self._between(BEGINNING, datetime(2025, 2, 28)))

    def _grow(self) -> None:
        """Members join, one after the other, until 726 have referred somebody."""
        moment, successful = datetime(2025, 3, 1), 0
        while successful < REFERRERS:
            # About as many as there is time for: seven months, some 1,650 members.
            moment += timedelta(seconds=self.chance.randint(600, 20_800))
            creator = self.chance.choices(self.rows.creators, (4, 3, 2, 1))[0]
            if self.chance.random() > REFERRED:
                self._join(creator, None, moment)
                continue
            fresh = self.unsuccessful[creator["id"]]
            if fresh and self.chance.random() < BY_A_NEWCOMER:
                referrer = fresh[self.chance.randrange(len(fresh))]
                successful += 1
            else:
                referrer = self._somebody_known(creator)
                successful += referrer in fresh
            self._join(creator, referrer, moment)

    def _somebody_known(self, creator: Row) -> Row:
        """Who has referred many refers more; most often it is one of the founders."""
        known = self.referrers[creator["id"]]
        if known and self.chance.random() < 0.6:
            return self.chance.choice(known)
        place = min(int(self.chance.expovariate(0.6)), FOUNDERS - 1)
        return self.communities[creator["id"]][place]

    def _join(self, creator: Row, referrer: Row | None, moment: datetime) -> Row:
        number = len(self.rows.members)
        name = f"{self.chance.choice(FIRST_NAMES)}.{self.chance.choice(SECOND_NAMES)}{number}"
        member: Row = {
            "id": self._id(moment),
            "userId": f"user_{self._letters(12)}",
            "membershipId": f"mem_{self._letters(12)}",
            "referralCode": f"{name.split('.')[0].upper()}-{self._letters(6).upper()}",
            "email": f"{name}@example.com",
            "username": name,
            "memberOrigin": "organic" if referrer is None else "referred",
            "referredBy": referrer and referrer["referralCode"],
            "creatorId": creator["id"],
            "lifetimeEarnings": 0,
            "monthlyEarnings": 0,
            "totalReferred": 0,
            "monthlyReferred": 0,
        } | _made(moment)
        self.rows.members.append(member)
        self.communities[creator["id"]].append(member)
        self.unsuccessful[creator["id"]].append(member)
        if referrer is not None:
            self.earners[member["id"]] = referrer
            self.referrers[creator["id"]].append(referrer)
            if referrer in self.unsuccessful[creator["id"]]:
                self.unsuccessful[creator["id"]].remove(referrer)
            self._pay(member, moment)
        return member

    def _pay(self, member: Row, moment: datetime) -> None:
        """As the webhook counts it (webhook.py), in cents for now."""
        earner = self.earners[member["id"]]
        creator = next(row for row in self.rows.creators if row["id"] == member["creatorId"])
        split = Split.of(self.prices[creator["id"]])
        initial = moment == member["createdAt"]
        amounts = split.amounts()
        self.rows.commissions.append(
            {
                "id": self._id(moment),
                "whopPaymentId": f"pay_{self._letters(14)}",
                "whopMembershipId": member["membershipId"],
                "saleAmount": amounts["sale"],
                "memberShare": amounts["member"],
                "creatorShare": amounts["creator"],
                "platformShare": amounts["platform"],
                "paymentType": "initial" if initial else "recurring",
                "status": self.chance.choices(("paid", "pending"), (9, 1))[0],
                "memberId": earner["id"],
                "creatorId": creator["id"],
                "createdAt": moment,
            }
        )
        _count(earner, creator, split, 1)
        earner["totalReferred"] += initial
        earner["monthlyReferred"] += initial
        earner["updatedAt"] = creator["updatedAt"] = moment

    def _pay_until_october(self, member: Row) -> None:
        """Every month on about the same day, for as long as the member stays."""
        due = member["createdAt"] + timedelta(days=30)
        while due < OCTOBER.start - HOURS and self.chance.random() < STAYS:
            self._pay(member, self._between(due, due + HOURS))
            due += timedelta(days=30)

    def _october(self, referred: list[Row]) -> None:
        most = sorted(self.rows.members, key=lambda row: -row["totalReferred"])[: len(SPREAD)]
        for referrer, count in zip(most, SPREAD, strict=True):
            creator = next(row for row in self.rows.creators if row["id"] == referrer["creatorId"])
            for _ in range(count):
                self._join(creator, referrer, self._in_october())
        for member in self.chance.sample(referred, len(referred) // 2):
            self._pay(member, self._in_october())

    def _refunds(self) -> None:
        """Some payments of September are taken back in October."""
        of_september = [
            row for row in self.rows.commissions if row["createdAt"].month == OCTOBER.number - 1
        ]
        for commission in self.chance.sample(of_september, 12):
            moment = self._in_october()
            self.rows.refunds.append(
                {
                    "id": self._id(moment),
                    "commissionId": commission["id"],
                    "refundAmount": commission["saleAmount"],
                    "memberShareReversed": commission["memberShare"],
                    "creatorShareReversed": commission["creatorShare"],
                    "platformShareReversed": commission["platformShare"],
                    "createdAt": moment,
                }
            )
            earner = next(r for r in self.rows.members if r["id"] == commission["memberId"])
            creator = next(r for r in self.rows.creators if r["id"] == commission["creatorId"])
            _count(earner, creator, Split.of(self.prices[creator["id"]]), -1)

    def _orphans(self) -> None:
        """Referred by somebody who has deleted the account since; the commissions went with it."""
        for creator in self.rows.creators[:3]:
            member = self._join(
                creator, None, self._between(datetime(2025, 4, 1), datetime(2025, 8, 1))
            )
            member["memberOrigin"] = "referred"

    def _in_october(self) -> datetime:
        return self._between(OCTOBER.start, datetime(2025, 10, LAST_DAY, 22))

    def _id(self, moment: datetime) -> str:
        milliseconds = int((moment - datetime(1970, 1, 1)) / MILLISECOND)
        return "c" + base36(milliseconds) + self._letters(16)

    def _letters(self, length: int) -> str:
        return "".join(self.chance.choices(ALPHABET, k=length))

    def _between(self, first: datetime, last: datetime) -> datetime:
        return first + timedelta(
            seconds=self.chance.randint(0, int((last - first).total_seconds()))
        )


def _count(earner: Row, creator: Row, split: Split, sign: int) -> None:
    for name in ("lifetimeEarnings", "monthlyEarnings"):
        earner[name] += sign * split.member
    for name in ("totalRevenue", "monthlyRevenue"):
        creator[name] += sign * split.sale


def _made(moment: datetime) -> Row:
    return {"createdAt": moment, "updatedAt": moment}


def _to_amounts(rows: Iterable[Row], names: tuple[str, ...]) -> None:
    for row in rows:
        for name in names:
            row[name] /= 100
