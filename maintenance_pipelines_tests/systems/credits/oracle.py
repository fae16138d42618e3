"""What should happen, in plain Python: grants of credits in a list, and nothing that SQL does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

VERIFIED = ("basic", "comprehensive")


@dataclass
class Grant:
    """Credits that were given at once; `expires` is None for those that never do."""

    free: bool
    amount: int
    left: int
    expires: datetime | None


@dataclass
class Account:
    """Grants in the order they were given, and every booking as type and amount."""

    grants: list[Grant] = field(default_factory=list)
    booked: list[tuple[str, int]] = field(default_factory=list)
    resets: set[str] = field(default_factory=set)

    def left(self, free: bool) -> int:
        """What is left of free, or of paid credits."""
        return sum(grant.left for grant in self.grants if grant.free == free)

    @property
    def balance(self) -> tuple[int, int, int]:
        """Total, free and paid; the total by the bookings."""
        return sum(amount for _, amount in self.booked), self.left(True), self.left(False)

    def give(self, kind: str, amount: int, expires: datetime | None = None) -> None:
        """A grant: `bonus` is free, `purchase` and `refund` are paid."""
        self.grants.append(Grant(kind == "bonus", amount, amount, expires))
        self.booked.append((kind, amount))

    def spend(self, amount: int, now: datetime) -> None:
        """Nothing happens where less is left than is asked for."""
        usable = [g for g in self.grants if g.free or g.expires is None or g.expires > now]
        usable.sort(key=lambda grant: not grant.free)
        if sum(grant.left for grant in usable) < amount:
            return
        self.booked.append(("spend", -amount))
        for grant in usable:
            taken = min(grant.left, amount)
            grant.left -= taken
            amount -= taken


@dataclass
class Reset:
    """One professional's reset: the way back."""

    who: str
    new: bool
    closed: list[tuple[Grant, int]]
    position: int


@dataclass
class Expiry:
    """One professional's expiry: the way back."""

    who: str
    closed: list[tuple[Grant, int]]


@dataclass
class World:
    """Everybody's verification, and the accounts of those who have one."""

    verification: dict[str, str]
    accounts: dict[str, Account] = field(default_factory=dict)

    def account(self, who: str) -> Account:
        """The account, opened at the first look."""
        if who not in self.accounts:
            self.accounts[who] = Account()
            self.accounts[who].give("bonus", 100)
        return self.accounts[who]

    def eligible(self, who: str, month: str) -> bool:
        """Whether somebody is to be reset in a month."""
        account = self.accounts.get(who)
        reset = account is not None and month in account.resets
        return self.verification[who] in VERIFIED and not reset

    def to_reset(self, month: str) -> list[str]:
        """Whom a plan names: those with an account first."""
        due = [who for who in sorted(self.verification) if self.eligible(who, month)]
        return sorted(due, key=lambda who: who not in self.accounts)

    def to_expire(self, moment: datetime) -> list[str]:
        """Whom a plan names."""
        return [who for who, a in sorted(self.accounts.items()) if self._expired(a, moment)]

    def reset(self, who: str, month: str) -> Reset | None:
        """Resets somebody; None where that is not due any more."""
        if not self.eligible(who, month):
            return None
        new = who not in self.accounts
        account = self.accounts.setdefault(who, Account())
        closed = [(grant, grant.left) for grant in account.grants if grant.free and grant.left]
        free = account.left(True)
        for grant, _ in closed:
            grant.left = 0
        account.booked.append(("monthly_reset", 100 - free))
        account.grants.append(Grant(True, 100, 100, None))
        account.resets.add(month)
        return Reset(who, new, closed, len(account.booked))

    def expire(self, who: str, moment: datetime) -> Expiry | None:
        """Expires what somebody has left; None where there is nothing any more."""
        expired = self._expired(self.accounts[who], moment)
        closed = [(grant, grant.left) for grant in expired]
        for grant in expired:
            self.accounts[who].booked.append(("expiry", -grant.left))
            grant.left = 0
        return Expiry(who, closed) if closed else None

    def take_back_reset(self, reset: Reset, month: str) -> bool:
        """False where something has followed it."""
        account = self.accounts[reset.who]
        if len(account.booked) != reset.position:
            return False
        if reset.new:
            del self.accounts[reset.who]
            return True
        account.booked.pop()
        account.grants.pop()
        account.resets.discard(month)
        _open(reset.closed)
        return True

    def take_back_expiry(self, expiry: Expiry) -> bool:
        """Always possible: what is given back is booked."""
        _open(expiry.closed)
        self.accounts[expiry.who].booked += [("expiry", left) for _, left in expiry.closed]
        return True

    def books(self) -> dict[str, tuple[object, ...]]:
        """Of everybody: the balance, what is left of which grant, and the bookings."""
        return {
            who: (
                account.balance,
                Counter((g.free, g.left, g.expires) for g in account.grants if g.left),
                Counter(account.booked),
            )
            for who, account in self.accounts.items()
        }

    @staticmethod
    def _expired(account: Account, moment: datetime) -> list[Grant]:
        return [g for g in account.grants if g.left and g.expires and g.expires <= moment]


def _open(closed: Iterable[tuple[Grant, int]]) -> None:
    for grant, left in closed:
        grant.left += left
