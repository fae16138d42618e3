"""The app's credit service, as docs/credits.md tells it ("How the app uses them").

A simulator: tests that write beside a running job use it in the app's place. Every call is one
transaction that locks the balance row before it reads, as the app's does; the moment that it is
stamped with is that of the call, before any wait for the lock.
"""

from __future__ import annotations

import secrets
import time
from calendar import monthrange
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[Any]
Clock = Callable[[], datetime]

WELCOME = 100
"""Free credits of somebody whose balance is looked at for the first time."""
VALID_MONTHS = 6
"""Calendar months from a purchase to its expiry."""
PRICE = Decimal("9.50")
"""AED for one credit."""

SIGN_UP = """
WITH person AS (
    INSERT INTO {schema}.users (id, email, role, created_at, updated_at)
    VALUES (%(id)s, %(id)s || '@example.com', %(role)s, %(at)s, %(at)s) RETURNING id)
INSERT INTO {schema}.pro_profiles (user_id, business_name, verification_status)
SELECT id, 'Business ' || id, %(verification)s FROM person
"""
VERIFY = """
UPDATE {schema}.pro_profiles SET verification_status = %(verification)s
 WHERE user_id = %(professional)s
"""
FIRST_LOOK = """
INSERT INTO {schema}.credit_balances (id, professional_id, total_balance, free_credits,
    lifetime_earned, last_reset_date, created_at, updated_at)
VALUES (%(balance)s, %(professional)s, %(amount)s, %(amount)s, %(amount)s, %(at)s, %(at)s, %(at)s)
ON CONFLICT (professional_id) DO NOTHING
"""
BALANCE = """
SELECT total_balance, free_credits, paid_credits FROM {schema}.credit_balances
 WHERE professional_id = %(professional)s FOR UPDATE
"""
SPENDABLE = """
SELECT id, remaining_amount, credit_type = 'free' FROM {schema}.credit_transactions
 WHERE professional_id = %(professional)s AND remaining_amount > 0
   AND (credit_type = 'free' OR expires_at IS NULL OR expires_at > %(at)s)
 ORDER BY credit_type = 'paid', created_at, id
"""
TAKE = """
UPDATE {schema}.credit_transactions
   SET remaining_amount = remaining_amount - %(taken)s, updated_at = %(at)s WHERE id = %(id)s
"""
SPENT = """
UPDATE {schema}.credit_balances
   SET total_balance = total_balance - %(free)s - %(paid)s, free_credits = free_credits - %(free)s,
       paid_credits = paid_credits - %(paid)s, last_spend_at = %(at)s, updated_at = %(at)s,
       lifetime_spent = lifetime_spent + %(free)s + %(paid)s
 WHERE professional_id = %(professional)s
"""
GRANTED = """
UPDATE {schema}.credit_balances
   SET total_balance = total_balance + %(amount)s, free_credits = free_credits + %(free)s,
       paid_credits = paid_credits + %(amount)s - %(free)s, updated_at = %(at)s,
       last_purchase_at = coalesce(%(purchased_at)s, last_purchase_at),
       lifetime_earned = lifetime_earned + %(amount)s
 WHERE professional_id = %(professional)s
"""
PURCHASE = """
INSERT INTO {schema}.credit_purchases (id, professional_id, package_id, credits, price_aed,
    stripe_payment_intent_id, stripe_session_id, status, expires_at, created_at, updated_at)
VALUES (%(purchase)s, %(professional)s, 'package_' || %(amount)s, %(amount)s, %(price)s,
    'pi_' || %(purchase)s, 'cs_' || %(purchase)s, 'completed', %(expires)s, %(at)s, %(at)s)
"""
TRANSACTION = """
INSERT INTO {schema}.credit_transactions (id, professional_id, type, amount, credit_type,
    balance_before, balance_after, description, expires_at, remaining_amount, lead_id, purchase_id,
    created_at, updated_at)
VALUES (%(id)s, %(professional)s, %(type)s, %(amount)s, %(kind)s, %(before)s,
    %(before)s + %(amount)s, %(says)s, %(expires)s, %(remaining)s, %(lead)s, %(purchase)s,
    %(at)s, %(at)s)
"""


@dataclass(frozen=True)
class Balance:
    """What a professional has."""

    total: int
    free: int
    paid: int


class Refused(Exception):
    """The service refuses a spend: its transaction is rolled back."""


def utc_now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """24 hexadecimal digits that nobody else has, growing with the time."""
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


def months_after(moment: datetime, months: int = VALID_MONTHS) -> datetime:
    """The same time of day so many calendar months later, in UTC.

    On the same day of the month, or on the last one where that month is shorter: six months after
    31 August is 28 February, or the 29th in a leap year.
    """
    utc = moment.astimezone(UTC)
    index = utc.year * 12 + utc.month - 1 + months
    year, month = index // 12, index % 12 + 1
    return utc.replace(year=year, month=month, day=min(utc.day, monthrange(year, month)[1]))


