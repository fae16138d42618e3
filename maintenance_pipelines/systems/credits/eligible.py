"""Who gets the free credits of a month, compared with what is there: one statement.

`reset.py` says what is written for them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.credits import clock
from maintenance_pipelines.systems.credits.schema import (
    credit_balances,
    credit_transactions,
    pro_profiles,
    users,
)

VERIFIED = ("basic", "comprehensive")
ALREADY_RESET, DISAGREES = "already_reset", "balance_disagrees"

transaction = credit_transactions.c


def with_balance(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """The professionals that have a balance row; those of `among`, whether they have one or not.

    Columns: `professional_id`; the balance as it is before, all NULL where there is none; the
    older free transactions with something left, `open_ids` and `open_remainders`; `reason`.
    """
    if among is not None:
        return _among(scope, among)
    return _everywhere(scope).where(credit_balances.c.id.is_not(None))


def without_balance(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """As `with_balance`, the professionals that have no balance row."""
    if among is not None:
        return _among(scope, among)
    return _everywhere(scope).where(credit_balances.c.id.is_(None))


def _everywhere(scope: Scope) -> sa.Select[Any]:
    """By one scan of each table, and hash joins."""
    left = (
        sa.select(transaction.professional_id, *_open())
        .where(_is_open())
        .group_by(transaction.professional_id)
        .subquery("left")
    )
    done = sa.select(transaction.professional_id).where(_is_reset(scope.month)).distinct()
    reset = done.subquery("reset")
    people = (
        pro_profiles.join(users, users.c.id == pro_profiles.c.user_id)
        .outerjoin(credit_balances, credit_balances.c.professional_id == users.c.id)
        .outerjoin(left, left.c.professional_id == users.c.id)
        .outerjoin(reset, reset.c.professional_id == users.c.id)
    )
    is_reset = reset.c.professional_id.is_not(None)
    return _select(scope, is_reset, left).select_from(people)


def _among(scope: Scope, among: sa.FromClause) -> sa.Select[Any]:
    """By the tables' indexes: an aggregate in a lateral subquery can't be a scan."""
    asked = among.alias("asked")
    mine = transaction.professional_id == asked.c.professional_id
    left = sa.select(*_open()).where(mine, _is_open()).correlate(asked).lateral("left")
    is_reset = sa.exists().where(mine, _is_reset(scope.month)).correlate(asked)
    people = (
        asked.join(users, users.c.id == asked.c.professional_id)
        .join(pro_profiles, pro_profiles.c.user_id == users.c.id)
        .outerjoin(credit_balances, credit_balances.c.professional_id == users.c.id)
        .join(left, sa.true())
    )
    return _select(scope, is_reset, left).select_from(people)


def _select(scope: Scope, is_reset: sa.ColumnElement[bool], left: sa.FromClause) -> sa.Select[Any]:
    balance = credit_balances.c
    reason = sa.case(
        (is_reset, ALREADY_RESET),
        (~clock.is_running(scope.month), "month_is_over"),
        (users.c.role != "pro", "not_a_professional"),
        (pro_profiles.c.verification_status.not_in(VERIFIED), "not_verified"),
        (balance.total_balance != balance.free_credits + balance.paid_credits, DISAGREES),
        else_=sa.null(),
    )
    return sa.select(
        users.c.id.label("professional_id"),
        balance.id.label("balance_id"),
        balance.total_balance,
        balance.free_credits,
        balance.paid_credits,
        balance.lifetime_earned,
        balance.last_reset_date,
        left.c.open_ids,
        left.c.open_remainders,
        sa.cast(reason, sa.Text).label("reason"),
    )


def _open() -> tuple[sa.ColumnElement[Any], ...]:
    """The open transactions of one professional as two arrays, in the same order."""
    return (
        sa.func.array_agg(aggregate_order_by(transaction.id, transaction.id)).label("open_ids"),
        sa.func.array_agg(aggregate_order_by(transaction.remaining_amount, transaction.id)).label(
            "open_remainders"
        ),
    )


def _is_open() -> sa.ColumnElement[bool]:
    return sa.and_(transaction.credit_type == "free", transaction.remaining_amount > 0)


def _is_reset(month: Month) -> sa.ColumnElement[bool]:
    stamped = clock.within(month, transaction.created_at)
    return sa.and_(transaction.type == "monthly_reset", stamped)
