"""The job: whose paid credits expire within a week has a warning in the outbox.

Nothing is sent here: the warning is sent from the outbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from maintenance_pipelines.engine.identifiers import uuid_of
from maintenance_pipelines.engine.job import AssetNames, Job, Outcome, Scope, Summary
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.engine.units import Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows
from maintenance_pipelines.systems.credits import mails
from maintenance_pipelines.systems.credits.lines import lines
from maintenance_pipelines.systems.credits.options import CreditsOptions
from maintenance_pipelines.systems.credits.schema import credit_transactions

WEEK = timedelta(days=7)

transaction = credit_transactions.c


def unwarned(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Professionals with paid credits that expire within a week and were in no warning yet.

    Columns: `professional_id`; `ids` and `deadlines` of the transactions, the first to expire
    first; `first_deadline`; `reason`, which is always NULL.
    """
    order = (transaction.expires_at, transaction.id)
    expiring = sa.select(
        transaction.professional_id,
        sa.func.array_agg(aggregate_order_by(transaction.id, *order)).label("ids"),
        sa.func.array_agg(aggregate_order_by(transaction.expires_at, *order)).label("deadlines"),
        sa.func.min(transaction.expires_at).label("first_deadline"),
        sa.cast(sa.null(), sa.Text).label("reason"),
    ).where(
        transaction.credit_type == "paid",
        transaction.remaining_amount > 0,
        transaction.expires_at > scope.as_of,
        transaction.expires_at <= scope.as_of + WEEK,
        ~mails.is_in_outbox(mails.EXPIRY_LISTED, transaction.id),
    )
    if among is not None:
        asked = sa.select(among.c.professional_id)
        expiring = expiring.where(transaction.professional_id.in_(asked))
    return expiring.group_by(transaction.professional_id)


def queued(work: Work) -> sa.Select[Any]:
    """One mail to each professional; what it lists are the transactions of the same run."""
    unit = work.units.c
    columns = mails.put(
        work,
        uuid_of(work, "mail"),
        mails.EXPIRY_WARNING,
        work.run_id,
        unit.professional_id,
        unit.first_deadline,
    )
    return sa.select(unit.position, *columns)


def listed(work: Work) -> sa.Select[Any]:
    """Each transaction that a mail lists."""
    unit = work.units.c
    both, line = lines(work.units, id=unit.ids, deadline=unit.deadlines)
    columns = mails.put(
        work,
        uuid_of(work, "listed", line.c.number),
        mails.EXPIRY_LISTED,
        mails.WITHIN_A_WEEK,
        line.c.id,
        line.c.deadline,
        mails.LISTED,
    )
    return sa.select(unit.position, *columns).select_from(both)


def no_longer_pending(work: Work) -> sa.Select[Any]:
    """Warnings that cannot be withdrawn: sent, or perhaps sent, or settled otherwise."""
    reason = outbox.c.state.label("reason")
    ours = outbox.c.id == uuid_of(work, "mail")
    return (
        sa.select(work.units.c.position, reason)
        .select_from(work.units.join(outbox, ours))
        .where(outbox.c.state != mails.PENDING)
    )


def what_is_listed(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """Mails, and the purchases that they list."""
    columns: tuple[sa.ColumnElement[Any], ...] = (
        sa.func.count().label("mails"),
        sa.func.coalesce(sa.func.sum(sa.func.cardinality(plan.c.ids)), 0).label("purchases"),
    )
    return sa.select(*columns).select_from(plan)


def result(outcome: Outcome) -> Mapping[str, Any]:
    """The key for the log's last line."""
    return {"warnedProfessionals": outcome.applied["professional"]}


credit_expiry_warning = Job(
    name="credit_expiry_warning",
    system="credits",
    says="Whose paid credits expire within a week has a warning in the outbox",
    assets=AssetNames(
        detected="due_expiry_warnings",
        materialized="queued_expiry_warnings",
        verified="verified_expiry_warnings",
    ),
    schedule="0 9 * * *",
    # In the night, hours before the next one, a warning helps nobody.
    made_up_within=timedelta(hours=12),
    options=CreditsOptions,
    relies_on=(credit_transactions,),
    change=Units(
        (
            Part(
                name="professional",
                says="professionals",
                key="professional_id",
                due=unwarned,
                writes=(
                    InsertRows(outbox, queued, kept=("attempts", "next_attempt_at")),
                    InsertRows(outbox, listed),
                ),
                # Nothing of the app's is written, so nothing is locked; what is left of the
                # credits is asked again before the mail is sent.
                locks=(),
                recomputed=True,
                stays=no_longer_pending,
                summaries=(Summary("Warnings", what_is_listed),),
            ),
        )
    ),
    result=result,
)
