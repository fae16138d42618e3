"""Diagnosis: a month's credits on one page, for whoever wants to know whether all is well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.consistency import Consistency
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.engine.tables import table
from maintenance_pipelines.systems.credits import clock
from maintenance_pipelines.systems.credits.eligible import VERIFIED
from maintenance_pipelines.systems.credits.rules import RULES
from maintenance_pipelines.systems.credits.schema import (
    credit_balances,
    credit_transactions,
    pro_profiles,
    users,
)

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Booked:
    """The month's transactions of one type: how many, and the credits they come to."""

    type: str
    count: int
    credits: int


@dataclass(frozen=True)
class Credits:
    """What everybody has together: free and paid; of the paid, expired and about to expire."""

    free: int
    paid: int
    expired: int
    expiring: int


@dataclass(frozen=True)
class Diagnosis:
    """All that is known of a month. `verified` and `credits` are as of now, whatever the month."""

    month: Month
    running: bool
    verified: int
    reset: int
    booked: tuple[Booked, ...]
    credits: Credits
    consistency: Consistency

    @property
    def verdict(self) -> str:
        """The state of the month in one sentence."""
        broken = sum(not finding.passed for finding in self.consistency.findings)
        if not broken:
            return "Everything is right."
        state = "Something is odd, nothing is wrong" if self.consistency.valid else "Wrong"
        return f"{state}: {broken} of {len(RULES)} rules do not hold."

    @property
    def to_do(self) -> tuple[str, ...]:
        """What to run next; empty where there is nothing to do."""
        steps = []
        if self.running and self.verified > self.reset:
            steps.append(
                f"`./maintenance run monthly_credits_reset --partition {self.month}`:"
                f" {self.reset:,} of {self.verified:,} verified professionals were reset"
            )
        if self.credits.expired:
            steps.append(
                f"`./maintenance run credit_expiry`: {self.credits.expired:,} expired credits"
                " are still counted"
            )
        return tuple(steps)

    def json(self) -> dict[str, Any]:
        """The diagnosis as one object: the consistency answer, and what it stands on."""
        return {
            **self.consistency.json(),
            "month": str(self.month),
            "verifiedProfessionals": self.verified,
            "resetProfessionals": self.reset,
            "transactions": [vars(one) for one in self.booked],
            "freeCredits": self.credits.free,
            "paidCredits": self.credits.paid,
            "expiredCredits": self.credits.expired,
            "creditsExpiringWithinAWeek": self.credits.expiring,
            "verdict": self.verdict,
            "next": list(self.to_do),
        }

    def markdown(self) -> str:
        """The diagnosis as a report."""
        to_do = "\n".join(f"{number}. {step}" for number, step in enumerate(self.to_do, 1))
        findings = self.consistency.findings
        rules = [
            (f.rule.name, f.severity, f"{f.count:,}", f.failure or f.rule.says) for f in findings
        ]
        offenders = [(f.rule.name, one.id, one.detail) for f in findings for one in f.first]
        parts = [
            f"# Credits in {self.month}",
            f"**{self.verdict}**",
            f"**What to do next**\n\n{to_do or 'Nothing.'}",
            f"Reset in {self.month}: **{self.reset:,}** of {self.verified:,} professionals who"
            " are verified now.",
            f"Counted now: **{self.credits.free:,}** free and **{self.credits.paid:,}** paid"
            f" credits; of the paid ones {self.credits.expired:,} have expired and"
            f" {self.credits.expiring:,} expire within a week.",
            table(
                f"Transactions of {self.month}",
                ["type", "count", "credits"],
                [(one.type, f"{one.count:,}", f"{one.credits:,}") for one in self.booked],
            ),
            table("Rules", ["rule", "severity", "broken by", "says"], rules),
            table("The first offenders", ["rule", "id", "what"], offenders),
        ]
        return "\n\n".join(parts) + "\n"


def diagnose(database: Database, scope: Scope) -> Diagnosis:
    """The diagnosis of the scope's month, or of the running one without a partition.

    Refuses a month that has not begun at the scope's moment.
    """
    running = Month.of(scope.as_of.astimezone(UTC))
    month = running if scope.partition is None else scope.month
    if month > running:
        raise BadInput(f"Month {month} is in the future; the running month is {running}.")
    with database.analysis() as connection:
        verified = connection.execute(_verified()).scalar_one()
        booked = tuple(Booked(*row) for row in connection.execute(_booked(month)))
        credits = Credits(*connection.execute(_credits(scope)).one())
    reset = sum(one.count for one in booked if one.type == "monthly_reset")
    found = consistency.judge(database, scope, RULES)
    return Diagnosis(month, month == running, verified, reset, booked, credits, found)


def _verified() -> sa.Select[Any]:
    return (
        sa.select(sa.func.count())
        .select_from(users.join(pro_profiles, pro_profiles.c.user_id == users.c.id))
        .where(users.c.role == "pro", pro_profiles.c.verification_status.in_(VERIFIED))
    )


def _booked(month: Month) -> sa.Select[Any]:
    transaction = credit_transactions.c
    columns: tuple[sa.ColumnElement[Any], ...] = (
        sa.cast(transaction.type, sa.Text).label("type"),
        sa.func.count().label("count"),
        sa.func.sum(transaction.amount).label("credits"),
    )
    return (
        sa.select(*columns)
        .where(clock.within(month, transaction.created_at))
        .group_by(transaction.type)
        .order_by(transaction.type)
    )


def _credits(scope: Scope) -> sa.Select[Any]:
    balance, transaction = credit_balances.c, credit_transactions.c
    paid = sa.select(sa.func.coalesce(sa.func.sum(transaction.remaining_amount), 0)).where(
        transaction.credit_type == "paid", transaction.remaining_amount > 0
    )
    expires = transaction.expires_at
    expired = paid.where(expires <= scope.as_of)
    expiring = paid.where(expires > scope.as_of, expires <= scope.as_of + WEEK)
    return sa.select(
        sa.func.coalesce(sa.func.sum(balance.free_credits), 0),
        sa.func.coalesce(sa.func.sum(balance.paid_credits), 0),
        expired.scalar_subquery(),
        expiring.scalar_subquery(),
    )
