"""The job: every verified professional has exactly 100 free credits in the month that begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.identifiers import object_id_of, uuid_of
from maintenance_pipelines.engine.job import AssetNames, Job, Outcome, Rule, Scope, Summary
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.engine.months import Months
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows, UpdateRows
from maintenance_pipelines.systems.credits import clock, eligible, mails
from maintenance_pipelines.systems.credits.lines import lines
from maintenance_pipelines.systems.credits.options import CreditsOptions, options
from maintenance_pipelines.systems.credits.rules import EXPIRED_OPEN, after_a_run
from maintenance_pipelines.systems.credits.schema import (
    credit_balances,
    credit_transactions,
    pro_profiles,
    users,
)

FREE = 100
"""Free credits that everybody begins a month with."""


def new_balances(work: Work) -> sa.Select[Any]:
    """A balance row for those who have none, as the app would create it."""
    unit = work.units.c
    return sa.select(
        unit.position,
        object_id_of(work, "balance").label("new_id"),
        unit.professional_id.label("new_professional_id"),
        _number(FREE).label("new_total_balance"),
        _number(FREE).label("new_free_credits"),
        _number(0).label("new_paid_credits"),
        _number(FREE).label("new_lifetime_earned"),
        _number(0).label("new_lifetime_spent"),
        _stamp(work).label("new_last_reset_date"),
    ).where(unit.balance_id.is_(None))


def balances(work: Work) -> sa.Select[Any]:
    """The balances of all others: free credits are 100, paid ones as before."""
    unit = work.units.c
    earned = unit.lifetime_earned + sa.func.greatest(FREE - unit.free_credits, 0)
    return sa.select(
        unit.position,
        unit.balance_id.label("id"),
        unit.total_balance.label("old_total_balance"),
        (unit.paid_credits + FREE).label("new_total_balance"),
        unit.free_credits.label("old_free_credits"),
        _number(FREE).label("new_free_credits"),
        unit.lifetime_earned.label("old_lifetime_earned"),
        earned.label("new_lifetime_earned"),
        unit.last_reset_date.label("old_last_reset_date"),
        _stamp(work).label("new_last_reset_date"),
    ).where(unit.balance_id.is_not(None))


def older_remainders(work: Work) -> sa.Select[Any]:
    """What is left of older free credits is closed: first in, first out never meets it again."""
    unit = work.units.c
    both, line = lines(work.units, id=unit.open_ids, remainder=unit.open_remainders)
    return sa.select(
        unit.position,
        line.c.id,
        line.c.remainder.label("old_remaining_amount"),
        _number(0).label("new_remaining_amount"),
    ).select_from(both)


def transactions(work: Work) -> sa.Select[Any]:
    """One `monthly_reset` each, stamped within the month; by it the reset is known."""
    unit, types = work.units.c, credit_transactions.c
    free, paid = sa.func.coalesce(unit.free_credits, 0), sa.func.coalesce(unit.paid_credits, 0)
    stamp = clock.stamp(work.scope.month)
    return sa.select(
        unit.position,
        object_id_of(work, "reset").label("new_id"),
        unit.professional_id.label("new_professional_id"),
        sa.cast("monthly_reset", types.type.type).label("new_type"),
        (FREE - free).label("new_amount"),
        sa.cast("free", types.credit_type.type).label("new_credit_type"),
        sa.func.coalesce(unit.total_balance, 0).label("new_balance_before"),
        (paid + FREE).label("new_balance_after"),
        sa.literal(f"Free credits of {work.scope.month}").label("new_description"),
        _number(FREE).label("new_remaining_amount"),
        free.label("new_previous_free_credits"),
        stamp.label("new_created_at"),
        stamp.label("new_updated_at"),
    )


def notes(work: Work) -> sa.Select[Any]:
    """A note to each professional, where the options ask for one and there is none yet."""
    unit, month = work.units.c, str(work.scope.month)
    columns = mails.put(
        work,
        uuid_of(work, "note"),
        mails.RESET_NOTE,
        month,
        unit.professional_id,
        clock.end(work.scope.month),
    )
    wanted = options(work.scope).notify_reset
    told = mails.is_in_outbox(mails.RESET_NOTE, unit.professional_id, month)
    return sa.select(unit.position, *columns).where(sa.true() if wanted else sa.false(), ~told)


def no_notes(work: Work) -> sa.Select[Any]:
    """The way back of notes: what was sent was sent, and what was not is not sent any more
    once its reset is gone.
    """
    return notes(work).where(sa.false())


def not_the_last(work: Work) -> sa.Select[Any]:
    """Resets that something has followed: what came after stands on their balances."""
    ours, later = credit_transactions.alias("ours"), credit_transactions.alias("later")
    followed = sa.exists().where(
        later.c.professional_id == ours.c.professional_id,
        later.c.created_at >= ours.c.created_at,
        later.c.id != ours.c.id,
    )
    reason = sa.literal("not_the_last_transaction").label("reason")
    return (
        sa.select(work.units.c.position, reason)
        .select_from(work.units.join(ours, ours.c.id == object_id_of(work, "reset")))
        .where(followed)
    )


def nobody_eligible(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
    """The month, where nobody at all is verified: that is a fault somewhere, not a success."""
    verified = pro_profiles.c.verification_status.in_(eligible.VERIFIED)
    anybody = sa.exists().where(
        users.c.id == pro_profiles.c.user_id, users.c.role == "pro", verified
    )
    return sa.select(sa.literal(str(scope.month)).label("id")).where(~anybody)


def by_previous(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """What the professionals had left, and what the reset gives and takes."""
    free = plan.c.free_credits
    had = sa.case(
        (free.is_(None), "no balance yet"),
        (free == 0, "nothing"),
        (free < FREE, f"1 to {FREE - 1}"),
        (free == FREE, f"just {FREE}"),
        else_=f"more than {FREE}",
    ).label("free credits left")
    change = FREE - sa.func.coalesce(free, 0)
    columns: tuple[sa.ColumnElement[Any], ...] = (
        had,
        sa.func.count().label("professionals"),
        sa.func.sum(sa.func.greatest(change, 0)).label("credits given"),
        sa.func.sum(sa.func.greatest(-change, 0)).label("credits taken"),
    )
    return sa.select(*columns).select_from(plan).group_by(had).order_by(sa.func.min(free))


def result(outcome: Outcome) -> Mapping[str, Any]:
    """The source's keys for the log's last line."""
    return {
        "totalProfessionals": outcome.planned,
        "successCount": sum(outcome.applied.values()),
        "errorCount": outcome.failed,
        "errors": [
            {"id": row["professional_id"], "reason": row["error"]} for row in outcome.failures
        ],
    }


def _number(value: int) -> sa.ColumnElement[int]:
    return sa.cast(sa.literal(value), sa.Integer)


def _stamp(work: Work) -> sa.ColumnElement[Any]:
    return sa.literal(work.scope.stamp, sa.TIMESTAMP(timezone=True))


WRITES = (
    InsertRows(
        credit_balances,
        new_balances,
        stamps={"created_at": clock.NOW, "updated_at": clock.NOW},
    ),
    UpdateRows(credit_balances, balances, stamps={"updated_at": clock.NOW}),
    UpdateRows(credit_transactions, older_remainders, stamps={"updated_at": clock.NOW}),
    InsertRows(credit_transactions, transactions, kept=("created_at", "updated_at")),
    InsertRows(outbox, notes, reversal=no_notes),
)
SUMMARIES = (Summary("What was left before", by_previous),)

IN_ACCOUNT = Part(
    name="professional",
    says="professionals",
    key="professional_id",
    due=eligible.with_balance,
    writes=WRITES,
    # In the app's order: whoever spends holds the balance before referring to the user.
    locks=(
        Lock(credit_balances, "professional_id", "update"),
        Lock(users, "id", "share"),
        Lock(pro_profiles, "user_id", "share"),
    ),
    recomputed=True,
    done=frozenset({eligible.ALREADY_RESET}),
    stays=not_the_last,
    summaries=SUMMARIES,
)

WITHOUT_ACCOUNT = replace(
    IN_ACCOUNT,
    name="newcomer",
    says="professionals without a balance",
    due=eligible.without_balance,
    # There is no balance row to hold. A new one refers to its user, so the app's first look at a
    # balance and this job wait for each other there.
    locks=(
        Lock(users, "id", "update"),
        Lock(pro_profiles, "user_id", "share"),
        Lock(credit_balances, "professional_id", "update"),
    ),
)

monthly_credits_reset = Job(
    name="monthly_credits_reset",
    system="credits",
    says="Every verified professional has exactly 100 free credits",
    assets=AssetNames(
        detected="due_credit_resets",
        materialized="reset_credits",
        verified="verified_credit_resets",
    ),
    partitions=Months(since="2025-01"),
    schedule="1 0 1 * *",
    running_month_only=True,
    options=CreditsOptions,
    relies_on=(users, pro_profiles, credit_balances, credit_transactions),
    change=Units((IN_ACCOUNT, WITHOUT_ACCOUNT)),
    rules=(
        Rule(
            "somebody_is_eligible",
            "There are professionals with a verification that counts",
            nobody_eligible,
        ),
        *after_a_run(EXPIRED_OPEN),
    ),
    admit=clock.admit,
    judged_when_empty=True,
    result=result,
)
