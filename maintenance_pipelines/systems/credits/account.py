"""One professional's account, kept in memory as the app's service keeps it in the database.

The demo's story is told with it: every call appends the rows that the service would have written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from maintenance_pipelines.systems.credits.app import PRICE, WELCOME, months_after

Row = dict[str, Any]
NewId = Callable[[datetime], str]
MONTHLY = 100


@dataclass
class Account:
    """A balance row, and the transactions and purchases that led to it."""

    professional: str
    new_id: NewId
    balance: Row = field(default_factory=dict)
    transactions: list[Row] = field(default_factory=list)
    purchases: list[Row] = field(default_factory=list)

    def look(self, at: datetime) -> None:
        """The first look: 100 free credits."""
        self.balance = {
            "id": self.new_id(at),
            "professional_id": self.professional,
            "total_balance": 0,
            "free_credits": 0,
            "paid_credits": 0,
            "lifetime_earned": 0,
            "lifetime_spent": 0,
            "last_purchase_at": None,
            "last_spend_at": None,
            "last_reset_date": at,
            "created_at": at,
            "updated_at": at,
        }
        self._earn("bonus", WELCOME, at, "Welcome: free credits")

    def spend(self, amount: int, at: datetime, stamped: datetime | None = None) -> bool:
        """Free credits first, then paid ones, the oldest first; False where that is refused.

        `stamped` is when the request came, where it had to wait until `at`.
        """
        open_ones = self._spendable(at)
        if sum(row["remaining_amount"] for row in open_ones) < amount:
            return False
        missing = amount
        before = self.balance["total_balance"]
        for row in open_ones:
            taken = min(row["remaining_amount"], missing)
            row["remaining_amount"] -= taken
            self._add(row["credit_type"], -taken, at)
            missing -= taken
        self.balance |= {"last_spend_at": stamped or at}
        self.balance["lifetime_spent"] += amount
        self._record("spend", "paid", -amount, before, stamped or at, "Claimed a lead")
        return True

    def purchase(self, credits: int, at: datetime, expires: datetime | None = None) -> Row:
        """Buys credits that expire after six months, or at `expires`; returns the transaction."""
        expires = expires or months_after(at)
        id_ = self.new_id(at)
        bought = {
            "package_id": f"package_{credits}",
            "price_aed": credits * PRICE,
            "stripe_payment_intent_id": f"pi_{id_}",
        }
        made = {"expires_at": expires, "created_at": at, "updated_at": at}
        self.purchases.append(
            {"id": id_, "professional_id": self.professional, "credits": credits}
            | {"stripe_session_id": f"cs_{id_}", "status": "completed"}
            | bought
            | made
        )
        self.balance["last_purchase_at"] = at
        row = self._earn("purchase", credits, at, f"Bought {credits} credits")
        row |= {"purchase_id": id_, "expires_at": expires} | bought
        return row

    def refund(self, credits: int, at: datetime) -> Row:
        """Paid credits given back, with an expiry of their own; returns the transaction."""
        row = self._earn("refund", credits, at, f"{credits} credits given back")
        row["expires_at"] = months_after(at)
        return row

    def bonus(self, credits: int, at: datetime) -> Row:
        """Free credits on top; returns the transaction."""
        return self._earn("bonus", credits, at, f"A bonus of {credits} credits")

    def reset(self, at: datetime) -> Row:
        """A reset by hand, rightly done; returns the transaction."""
        before, free = self.balance["total_balance"], self.balance["free_credits"]
        for row in self.transactions:
            if row["credit_type"] == "free":
                row["remaining_amount"] = 0
        self._add("free", MONTHLY - free, at)
        self.balance["last_reset_date"] = at
        self.balance["lifetime_earned"] += max(MONTHLY - free, 0)
        says = f"Free credits of {at:%B %Y}"
        row = self._record("monthly_reset", "free", MONTHLY - free, before, at, says)
        row |= {"remaining_amount": MONTHLY, "previous_free_credits": free}
        return row

    def _spendable(self, at: datetime) -> list[Row]:
        open_ones = [
            row
            for row in self.transactions
            if row["remaining_amount"] > 0
            and (
                row["credit_type"] == "free" or row["expires_at"] is None or row["expires_at"] > at
            )
        ]
        return sorted(
            open_ones, key=lambda row: (row["credit_type"] == "paid", row["created_at"], row["id"])
        )

    def _earn(self, type_: str, amount: int, at: datetime, says: str) -> Row:
        before = self.balance["total_balance"]
        kind = "free" if type_ == "bonus" else "paid"
        self._add(kind, amount, at)
        self.balance["lifetime_earned"] += amount
        row = self._record(type_, kind, amount, before, at, says)
        row["remaining_amount"] = amount
        return row

    def _add(self, kind: str, amount: int, at: datetime) -> None:
        self.balance[f"{kind}_credits"] += amount
        self.balance["total_balance"] += amount
        self.balance["updated_at"] = at

    def _record(
        self, type_: str, kind: str, amount: int, before: int, at: datetime, says: str
    ) -> Row:
        row: Row = {
            "id": self.new_id(at),
            "professional_id": self.professional,
            "type": type_,
            "amount": amount,
            "credit_type": kind,
            "balance_before": before,
            "balance_after": before + amount,
            "description": says,
            "expires_at": None,
            "remaining_amount": 0,
            "package_id": None,
            "purchase_id": None,
            "stripe_payment_intent_id": None,
            "price_aed": None,
            "previous_free_credits": None,
            "created_at": at,
            "updated_at": at,
        }
        self.transactions.append(row)
        return row
