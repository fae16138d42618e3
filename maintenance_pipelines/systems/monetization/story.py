"""What happened to the demo's users, told in Python from a seed.

Some six hundred people keep a trading journal. They try it, subscribe, redeem codes and let things
lapse; their discipline statistics are as yesterday's rollup left them. Then come the awkward
cases, each on purpose, at the very instants where a rule changes its mind: as of `now`, the moment
at which the data ends.
"""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from maintenance_pipelines.systems.monetization.override import OVERRIDE

USERS = 600
DAY, HOUR, MICROSECOND = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)

FIRST_NAMES = ("Ada", "Ben", "Chloe", "Diego", "Emma", "Farid", "Grace", "Iris", "Jonas", "Noah")
LAST_NAMES = ("Adler", "Brandt", "Costa", "Evans", "Fischer", "Haas", "Ito", "Jensen", "Lund")
SYMBOLS = ("ACME", "BOLT", "CRUX", "DELT", "EPOC", "FLUX")
CODES = ("WELCOME", "SPRING24", "SUMMER24", "LAUNCH", "PODCAST", "WINTER24", "FRIENDS", "BETA")

Row = dict[str, Any]


@dataclass
class Rows:
    """The rows of the app's tables."""

    users: list[Row] = field(default_factory=list)
    config: list[Row] = field(default_factory=list)
    codes: list[Row] = field(default_factory=list)
    redemptions: list[Row] = field(default_factory=list)
    targets: list[Row] = field(default_factory=list)
    aims: list[Row] = field(default_factory=list)
    shots: list[Row] = field(default_factory=list)
    stats: list[Row] = field(default_factory=list)


def tell(seed: int, now: datetime) -> Rows:
    """All rows, the same for the same seed and moment (aware, UTC)."""
    return _Teller(random.Random(seed), now).tell()


