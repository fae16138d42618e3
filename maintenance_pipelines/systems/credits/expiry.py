"""The job: paid credits are gone once they have expired, and only what was left of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.identifiers import object_id_of
from maintenance_pipelines.engine.job import AssetNames, Job, Outcome, Rule, Scope, Summary
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows, UpdateRows
from maintenance_pipelines.systems.credits import clock, expired
from maintenance_pipelines.systems.credits.lines import lines
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.rules import EXPIRED_OPEN, after_a_run, as_check
from maintenance_pipelines.systems.credits.schema import (
    credit_balances,
    credit_transactions,
)

Element = sa.ColumnElement[Any]


def balances(work: Work) -> sa.Select[Any]:
    """Balances without what has expired."""
    unit, lost = work.units.c, _lost(work)
    return sa.select(
        unit.position,
        unit.balance_id.label("id"),
        unit.total_balance.label("old_total_balance"),
        (unit.total_balance - lost).label("new_total_balance"),
        unit.paid_credits.label("old_paid_credits"),
        (unit.paid_credits - lost).label("new_paid_credits"),
    )


def remainders(work: Work) -> sa.Select[Any]:
    """The expired transactions, closed."""
    line = _lines(work)
    return sa.select(
        line.c.position,
        line.c.id,
        line.c.remainder.label("old_remaining_amount"),
        sa.cast(sa.literal(0), sa.Integer).label("new_remaining_amount"),
    )


def transactions(work: Work) -> sa.Select[Any]:
    """One `expiry` for each of them, the balances of a professional's following each other."""
    line = _lines(work)
    before = line.c.total_balance - line.c.lost_before
    says = sa.func.format(
        "Expired: %s of %s credits of %s", line.c.remainder, line.c.amount, line.c.day
    )
    return _recorded(work, "expiry", line, before, -line.c.remainder, says)


def given_back(work: Work) -> sa.Select[Any]:
    """The way back: a transaction against each `expiry`, from the balance as it is now.

    Nothing that the books say is deleted, whatever has happened since.
    """
    line = _lines(work)
    balance = credit_balances.c
    now = (
        sa.select(balance.total_balance)
        .where(balance.professional_id == line.c.professional_id)
        .scalar_subquery()
    )
    says = sa.func.format(
        "Expiry taken back: %s of %s credits of %s",
        line.c.remainder,
        line.c.amount,
        line.c.day,
    )
    return _recorded(work, "back", line, now + line.c.lost_before, line.c.remainder, says)


def _recorded(
    work: Work, tag: str, line: sa.FromClause, before: Element, amount: Element, says: Element
) -> sa.Select[Any]:
    types = credit_transactions.c
    numbered = Work(work.scope, work.run_id, line)
    return sa.select(
        line.c.position,
        object_id_of(numbered, tag, line.c.number).label("new_id"),
        line.c.professional_id.label("new_professional_id"),
        sa.cast("expiry", types.type.type).label("new_type"),
        amount.label("new_amount"),
        sa.cast("paid", types.credit_type.type).label("new_credit_type"),
        before.label("new_balance_before"),
        (before + amount).label("new_balance_after"),
        says.label("new_description"),
        line.c.purchase_id.label("new_purchase_id"),
    )


def _lines(work: Work) -> sa.Subquery:
    """Each expired transaction with its `number` and what its professional lost before it."""
    unit = work.units.c
    both, each = lines(
        work.units,
        id=unit.ids,
        remainder=unit.remainders,
        amount=unit.amounts,
        day=unit.days,
        purchase_id=unit.purchase_ids,
    )
    so_far: Element = sa.func.sum(each.c.remainder).over(
        partition_by=unit.position, order_by=each.c.number
    )
    return (
        sa.select(
            unit.position,
            unit.professional_id,
            unit.total_balance,
            each,
            sa.cast(so_far - each.c.remainder, sa.Integer).label("lost_before"),
        )
        .select_from(both)
        .subquery("lines")
    )


def _lost(work: Work) -> sa.ColumnElement[int]:
    """What a unit loses in all."""
    remainder: sa.ColumnElement[int] = sa.func.unnest(work.units.c.remainders).column_valued("r")
    total = sa.select(sa.func.sum(remainder)).scalar_subquery()
    return sa.cast(total, sa.Integer)


def _add_back(current: Element, before: Element, after: Element) -> Element:
    return current + before - after


def disagreeing(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
    """Professionals whose expired credits stay, since balance and transactions disagree."""
    found = expired.due(scope, None).subquery("found")
    return sa.select(found.c.professional_id).where(found.c.reason == expired.DISAGREES)


def what_expires(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """How much expires, of how many."""
    both, lost = lines(plan, credits=plan.c.remainders)
    columns: tuple[sa.ColumnElement[Any], ...] = (
        sa.func.count(plan.c.professional_id.distinct()).label("professionals"),
        sa.func.count().label("transactions"),
        sa.func.sum(lost.c.credits).label("credits"),
    )
    return sa.select(*columns).select_from(both)


def result(outcome: Outcome) -> Mapping[str, Any]:
    """The source's keys for the log's last line."""
    units = outcome.facts["professional"]
    both, lost = lines(units, credits=units.c.remainders)
    expired_now = sa.select(
        sa.func.count().label("transactions"),
        sa.func.coalesce(sa.func.sum(lost.c.credits), 0).label("credits"),
    ).select_from(both)
    row = outcome.connection.execute(expired_now).one()
    return {
        "expiredTransactions": row.transactions,
        "totalExpired": int(row.credits),
        "errorCount": outcome.failed,
    }


EXPIRED = Part(
    name="professional",
    says="professionals",
    key="professional_id",
    due=expired.due,
    writes=(
        UpdateRows(
            credit_balances,
            balances,
            stamps={"updated_at": clock.NOW},
            additive={"total_balance": _add_back, "paid_credits": _add_back},
        ),
        UpdateRows(credit_transactions, remainders, stamps={"updated_at": clock.NOW}),
        InsertRows(
            credit_transactions,
            transactions,
            stamps={"created_at": clock.NOW, "updated_at": clock.NOW},
            reversal=given_back,
        ),
    ),
    locks=(Lock(credit_balances, "professional_id", "update"),),
    recomputed=True,
    summaries=(Summary("What expires", what_expires),),
)

credit_expiry = Job(
    name="credit_expiry",
    system="credits",
    says="Paid credits are gone once they have expired",
    assets=AssetNames(
        detected="expired_credits",
        materialized="closed_credits",
        verified="verified_credit_expiry",
    ),
    schedule="0 2 * * *",
    options=CreditsOptions,
    relies_on=(credit_balances, credit_transactions),
    change=Units((EXPIRED,)),
    rules=(
        Rule(
            "balances_agree",
            "Nobody with expired credits has a balance that disagrees with the transactions",
            disagreeing,
        ),
        as_check(EXPIRED_OPEN, "error"),
        *after_a_run(EXPIRED_OPEN),
    ),
    judged_when_empty=True,
    result=result,
)
