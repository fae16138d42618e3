"""The mails of this system: to whom they go, and why one is held back at the last moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.operations.letters import ADDRESS, WITHHELD, Letter
from maintenance_pipelines.systems.credits.mails import EXPIRY_LISTED, EXPIRY_WARNING, RESET_NOTE
from maintenance_pipelines.systems.credits.schema import credit_transactions, pro_profiles, users

transaction = credit_transactions.c


def whose_credits_expire(as_of: datetime, mails: sa.FromClause) -> sa.Select[Any]:
    """Professionals with what is left of the purchases that their mail lists.

    `credits` and `moments` are arrays, the first to expire first. Held back where nothing is left
    that could expire. The mail's stage is the run that put it and its list into the outbox.
    """
    order = (transaction.expires_at, transaction.id)
    listed = (
        sa.select(
            sa.func.array_agg(aggregate_order_by(transaction.remaining_amount, *order)).label(
                "credits"
            ),
            sa.func.array_agg(aggregate_order_by(transaction.expires_at, *order)).label("moments"),
        )
        .join_from(outbox, credit_transactions, transaction.id == outbox.c.subject)
        .where(
            outbox.c.kind == EXPIRY_LISTED,
            outbox.c.run_id == mails.c.stage,
            transaction.professional_id == mails.c.subject,
            transaction.remaining_amount > 0,
            transaction.expires_at > as_of,
        )
        .correlate(mails)
        .lateral("listed")
    )
    withheld = sa.case((listed.c.credits.is_(None), "nothing_left_to_expire"))
    recipients = _recipients(mails, withheld).add_columns(listed.c.credits, listed.c.moments)
    return recipients.join(listed, sa.true())


def whose_credits_were_reset(as_of: datetime, mails: sa.FromClause) -> sa.Select[Any]:
    """Professionals, unless the reset has been taken back or the month is over."""
    month = sa.func.to_char(sa.func.timezone("UTC", transaction.created_at), "YYYY-MM")
    is_reset = sa.exists().where(
        transaction.professional_id == mails.c.subject,
        transaction.type == "monthly_reset",
        month == mails.c.stage,
    )
    over = mails.c.deadline <= as_of
    return _recipients(mails, sa.case((~is_reset, "taken_back"), (over, "over")))


LETTERS = (
    Letter(
        kind=EXPIRY_WARNING,
        title="{{ credits | sum }} of your credits expire soon",
        package=__package__,
        recipients=whose_credits_expire,
    ),
    Letter(
        kind=RESET_NOTE,
        title="Your free credits of this month",
        package=__package__,
        recipients=whose_credits_were_reset,
    ),
)


def _recipients(mails: sa.FromClause, withheld: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(
            mails.c.id,
            users.c.email.label(ADDRESS),
            pro_profiles.c.business_name.label("name"),
            withheld.label(WITHHELD),
        )
        .join_from(mails, users, users.c.id == mails.c.subject)
        .outerjoin(pro_profiles, pro_profiles.c.user_id == users.c.id)
    )
