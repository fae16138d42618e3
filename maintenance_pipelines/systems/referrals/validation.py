"""Validation: whether a database counts as the webhook means it to, in three scenarios.

New referral, recurring payment, organic member: played with people made up for it, in one
transaction that is rolled back. It shows what the app's tables make of the webhook's writes
(constraints, triggers, columns that nobody expected), and can be run on a copy at any time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import Error
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.faults import describe
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.schema import commission, creator, member
from maintenance_pipelines.systems.referrals.webhook import Split, Webhook, utc_now

SALE = Split.of(4999)


@dataclass(frozen=True)
class Scenario:
    """One scenario: what should happen, whether it did, and what was seen where it did not."""

    name: str
    says: str
    passed: bool
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Seen:
    """Counters of the one who refers, the creator's revenue, and how many commissions."""

    total: int
    month: int
    lifetime: int
    earned: int
    revenue: int
    commissions: tuple[str, ...]


def validate(database: Database) -> tuple[Scenario, ...]:
    """Plays the scenarios and leaves nothing behind.

    A scenario that the database refuses has failed, and so have those after it, which build on it.
    """
    with database.transaction() as connection:
        try:
            return tuple(_Play(connection, database.schema).scenarios())
        finally:
            transaction = connection.get_transaction()
            assert transaction is not None
            transaction.rollback()


class _Play:
    def __init__(self, connection: sa.Connection, schema: str) -> None:
        self.connection, self.now = connection, utc_now()
        session = connection.connection.driver_connection
        assert session is not None
        self.webhook = Webhook(session, schema, clock=lambda: self.now)
        self.creator, self.referrer = (f"validation {uuid.uuid4().hex}" for _ in range(2))
        self.payer = ""

    def scenarios(self) -> Iterator[Scenario]:
        once = _Seen(1, 1, SALE.member, SALE.member, SALE.sale, ("initial",))
        twice = _Seen(
            1, 1, 2 * SALE.member, 2 * SALE.member, 2 * SALE.sale, ("initial", "recurring")
        )
        played = True
        for name, says, happens, wanted in (
            (
                "new_referral",
                "A new member's first payment counts one referral and pays the referrer 10 %",
                self._refer,
                once,
            ),
            (
                "recurring_payment",
                "The same member's second payment pays again and counts no referral",
                self._pay_again,
                twice,
            ),
            (
                "organic_member",
                "A payment of somebody who came by themselves changes no counter",
                self._pay_organic,
                twice,
            ),
        ):
            differences = self._play(happens, wanted) if played else ("the one before failed",)
            played = not differences
            yield Scenario(name, says, played, differences)

    def _refer(self) -> None:
        known = {"companyId": self.creator, "companyName": "Validation", "productId": "validation"}
        self.connection.execute(
            creator.insert().values(id=self.creator, updatedAt=self.now, **known)
        )
        self.webhook.sign_up(self.creator, id=self.referrer, code=self.referrer)
        self.payer = self.webhook.refer(self.creator, self.referrer, SALE.sale, f"{self.creator} 1")

    def _pay_again(self) -> None:
        for _ in range(2):  # delivered twice
            self.webhook.pay(self.payer, SALE.sale, f"{self.creator} 2")

    def _pay_organic(self) -> None:
        organic = self.webhook.sign_up(self.creator)
        self.webhook.pay(organic, SALE.sale, f"{self.creator} 3")

    def _play(self, happens: Callable[[], None], wanted: _Seen) -> tuple[str, ...]:
        """What differs from what is wanted after something has happened."""
        try:
            happens()
            seen = vars(self._look())
            differences = [
                f"{field} is {seen[field]}, not {value}"
                for field, value in vars(wanted).items()
                if seen[field] != value
            ]
            return (*differences, *self._records(wanted))
        except (DBAPIError, Error) as error:
            return (f"could not be evaluated: {describe(error)}",)

    def _look(self) -> _Seen:
        m, c = member.c, creator.c
        counters = sa.select(
            m.totalReferred.label("total"),
            m.monthlyReferred.label("month"),
            truth.cents(m.lifetimeEarnings).label("lifetime"),
            truth.cents(m.monthlyEarnings).label("earned"),
            truth.cents(c.monthlyRevenue).label("revenue"),
        ).join_from(member, creator, c.id == m.creatorId)
        row = self.connection.execute(counters.where(m.id == self.referrer)).mappings().one()
        kinds = sa.select(commission.c.paymentType).where(commission.c.memberId == self.referrer)
        return _Seen(**row, commissions=tuple(sorted(self.connection.scalars(kinds))))

    def _records(self, wanted: _Seen) -> Iterator[str]:
        """The truth as the rules have it, from the rows just written."""
        asked = sa.select(sa.literal(self.referrer).label("id")).cte("asked")
        statement = truth.members(Month.of(self.now), ignore_refunds=True, among=asked)
        row = self.connection.execute(statement).one()
        if (row.referrals, row.cents) != (wanted.month, wanted.earned):
            yield f"the records say {row.referrals} referrals and {row.cents} cents"
