"""The job: users whose tier has expired are free again.

A user who renews between detection and the write is no longer due under the lock, and keeps the
tier. Who is still due is downgraded from what the row holds then: that a name or a picture has
changed meanwhile is no reason to leave a tier in force.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.identifiers import uuid_of
from maintenance_pipelines.engine.job import PLACE, AssetNames, Job, Rule, Scope, Summary
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows, UpdateRows, place, seen_at
from maintenance_pipelines.systems.monetization.mails import TIER_EXPIRED, mail, told
from maintenance_pipelines.systems.monetization.options import MonetizationOptions, options
from maintenance_pipelines.systems.monetization.results import stamped
from maintenance_pipelines.systems.monetization.rules import (
    FREE_IS_PLAIN,
    OVERRIDE_HAS_CAUSE,
    after_a_run,
)
from maintenance_pipelines.systems.monetization.schema import (
    DEFAULT,
    FREE,
    MOMENT,
    global_config,
    instant,
    promo_redemptions,
    relied_on,
    tier_source,
    user_tier,
    users,
)


def expired(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Users whose tier has expired. At the very instant of its expiry a tier is still in force.

    `mailed` says whether a mail about it goes into the outbox.
    """
    subject = sa.cast(users.c.id, sa.Text)
    mailed: sa.ColumnElement[bool] = sa.false()
    if options(scope).mail_expired_tiers:
        mailed = ~told(TIER_EXPIRED, FREE, subject, users.c.tier_expires_at)
    found = sa.select(
        users.c.id.label("user_id"),
        users.c.tier,
        users.c.tier_source,
        users.c.tier_expires_at,
        users.c.updated_at,
        mailed.label("mailed"),
        sa.cast(sa.null(), sa.Text).label("reason"),
        place(users).label(PLACE),
    ).where(users.c.tier_expires_at < instant(scope.as_of), users.c.tier != FREE)
    return found if among is None else found.join(among, among.c.user_id == users.c.id)


def downgraded(work: Work) -> sa.Select[Any]:
    """Each user as free, by default and without an end."""
    unit = work.units.c
    return sa.select(
        unit.position,
        *seen_at(work),
        unit.user_id.label("id"),
        unit.tier.label("old_tier"),
        sa.cast(FREE, user_tier).label("new_tier"),
        unit.tier_source.label("old_tier_source"),
        sa.cast(DEFAULT, tier_source).label("new_tier_source"),
        unit.tier_expires_at.label("old_tier_expires_at"),
        sa.cast(sa.null(), MOMENT).label("new_tier_expires_at"),
        unit.updated_at.label("old_updated_at"),
        instant(work.scope.stamp).label("new_updated_at"),
    )


def mails(work: Work) -> sa.Select[Any]:
    """A mail to each user who gets one."""
    unit = work.units.c
    subject = sa.cast(unit.user_id, sa.Text)
    id_ = uuid_of(work, TIER_EXPIRED)
    return mail(work, id_, TIER_EXPIRED, sa.literal(FREE), subject, unit.tier_expires_at).where(
        unit.mailed
    )


def nothing(work: Work) -> sa.Select[Any]:
    """No mail takes one back: a user whose tier is back is skipped when the mail would be sent."""
    return mails(work).where(sa.false())


def another_grant(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
    """Downgraded users with a redemption that still grants a tier, or a trial that is not over."""
    now = instant(scope.as_of)
    granted = sa.union_all(
        sa.select(promo_redemptions.c.user_id).where(promo_redemptions.c.applied_until >= now),
        sa.select(users.c.id).where(users.c.trial_ends_at >= now),
    ).subquery("granted")
    return sa.select(sa.cast(applied.c.user_id, sa.Text)).where(
        applied.c.user_id.in_(sa.select(granted.c.user_id))
    )


def by_tier(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """Downgraded users for each tier, and where they had it from."""
    columns = (plan.c.tier, plan.c.tier_source.label("source"))
    return (
        sa.select(*columns, sa.func.count().label("users"))
        .group_by(*columns)
        .order_by(sa.desc("users"), *columns)
    )


tier_expiration = Job(
    name="tier_expiration",
    system="monetization",
    says="Users whose tier has expired are free again",
    assets=AssetNames(
        detected="expired_tiers",
        materialized="downgraded_users",
        verified="verified_downgrades",
    ),
    schedule="15 0 * * *",
    options=MonetizationOptions,
    relies_on=(
        relied_on(
            users,
            *("id", "tier", "tier_source", "tier_expires_at", "trial_ends_at", "updated_at"),
        ),
        relied_on(promo_redemptions, "user_id", "applied_until"),
        relied_on(global_config, "key", "value"),
    ),
    change=Units(
        parts=(
            Part(
                name="user",
                says="users",
                key="user_id",
                due=expired,
                writes=(
                    UpdateRows(users, downgraded, kept=("updated_at",)),
                    InsertRows(outbox, mails, reversal=nothing),
                ),
                locks=(Lock(users, "id"),),
                recomputed=True,
                rules=(
                    Rule(
                        "no_other_grant_in_force",
                        "Nobody was downgraded while another grant of theirs is in force",
                        another_grant,
                        "warning",
                    ),
                    after_a_run(FREE_IS_PLAIN),
                    after_a_run(OVERRIDE_HAS_CAUSE),
                ),
                summaries=(Summary("Downgraded users by tier", by_tier),),
            ),
        )
    ),
    result=lambda outcome: stamped(outcome.scope, processed=outcome.applied["user"]),
    priority=10,
    time_limit=timedelta(minutes=1),
)
