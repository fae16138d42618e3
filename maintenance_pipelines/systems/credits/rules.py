"""The ledger's rules: what must hold of all balances and transactions, whoever wrote them.

Credits are nearly money. Each statement looks at all rows, in one statement and so at one moment:
what the app is writing meanwhile is either there as a whole or not at all.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.consistency import ConsistencyRule, Severity
from maintenance_pipelines.engine.job import Rule, Scope
from maintenance_pipelines.systems.credits.schema import credit_balances, credit_transactions

balance, transaction = credit_balances.c, credit_transactions.c
ZERO: sa.ColumnElement[int] = sa.literal_column("0")


def total_differs(scope: Scope) -> sa.Select[Any]:
    """Professionals whose total is not the sum of free and paid credits."""
    detail = sa.func.format(
        "%s in total, %s free and %s paid",
        balance.total_balance,
        balance.free_credits,
        balance.paid_credits,
    )
    return sa.select(balance.professional_id.label("id"), detail.label("detail")).where(
        balance.total_balance != balance.free_credits + balance.paid_credits
    )


def negative(scope: Scope) -> sa.Select[Any]:
    """Balances, by professional, and transactions, by id, with a number below zero."""
    of_balance = (
        balance.total_balance,
        balance.free_credits,
        balance.paid_credits,
        balance.lifetime_earned,
        balance.lifetime_spent,
    )
    of_transaction = (
        transaction.remaining_amount,
        transaction.balance_before,
        transaction.balance_after,
    )
    found = sa.union_all(
        sa.select(
            balance.professional_id.label("id"),
            sa.func.format("total %s, free %s, paid %s, earned %s, spent %s", *of_balance).label(
                "detail"
            ),
        ).where(sa.func.least(*of_balance) < 0),
        sa.select(
            transaction.id, sa.func.format("remaining %s, before %s, after %s", *of_transaction)
        ).where(sa.func.least(*of_transaction) < 0),
    ).subquery("found")
    return sa.select(found)


def remainders_differ(scope: Scope) -> sa.Select[Any]:
    """Professionals whose free or paid credits are not what their transactions have left."""
    left = open_remainders().subquery("left")
    who = sa.func.coalesce(balance.professional_id, left.c.professional_id)
    has = [sa.func.coalesce(c, 0) for c in (balance.free_credits, balance.paid_credits)]
    remains = [sa.func.coalesce(c, 0) for c in (left.c.free, left.c.paid)]
    detail = sa.func.format("%s free and %s paid, transactions have %s and %s left", *has, *remains)
    both = credit_balances.join(
        left, left.c.professional_id == balance.professional_id, isouter=True, full=True
    )
    return (
        sa.select(who.label("id"), detail.label("detail"))
        .select_from(both)
        .where(sa.or_(*(one != other for one, other in zip(has, remains, strict=True))))
    )


def amounts_differ(scope: Scope) -> sa.Select[Any]:
    """Professionals whose transactions do not add up to their total."""
    booked = (
        sa.select(transaction.professional_id, sa.func.sum(transaction.amount).label("amount"))
        .group_by(transaction.professional_id)
        .subquery("booked")
    )
    who = sa.func.coalesce(balance.professional_id, booked.c.professional_id)
    total, amount = (
        sa.func.coalesce(column, 0) for column in (balance.total_balance, booked.c.amount)
    )
    detail = sa.func.format("%s in total, transactions add up to %s", total, amount)
    both = credit_balances.join(
        booked, booked.c.professional_id == balance.professional_id, isouter=True, full=True
    )
    return (
        sa.select(who.label("id"), detail.label("detail")).select_from(both).where(total != amount)
    )


def step_differs(scope: Scope) -> sa.Select[Any]:
    """Transactions whose balances are not their amount apart."""
    detail = sa.func.format(
        "from %s to %s by %s",
        transaction.balance_before,
        transaction.balance_after,
        transaction.amount,
    )
    apart = transaction.balance_after - transaction.balance_before
    return sa.select(transaction.id, detail.label("detail")).where(apart != transaction.amount)


def chain_open(scope: Scope) -> sa.Select[Any]:
    """Professionals whose running balances do not follow each other from zero to the total.

    Whatever order the stamps suggest, since a spend that waited for a lock is stamped before it
    happened: every balance that a transaction leaves has to be where another one arrived. Who is
    to be looked at more closely is told by sums of 64-bit hashes, which one scan adds up.
    """

    def hashed(value: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
        return sa.func.hashint4extended(value, ZERO)

    def summed(value: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
        return sa.func.sum(hashed(value))  # NUMERIC: it cannot overflow

    step = summed(transaction.balance_before) - summed(transaction.balance_after)
    booked = (
        sa.select(transaction.professional_id, step.label("steps"))
        .group_by(transaction.professional_id)
        .subquery("booked")
    )
    both = credit_balances.join(
        booked, booked.c.professional_id == balance.professional_id, isouter=True, full=True
    )
    total = sa.func.coalesce(balance.total_balance, ZERO)
    end = sa.cast(hashed(total), sa.Numeric) - hashed(ZERO)
    suspect = (
        sa.select(sa.func.coalesce(balance.professional_id, booked.c.professional_id).label("id"))
        .select_from(both)
        .where(sa.func.coalesce(booked.c.steps, 0) + end != 0)
        .cte("suspect")
    )

    def point(
        who: sa.ColumnElement[str], value: sa.ColumnElement[int], sign: int
    ) -> sa.Select[Any]:
        times: sa.ColumnElement[Any] = sa.literal_column(str(sign))
        columns = (who.label("id"), value.label("value"), times.label("times"))
        return sa.select(*columns).where(who.in_(sa.select(suspect.c.id)))

    points = sa.union_all(
        point(transaction.professional_id, transaction.balance_before, 1),
        point(transaction.professional_id, transaction.balance_after, -1),
        point(balance.professional_id, balance.total_balance, 1),
        point(balance.professional_id, ZERO, -1),
    ).subquery("point")
    unmet = (
        sa.select(points.c.id, points.c.value)
        .group_by(points.c.id, points.c.value)
        .having(sa.func.sum(points.c.times) != 0)
        .subquery("unmet")
    )
    detail = sa.func.format("does not close at a balance of %s", sa.func.min(unmet.c.value))
    return sa.select(unmet.c.id, detail.label("detail")).group_by(unmet.c.id)


def reset_twice(scope: Scope) -> sa.Select[Any]:
    """Professionals with two resets in a month of UTC."""
    month = sa.func.to_char(sa.func.timezone("UTC", transaction.created_at), "YYYY-MM")
    again = (
        sa.select(transaction.professional_id.label("id"), month.label("month"))
        .where(transaction.type == "monthly_reset")
        .group_by(transaction.professional_id, month)
        .having(sa.func.count() > 1)
        .subquery("again")
    )
    detail = sa.func.format("reset more than once in %s", sa.func.min(again.c.month))
    return sa.select(again.c.id, detail.label("detail")).group_by(again.c.id)


def expired_open(scope: Scope) -> sa.Select[Any]:
    """Transactions with paid credits left whose expiry had come at the scope's moment."""
    detail = sa.func.format(
        "%s credits of professional %s should have expired",
        transaction.remaining_amount,
        transaction.professional_id,
    )
    return sa.select(transaction.id, detail.label("detail")).where(
        transaction.credit_type == "paid",
        transaction.remaining_amount > 0,
        transaction.expires_at <= scope.as_of,
    )


