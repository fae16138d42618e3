"""Whom a month is counted for: members and creators, and where each of their numbers is kept.

Both are archived, reset and recalculated alike; all that differs between them is said here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.schema import creator, member, monthly_snapshot

Element = sa.ColumnElement[Any]

referred = member.alias("referred_one")


@dataclass(frozen=True)
class Counter:
    """One number of a month: its column on the subject, its column in a snapshot, and the `fact`
    of the truth that it should equal (`referrals`, or `cents` where it is money)."""

    column: str
    archived: str
    fact: str

    @property
    def is_money(self) -> bool:
        """Whether the app keeps it as an amount."""
        return self.fact == "cents"

    def value(self, fact: Element) -> Element:
        """The truth as the app's column stores it."""
        return truth.amount(fact) if self.is_money else sa.cast(fact, sa.Integer)

    def differs(self, kept: Element, fact: Element) -> sa.ColumnElement[bool]:
        """Whether what the app keeps is not the truth, to the cent: adding up doubles errs."""
        whole = sa.func.round(kept * 100) if self.is_money else kept
        return whole.is_distinct_from(fact)

    def settled(self, kept: Element, fact: Element) -> Element:
        """The truth where what the app keeps differs from it, else what the app keeps."""
        return sa.case((self.differs(kept, fact), self.value(fact)), else_=kept)


@dataclass(frozen=True)
class Subject:
    """Members, or creators.

    `truth` gives the records' numbers of a month by `id`. `counters` are the columns that hold
    the running month, `archived` all numbers of a snapshot. `owner` and `itself` are the values
    that a snapshot has as `creatorId` and `memberId`.
    """

    name: str
    says: str
    table: sa.Table
    truth: Callable[..., sa.Select[Any]]
    counters: tuple[Counter, ...]
    archived: tuple[Counter, ...]

    @property
    def is_member(self) -> bool:
        """Whether it is members."""
        return self.table is member

    @property
    def owner(self) -> sa.Column[str]:
        """The subject's column that a snapshot has as `creatorId`."""
        return member.c.creatorId if self.is_member else creator.c.id

    def has(self, snapshot: sa.FromClause) -> sa.ColumnElement[bool]:
        """Whether a snapshot is this subject's, by the app's own key of one."""
        whose = snapshot.c.memberId
        mine = whose == member.c.id if self.is_member else whose.is_(None)
        return sa.and_(snapshot.c.creatorId == self.owner, mine)

    def there_before(self, month: Month) -> sa.ColumnElement[bool]:
        """Whether it was there before the month ended.

        Of a creator a member tells too: a community entered into the table later than those who
        belong to it has a past all the same.
        """
        end = truth.moment(month.end)
        if self.is_member:
            return member.c.createdAt < end
        by_a_member = sa.exists().where(
            referred.c.creatorId == creator.c.id, referred.c.createdAt < end
        )
        return sa.or_(creator.c.createdAt < end, by_a_member)


def archived_in(subject: Subject, month: Month) -> sa.ColumnElement[bool]:
    """Whether the subject has a snapshot of the month."""
    return sa.exists().where(monthly_snapshot.c.month == str(month), subject.has(monthly_snapshot))


REFERRED = Counter("monthlyReferred", "monthlyReferrals", "referrals")
EARNED = Counter("monthlyEarnings", "monthlyEarnings", "cents")
SOLD = Counter("monthlyRevenue", "monthlyRevenue", "cents")

MEMBERS = Subject(
    "member", "members", member, truth.members, (REFERRED, EARNED), (REFERRED, EARNED)
)
CREATORS = Subject("creator", "creators", creator, truth.creators, (SOLD,), (REFERRED, SOLD))