class _Teller:
    def __init__(self, chance: random.Random, now: datetime) -> None:
        self.chance, self.now, self.beginning = chance, now, now - 900 * DAY
        self.rows = Rows()

    def tell(self) -> Rows:
        for name in CODES:
            self._code(name)
        for _ in range(USERS):
            self._live()
        for user in self.rows.users:
            self._trade(user)
        self._yesterdays_rollup()
        self._awkward_tiers()
        self._awkward_trials()
        self._awkward_codes()
        self._awkward_trades()
        self._override()
        return self.rows

    def _live(self) -> None:
        """One person's way through tiers."""
        joined = self._between(self.beginning, self.now - 2 * HOUR)
        user = self._user(joined)
        luck = self.chance.random()
        if luck < 0.15:
            lapsed = self._between(self.now - 20 * HOUR, self.now - HOUR)
            self._grant(user, "subscription", lapsed)
        elif luck < 0.45:
            self._grant(user, "subscription", self._between(self.now + DAY, self.now + 300 * DAY))
        elif luck < 0.60:
            ends = self._between(self.now + 2 * HOUR, self.now + 13 * DAY)
            self._grant(user, "trial", ends)
            user |= {"trial_started_at": ends - 14 * DAY, "trial_ends_at": ends}
        elif luck < 0.64:
            self._grant(user, "admin", None)
        if self.chance.random() < 0.6:
            self._redeem(user, self.chance.choice(self.rows.codes), self._between(joined, self.now))

    def _trade(self, user: Row) -> None:
        for _ in range(self.chance.choice((0, 1, 1, 2))):
            trigger = self.chance.choice((None, "Closes below the 200-day average"))
            target = self._target(user, trigger, self.chance.choice((None, False, False, True)))
            for _ in range(self.chance.randint(0, 3)):
                aim = self._aim(target)
                for _ in range(self.chance.randint(0, 5)):
                    self._shot(aim)

    def _yesterdays_rollup(self) -> None:
        """As it was before yesterday's shots: right for most, too low for some, absent for new."""
        owner = {row["id"]: row["user_id"] for row in self.rows.targets}
        target = {row["id"]: row["target_id"] for row in self.rows.aims}
        for user in self.rows.users:
            if user["created_at"] > self.now - DAY or self.chance.random() < 0.05:
                continue
            targets = [row for row in self.rows.targets if row["user_id"] == user["id"]]
            shots = [r for r in self.rows.shots if owner[target[r["aim_id"]]] == user["id"]]
            if self.chance.random() < 0.15:
                shots = shots[:-1]
            self.rows.stats.append(
                {
                    "id": self._id(),
                    "user_id": user["id"],
                    "total_shots": len(shots),
                    **_answers(shots, "stop_loss"),
                    **_answers(shots, "profit_target"),
                    "abort_trigger_honored_count": sum(
                        row["abort_triggered"] is True for row in targets
                    ),
                    "abort_trigger_ignored_count": sum(
                        row["abort_trigger"] is not None and row["abort_triggered"] is False
                        for row in targets
                    ),
                    "updated_at": self.now - 8 * HOUR - DAY,
                }
            )

    def _awkward_tiers(self) -> None:
        """Around the instant of expiry, and states that should not be."""
        for expires in (self.now, self.now - MICROSECOND, self.now + MICROSECOND):
            self._grant(self._user(self.beginning), "subscription", expires)
        self._user(self.beginning)["tier_expires_at"] = self.now - DAY  # free, and expires
        self._user(self.beginning)["tier_source"] = "promo"  # free, with a source of its own
        self._grant(self._user(self.beginning), "global_override", self.now + DAY)
        granted = self._user(self.beginning)
        self._grant(granted, "promo", self.now - HOUR)
        self._redeem(
            granted, self.rows.codes[0], self.now - 9 * DAY, applied_until=self.now + 21 * DAY
        )
        trying = self._user(self.beginning)
        self._grant(trying, "subscription", self.now - HOUR)
        trying |= {"trial_started_at": self.now - DAY, "trial_ends_at": self.now + 5 * DAY}

    def _awkward_trials(self) -> None:
        """Around the edges of both stages."""
        edges = (timedelta(0), MICROSECOND, DAY, DAY + MICROSECOND, 3 * DAY, 3 * DAY + MICROSECOND)
        for left in edges:
            user = self._user(self.now - 12 * DAY)
            self._grant(user, "trial", self.now + left)
            user |= {"trial_started_at": self.now - 11 * DAY, "trial_ends_at": self.now + left}

    def _awkward_codes(self) -> None:
        """Codes around their end, and redemptions around their age."""
        for place, until in enumerate((self.now, self.now - MICROSECOND, self.now + MICROSECOND)):
            self._code(f"EDGE{place}", valid_until=until)
        self._code("GONE", valid_until=self.now - DAY, is_active=False)
        used_up = self._code("USEDUP", valid_until=None, max_uses=2, current_uses=2)
        over = self._code("TOOMANY", max_uses=1, current_uses=1, is_active=False)
        old = self._code("OLD", valid_until=self.now - 400 * DAY, is_active=False)
        people = self.chance.sample(self.rows.users, 6)
        for user in people[:2]:
            self._redeem(user, used_up, self.now - 50 * DAY)
            self._redeem(user, over, self.now - 50 * DAY)
        ages = (365 * DAY, 365 * DAY + MICROSECOND, 365 * DAY - MICROSECOND, 500 * DAY)
        for user, age in zip(people[2:], ages, strict=True):
            self._redeem(user, old, self.now - age)
        self._redeem(people[0], old, self.now - 420 * DAY, applied_until=self.now + DAY)

    def _awkward_trades(self) -> None:
        """A user without targets, a shot whose aim was deleted, and what is soft-deleted."""
        self._user(self.beginning)
        user = self._user(self.beginning)
        target = self._target(user, "Closes below 90", False)
        kept, dropped = self._aim(target), self._aim(target)
        dropped["deleted_at"] = self.now - 3 * DAY
        for aim in (kept, kept, dropped):
            self._shot(aim)
        self._shot(kept)["deleted_at"] = self.now - 2 * DAY
        for _ in range(3):
            self._shot({"id": None})

    def _override(self) -> None:
        """It expires this very second."""
        value = {"tier": "premium", "expires_at": (self.now - MICROSECOND).isoformat()}
        row = {"key": OVERRIDE, "value": json.dumps(value), "updated_at": self.now - 7 * DAY}
        theme = {"key": "landing_page", "value": '"autumn"', "updated_at": self.now - 90 * DAY}
        self.rows.config += [row, theme]

    def _user(self, joined: datetime) -> Row:
        number = len(self.rows.users)
        first, last = self.chance.choice(FIRST_NAMES), self.chance.choice(LAST_NAMES)
        user = {
            "id": self._id(),
            "email": f"{first}.{last}.{number}@example.com".lower(),
            "name": f"{first} {last}",
            "authentik_sub": self._id().hex,
            "tier": "free",
            "tier_source": "default",
            "tier_expires_at": None,
            "trial_started_at": None,
            "trial_ends_at": None,
            "referral_code": f"{first.upper()}{number}",
            "created_at": joined,
            "updated_at": joined,
        }
        self.rows.users.append(user)
        return user

    def _grant(self, user: Row, source: str, until: datetime | None) -> None:
        tier = self.chance.choice(("premium", "premium", "premium_plus"))
        user |= {"tier": tier, "tier_source": source, "tier_expires_at": until}

    def _code(self, name: str, **values: Any) -> Row:
        ends = self._between(self.now - 300 * DAY, self.now + 200 * DAY)
        code = {
            "id": self._id(),
            "code": name,
            "type": "tier_grant",
            "tier_to_grant": "premium",
            "days_to_grant": 30,
            "valid_from": self.beginning,
            "valid_until": self.chance.choice((None, ends, ends)),
            "max_uses": None,
            "max_uses_per_user": 1,
            "current_uses": 0,
            "is_active": True,
            "created_at": self.beginning,
        }
        self.rows.codes.append(code | values)
        return self.rows.codes[-1]

    def _redeem(
        self, user: Row, code: Row, when: datetime, applied_until: datetime | None = None
    ) -> None:
        if code["max_uses"] is None:
            code["current_uses"] += 1
        self.rows.redemptions.append(
            {
                "id": self._id(),
                "promo_code_id": code["id"],
                "user_id": user["id"],
                "redeemed_at": when,
                "applied_until": applied_until or when + 30 * DAY,
                "tier_granted": "premium",
            }
        )

    def _target(self, user: Row, trigger: str | None, triggered: bool | None) -> Row:
        target = {
            "id": self._id(),
            "user_id": user["id"],
            "thesis": "It has been cheap for long enough.",
            "abort_trigger": trigger,
            "abort_triggered": triggered,
            "deleted_at": None,
        }
        self.rows.targets.append(target)
        return target

    def _aim(self, target: Row) -> Row:
        symbol = self.chance.choice(SYMBOLS)
        aim = {"id": self._id(), "target_id": target["id"], "symbol": symbol, "deleted_at": None}
        self.rows.aims.append(aim)
        return aim

    def _shot(self, aim: Row) -> Row:
        shot = {
            "id": self._id(),
            "aim_id": aim["id"],
            "stop_loss_honored": self.chance.choice((True, True, False, None)),
            "profit_target_honored": self.chance.choice((True, False, None)),
            "deleted_at": None,
        }
        self.rows.shots.append(shot)
        return shot

    def _id(self) -> uuid.UUID:
        return uuid.UUID(int=self.chance.getrandbits(128), version=4)

    def _between(self, first: datetime, last: datetime) -> datetime:
        seconds = int((last - first).total_seconds())
        return first + timedelta(seconds=self.chance.randint(0, max(seconds, 0)))


def _answers(shots: list[Row], to: str) -> Row:
    said = [row[f"{to}_honored"] for row in shots]
    return {f"{to}_honored_count": said.count(True), f"{to}_ignored_count": said.count(False)}
