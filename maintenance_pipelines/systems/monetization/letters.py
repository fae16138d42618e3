"""The mails of this system: to whom they go, and why one is held back at the last moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.operations.letters import ADDRESS, WITHHELD, Letter
from maintenance_pipelines.systems.monetization.mails import TIER_EXPIRED, TRIAL_REMINDER
from maintenance_pipelines.systems.monetization.schema import FREE, TRIAL, instant, users
from maintenance_pipelines.systems.monetization.trials import WITHIN_ONE_DAY


def whose_trial_ends(as_of: datetime, mails: sa.FromClause) -> sa.Select[Any]:
    """Users on trial, unless it has been extended, converted or is over, or more was said since."""
    urgent = outbox.alias("urgent")
    superseded = sa.exists().where(
        mails.c.stage != WITHIN_ONE_DAY,
        urgent.c.kind == TRIAL_REMINDER,
        urgent.c.stage == WITHIN_ONE_DAY,
        urgent.c.subject == mails.c.subject,
        urgent.c.deadline == mails.c.deadline,
    )
    withheld = sa.case(
        (users.c.tier_source != TRIAL, "converted"),
        (users.c.trial_ends_at.is_distinct_from(mails.c.deadline), "extended"),
        (mails.c.deadline <= instant(as_of), "over"),
        (superseded, "superseded"),
    )
    return _recipients(mails, withheld)


def whose_tier_expired(as_of: datetime, mails: sa.FromClause) -> sa.Select[Any]:
    """Users of the free tier; whoever has another one again is not told that it expired."""
    return _recipients(mails, sa.case((users.c.tier != FREE, "has_a_tier_again")))


LETTERS = (
    Letter(
        kind=TRIAL_REMINDER,
        title="Your {{ tier }} trial ends on {{ deadline | moment }}",
        package=__package__,
        recipients=whose_trial_ends,
    ),
    Letter(
        kind=TIER_EXPIRED,
        title="Your plan has ended",
        package=__package__,
        recipients=whose_tier_expired,
    ),
)


def _recipients(mails: sa.FromClause, withheld: sa.ColumnElement[Any]) -> sa.Select[Any]:
    tier = sa.func.initcap(sa.func.replace(sa.cast(users.c.tier, sa.Text), "_", " "))
    return sa.select(
        mails.c.id,
        users.c.email.label(ADDRESS),
        users.c.name,
        tier.label("tier"),
        withheld.label(WITHHELD),
    ).join_from(mails, users, users.c.id == sa.cast(mails.c.subject, sa.UUID))
