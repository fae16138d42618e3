"""The app's webhook, as docs/referrals.md tells it ("How the webhook counts").

A simulator: the demo's data, the validation and the tests that write beside a running job use it
in the app's place. It writes rows before counters, the member before the creator, in one
transaction or in two.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[Any]
Clock = Callable[[], datetime]

PAYER = """
SELECT payer."membershipId", earner.id, earner."creatorId"
  FROM {schema}."Member" AS payer
  JOIN {schema}."Member" AS earner ON earner."referralCode" = payer."referredBy"
 WHERE payer.id = %(payer)s
"""
FIRST = """
SELECT NOT EXISTS (SELECT FROM {schema}."Commission" WHERE "whopMembershipId" = %(membership)s)
"""
SIGN_UP = """
INSERT INTO {schema}."Member" (id, "userId", "membershipId", "referralCode", email, username,
    "memberOrigin", "referredBy", "creatorId", "createdAt", "updatedAt")
VALUES (%(id)s, 'user_' || %(id)s, 'mem_' || %(id)s, %(code)s, %(id)s || '@example.com', %(name)s,
    %(origin)s, %(by)s, %(creator)s, %(at)s, %(at)s)
"""
PAID = """
INSERT INTO {schema}."Commission" (id, "whopPaymentId", "whopMembershipId", "saleAmount",
    "memberShare", "creatorShare", "platformShare", "paymentType", status, "memberId",
    "creatorId", "createdAt")
VALUES (%(id)s, %(payment)s, %(membership)s, %(sale)s, %(member)s, %(creator)s, %(platform)s,
    %(kind)s, 'paid', %(earner)s, %(community)s, %(at)s)
ON CONFLICT ("whopPaymentId") DO NOTHING
"""
MEMBER_EARNS = """
UPDATE {schema}."Member"
   SET "lifetimeEarnings" = "lifetimeEarnings" + %(member)s,
       "monthlyEarnings" = "monthlyEarnings" + %(member)s,
       "totalReferred" = "totalReferred" + %(referrals)s,
       "monthlyReferred" = "monthlyReferred" + %(referrals)s, "updatedAt" = %(at)s
 WHERE id = %(earner)s
"""
CREATOR_EARNS = """
UPDATE {schema}."Creator"
   SET "totalRevenue" = "totalRevenue" + %(sale)s, "monthlyRevenue" = "monthlyRevenue" + %(sale)s,
       "updatedAt" = %(at)s
 WHERE id = %(community)s
"""
COMMISSION = """
SELECT id, "saleAmount", "memberShare", "creatorShare", "platformShare", "memberId", "creatorId"
  FROM {schema}."Commission" WHERE "whopPaymentId" = %(payment)s
"""
REFUNDED = """
INSERT INTO {schema}."Refund" (id, "commissionId", "refundAmount", "memberShareReversed",
    "creatorShareReversed", "platformShareReversed", "createdAt")