class CreditService:
    """Takes the requests of one session; use one of these for each thread.

    `clock` stamps what happens. `holding` is called with the balance row locked and nothing
    written yet, for tests that want something to happen just then.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str = "public",
        *,
        clock: Clock = utc_now,
        holding: Callable[[], None] = lambda: None,
    ) -> None:
        self.connection, self.clock, self.holding = connection, clock, holding
        self._schema = sql.Identifier(schema)
        self._composed: dict[str, bytes] = {}

    def sign_up(
        self, verification: str = "basic", *, role: str = "pro", id: str | None = None
    ) -> str:
        """Somebody becomes a professional; no balance yet. Returns the new id."""
        new = id or new_id()
        values = {"id": new, "role": role, "verification": verification, "at": self.clock()}
        with self.connection.transaction():
            self._execute(SIGN_UP, values)
        return new

    def verify(self, professional: str, verification: str) -> None:
        """A professional's verification becomes another."""
        with self.connection.transaction():
            self._execute(VERIFY, {"professional": professional, "verification": verification})

    def look(self, professional: str) -> Balance:
        """The balance; the first look at it creates it with 100 free credits."""
        with self._account(professional, self.clock()) as balance:
            return balance

    def spend(self, professional: str, amount: int, lead: str | None = None) -> bool:
        """Spends credits: free ones first, then paid ones, each the oldest first.

        False where it is refused, and then nothing has changed: the balance or what may still be
        spent of it is less, or the balance's validator does not allow what would come of it.
        """
        at = self.clock()
        try:
            with self._account(professional, at) as balance:
                self._spend(professional, amount, lead, balance, at)
        except (Refused, psycopg.errors.CheckViolation):
            return False
        return True

    def purchase(self, professional: str, credits: int) -> str:
        """Buys credits that are valid for six calendar months; returns the transaction's id."""
        at, purchase = self.clock(), new_id()
        with self._account(professional, at) as balance:
            bought = {"purchase": purchase, "expires": months_after(at)}
            values = {"professional": professional, "amount": credits, "at": at, **bought}
            self._execute(PURCHASE, {**values, "price": credits * PRICE})
            return self._grant("purchase", balance, values, f"Bought {credits} credits")

    def refund(self, professional: str, credits: int) -> str:
        """Gives paid credits back, with an expiry of their own; returns the transaction's id."""
        at = self.clock()
        with self._account(professional, at) as balance:
            values = {"professional": professional, "amount": credits, "at": at}
            back = {**values, "expires": months_after(at)}
            return self._grant("refund", balance, back, f"{credits} credits given back")

    def bonus(self, professional: str, credits: int) -> str:
        """Gives free credits; returns the transaction's id."""
        at = self.clock()
        with self._account(professional, at) as balance:
            values = {"professional": professional, "amount": credits, "at": at}
            return self._grant("bonus", balance, values, f"A bonus of {credits} credits")

    @contextmanager
    def _account(self, professional: str, at: datetime) -> Iterator[Balance]:
        """A transaction that holds the professional's balance row, created where it was not."""
        with self.connection.transaction():
            values = {"professional": professional, "amount": WELCOME, "at": at}
            if self._execute(FIRST_LOOK, {**values, "balance": new_id()}).rowcount:
                self._record("bonus", 0, values, "Welcome: free credits")
            row = self._execute(BALANCE, {"professional": professional}).fetchone()
            assert row is not None, "a balance is never deleted"
            self.holding()
            yield Balance(*row)

    def _spend(
        self, professional: str, amount: int, lead: str | None, balance: Balance, at: datetime
    ) -> None:
        if balance.total < amount:
            raise Refused
        found = self._execute(SPENDABLE, {"professional": professional, "at": at}).fetchall()
        taken, missing = {True: 0, False: 0}, amount
        for id_, remaining, free in found:
            part = min(remaining, missing)
            if part:
                self._execute(TAKE, {"id": id_, "taken": part, "at": at})
            taken[free] += part
            missing -= part
        if missing:
            raise Refused
        values = {"professional": professional, "amount": -amount, "at": at, "lead": lead}
        self._execute(SPENT, {**values, "free": taken[True], "paid": taken[False]})
        self._record("spend", balance.total, values, "Claimed a lead")

    def _grant(self, type_: str, balance: Balance, values: dict[str, Any], says: str) -> str:
        free = values["amount"] if type_ == "bonus" else 0
        bought = values["at"] if type_ == "purchase" else None
        self._execute(GRANTED, {**values, "free": free, "purchased_at": bought})
        return self._record(type_, balance.total, values, says)

    def _record(self, type_: str, before: int, values: dict[str, Any], says: str) -> str:
        new = {
            "id": new_id(),
            "type": type_,
            # Whatever was spent: the app does not keep them apart.
            "kind": "free" if type_ == "bonus" else "paid",
            "before": before,
            "says": says,
            "remaining": max(values["amount"], 0),
            "expires": None,
            "lead": None,
            "purchase": None,
        }
        self._execute(TRANSACTION, {**new, **values})
        return str(new["id"])

    def _execute(self, statement: str, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        composed = self._composed.get(statement)
        if composed is None:
            composed = sql.SQL(statement).format(schema=self._schema).as_bytes(self.connection)
            self._composed[statement] = composed
        return self.connection.execute(composed, values)
