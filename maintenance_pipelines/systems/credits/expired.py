"""Whose paid credits have expired with something left: one statement.

`expiry.py` says what is written for them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.credits.schema import credit_balances, credit_transactions

DISAGREES = "balance_disagrees"

transaction = credit_transactions.c


def due(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Every professional with expired paid credits, and the expired transactions as arrays.

    Columns: `professional_id`; the balance before; `ids`, `remainders`, `amounts`, `days` (when the
    credits were given) and `purchase_ids` of the transactions, the first to expire first; `reason`.
    Whose paid credits are not just what all paid transactions have left is left alone: which of the
    two is wrong, a person has to say.
    """
    subject = _holders(scope) if among is None else among.alias("asked")
    who = subject.c.professional_id
    mine = transaction.professional_id == who
    # By index for each: an aggregate in a lateral subquery can't be a scan.
    expired = (
        sa.select(*_arrays()).where(mine, has_expired(scope)).correlate(subject).lateral("expired")
    )
    paid = (
        sa.select(sa.func.sum(transaction.remaining_amount).label("remainders"))
        .where(mine, transaction.credit_type == "paid", transaction.remaining_amount != 0)
        .correlate(subject)
        .lateral("paid")
    )
    balance = credit_balances.c
    agrees = sa.and_(
        balance.paid_credits == paid.c.remainders,
        balance.total_balance == balance.free_credits + balance.paid_credits,
    )
    reason = sa.case((agrees, sa.null()), else_=DISAGREES)
    found = (
        subject.join(expired, expired.c.ids.is_not(None))
        .join(paid, sa.true())
        .outerjoin(credit_balances, balance.professional_id == who)
    )
    return sa.select(
        who.label("professional_id"),
        balance.id.label("balance_id"),
        balance.total_balance,
        balance.paid_credits,
        *expired.c,
        sa.cast(reason, sa.Text).label("reason"),
    ).select_from(found)


def has_expired(scope: Scope) -> sa.ColumnElement[bool]:
    """Whether a transaction's paid credits have come to their expiry with something left."""
    return sa.and_(
        transaction.credit_type == "paid",
        transaction.remaining_amount > 0,
        transaction.expires_at <= scope.as_of,
    )


def _holders(scope: Scope) -> sa.Subquery:
    """The professionals who have any."""
    return sa.select(transaction.professional_id).where(has_expired(scope)).distinct().subquery()


def _arrays() -> tuple[sa.ColumnElement[Any], ...]:
    """The expired transactions of one professional, each column as an array in the same order."""

    in_utc = sa.func.timezone("UTC", transaction.created_at)

    def array(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
        order = (transaction.expires_at, transaction.id)
        return sa.func.array_agg(aggregate_order_by(column, *order)).label(name)

    return (
        array(transaction.id, "ids"),
        array(transaction.remaining_amount, "remainders"),
        array(transaction.amount, "amounts"),
        array(sa.func.to_char(in_utc, "YYYY-MM-DD", type_=sa.Text), "days"),
        array(transaction.purchase_id, "purchase_ids"),
    )