VALUES (%(id)s, %(commission)s, %(sale)s, %(member)s, %(creator)s, %(platform)s, %(at)s)
ON CONFLICT (id) DO NOTHING
"""


@dataclass(frozen=True)
class Split:
    """A sale in cents, and who gets how much of it."""

    sale: int
    member: int
    creator: int
    platform: int

    @classmethod
    def of(cls, sale: int) -> Split:
        """10 % to the member, 70 % to the creator, to the cent; the platform has the remainder."""
        member, creator = (sale * 10 + 50) // 100, (sale * 70 + 50) // 100
        return cls(sale, member, creator, sale - member - creator)

    def amounts(self, sign: int = 1) -> dict[str, float]:
        """The four as the app stores money."""
        return {name: sign * value / 100 for name, value in vars(self).items()}


def utc_now() -> datetime:
    """The time as the app stores it: UTC without a zone, whole milliseconds."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Webhook:
    """Takes the events of one session; use one of these for each thread.

    `connection` may be inside a transaction already, which is then neither committed nor rolled
    back here. `in_two` writes counters in a second transaction, and `between` is called before
    it. Events stamped by `clock` unless they bring a time. An event that came before has no
    effect, and a crash between the two transactions leaves a row that no counter knows of.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str = "public",
        *,
        in_two: bool = False,
        between: Callable[[], None] = lambda: None,
        clock: Clock = utc_now,
    ) -> None:
        self.connection, self.in_two, self.between, self.clock = connection, in_two, between, clock
        self._schema = sql.Identifier(schema)
        self._composed: dict[str, bytes] = {}

    def sign_up(
        self,
        creator: str,
        *,
        by: str | None = None,
        id: str | None = None,
        code: str | None = None,
        name: str | None = None,
        at: datetime | None = None,
    ) -> str:
        """A member joins, by somebody's code or of their own accord; returns the new id."""
        with self.connection.transaction():
            return self._sign_up(creator, by, id, code, name, at or self.clock())

    def pay(self, payer: str, sale: int, payment: str, at: datetime | None = None) -> bool:
        """A member pays `sale` cents; the referrer and the creator are credited.

        False where nothing was counted: the payment came before, or the member came of their
        own accord.
        """
        return self._in_order(lambda: self._pay(payer, sale, payment, at or self.clock()))

    def refer(
        self, creator: str, by: str, sale: int, payment: str, at: datetime | None = None
    ) -> str:
        """Somebody joins by a code and pays at once, as one event; returns the new id."""
        new = f"c{uuid.uuid4().hex[:24]}"

        def rows() -> dict[str, Any] | None:
            moment = at or self.clock()
            self._sign_up(creator, by, new, None, None, moment)
            return self._pay(new, sale, payment, moment)

        self._in_order(rows)
        return new

    def refund(self, payment: str, at: datetime | None = None) -> bool:
        """A payment is taken back in full; False where it is unknown, or was taken back before."""
        return self._in_order(lambda: self._refund(payment, at or self.clock()))

    def _in_order(self, rows: Callable[[], dict[str, Any] | None]) -> bool:
        """Writes rows, then counters, in one transaction or in two."""
        if self.in_two:
            with self.connection.transaction():
                counted = rows()
            self.between()
            with self.connection.transaction():
                self._count(counted)
        else:
            with self.connection.transaction():
                counted = rows()
                self._count(counted)
        return counted is not None

    def _sign_up(
        self,
        creator: str,
        by: str | None,
        id: str | None,
        code: str | None,
        name: str | None,
        at: datetime,
    ) -> str:
        new = id or f"c{uuid.uuid4().hex[:24]}"
        values = {
            "id": new,
            "code": code or f"CODE-{new}",
            "name": name or f"member {new[-6:]}",
            "origin": "organic" if by is None else "referred",
            "by": by,
            "creator": creator,
            "at": at,
        }
        self._execute(SIGN_UP, values)
        return new

    def _pay(self, payer: str, sale: int, payment: str, at: datetime) -> dict[str, Any] | None:
        found = self._execute(PAYER, {"payer": payer}).fetchone()
        if found is None:
            return None
        membership, earner, community = found
        first = self._execute(FIRST, {"membership": membership}).fetchone()
        initial = first is not None and first[0]
        values = {
            "id": f"c{uuid.uuid4().hex[:24]}",
            "payment": payment,
            "membership": membership,
            "earner": earner,
            "community": community,
            "kind": "initial" if initial else "recurring",
            "referrals": int(initial),
            "at": at,
            **Split.of(sale).amounts(),
        }
        return values if self._execute(PAID, values).rowcount else None

    def _refund(self, payment: str, at: datetime) -> dict[str, Any] | None:
        found = self._execute(COMMISSION, {"payment": payment}).fetchone()
        if found is None:
            return None
        commission, *amounts, earner, community = found
        names = ("sale", "member", "creator", "platform")
        reversed_ = dict(zip(names, amounts, strict=True))
        row = {"id": f"refund {payment}", "commission": commission, "at": at, **reversed_}
        if not self._execute(REFUNDED, row).rowcount:
            return None
        taken = {name: -amount for name, amount in reversed_.items()}
        return {"earner": earner, "community": community, "referrals": 0, "at": at, **taken}

    def _count(self, values: dict[str, Any] | None) -> None:
        if values is not None:
            self._execute(MEMBER_EARNS, values)
            self._execute(CREATOR_EARNS, values)

    def _execute(self, statement: str, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        composed = self._composed.get(statement)
        if composed is None:
            composed = sql.SQL(statement).format(schema=self._schema).as_bytes(self.connection)
            self._composed[statement] = composed
        return self.connection.execute(composed, values)