def never_expires(scope: Scope) -> sa.Select[Any]:
    """Transactions that gave paid credits without an expiry."""
    detail = sa.func.format("%s paid credits that never expire", transaction.amount)
    return sa.select(transaction.id, detail.label("detail")).where(
        transaction.credit_type == "paid",
        transaction.type.in_(("purchase", "refund", "bonus")),
        transaction.expires_at.is_(None),
    )


def open_remainders() -> sa.Select[Any]:
    """By `professional_id`, of those who have any: what is left of `free` and `paid` credits."""

    def left(kind: str) -> sa.ColumnElement[int]:
        return sa.func.sum(transaction.remaining_amount).filter(transaction.credit_type == kind)

    columns: tuple[sa.ColumnElement[Any], ...] = (
        transaction.professional_id,
        left("free").label("free"),
        left("paid").label("paid"),
    )
    open_ones = sa.select(*columns).where(transaction.remaining_amount != 0)
    return open_ones.group_by(transaction.professional_id)


EXPIRED_OPEN = ConsistencyRule(
    "expired_credits_closed",
    "No paid credits are left whose expiry has come",
    expired_open,
    "warning",
)
"""A warning by itself, since credits are open until the day's run; an error after that run."""

RULES = (
    ConsistencyRule(
        "total_is_free_plus_paid", "Every total is the free and the paid credits", total_differs
    ),
    ConsistencyRule("nothing_negative", "No balance and no remainder is below zero", negative),
    ConsistencyRule(
        "balances_equal_remainders",
        "Free and paid credits are what their transactions have left",
        remainders_differ,
    ),
    ConsistencyRule(
        "amounts_add_up", "A professional's transactions add up to the total", amounts_differ
    ),
    ConsistencyRule(
        "amounts_are_steps", "Every transaction's balances are its amount apart", step_differs
    ),
    ConsistencyRule(
        "balances_chain",
        "A professional's running balances lead from zero to the total without a gap",
        chain_open,
    ),
    ConsistencyRule("one_reset_a_month", "Nobody was reset twice in one month", reset_twice),
    EXPIRED_OPEN,
    ConsistencyRule(
        "paid_credits_expire", "All paid credits have an expiry", never_expires, "warning"
    ),
)


def after_a_run(*without: ConsistencyRule) -> tuple[Rule, ...]:
    """The rules as checks of a job's run, over all rows too."""
    return tuple(as_check(rule, rule.severity) for rule in RULES if rule not in without)


def as_check(rule: ConsistencyRule, severity: Severity) -> Rule:
    """A rule as a check of a job's run."""

    def offenders(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
        return sa.select(rule.offenders(scope).subquery("broken").c.id)

    return Rule(rule.name, rule.says, offenders, severity)
