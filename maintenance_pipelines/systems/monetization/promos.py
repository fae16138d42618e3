"""The job: expired codes are inactive, and old redemptions are gone.

Deleting a redemption can do harm that no one sees: what still grants a tier would be forgotten,
and who has used up a code could use it again. Such redemptions are kept, and counted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import PLACE, AssetNames, Job, Scope, Summary
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import DeleteRows, UpdateRows, place, seen_at, whole_row
from maintenance_pipelines.systems.monetization.options import MonetizationOptions, options
from maintenance_pipelines.systems.monetization.results import stamped
from maintenance_pipelines.systems.monetization.rules import (
    ACTIVE_HAS_USES,
    WITHIN_USES,
    after_a_run,
)
from maintenance_pipelines.systems.monetization.schema import (
    instant,
    promo_codes,
    promo_redemptions,
    relied_on,
    users,
)


def expired_codes(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Active codes whose end has passed; one without an end never expires."""
    found = sa.select(
        promo_codes.c.id.label("code_id"),
        promo_codes.c.valid_until,
        sa.cast(sa.null(), sa.Text).label("reason"),
    ).where(promo_codes.c.valid_until < instant(scope.as_of), promo_codes.c.is_active)
    return found if among is None else found.join(among, among.c.code_id == promo_codes.c.id)


def deactivated(work: Work) -> sa.Select[Any]:
    """Each code as inactive."""
    unit = work.units.c
    return sa.select(
        unit.position,
        unit.code_id.label("id"),
        sa.true().label("old_is_active"),
        sa.false().label("new_is_active"),
    )


def old_redemptions(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Redemptions older than the retention, whole, with why some of them are kept."""
    chosen, now = options(scope), instant(scope.as_of)
    oldest = scope.as_of - timedelta(days=chosen.retention_days)
    redemption, code = promo_redemptions.c, promo_codes.c
    reason: sa.ColumnElement[str] = sa.cast(sa.null(), sa.Text)
    if not chosen.retention_only:
        reason = sa.case(
            (redemption.applied_until >= now, "grant_still_running"),
            (_redeemable(scope) & code.max_uses_per_user.is_not(None), "code_still_redeemable"),
        )
    found = (
        sa.select(
            redemption.id.label("redemption_id"),
            redemption.promo_code_id.label("code_id"),
            whole_row(promo_redemptions).label("row"),
            reason.label("reason"),
            place(promo_redemptions).label(PLACE),
        )
        .join_from(promo_redemptions, promo_codes, code.id == redemption.promo_code_id)
        .where(redemption.redeemed_at < instant(oldest))
    )
    return found if among is None else found.join(among, among.c.redemption_id == redemption.id)


def deleted(work: Work) -> sa.Select[Any]:
    """The rows that are deleted."""
    unit = work.units.c
    return sa.select(unit.position, unit.redemption_id.label("id"), unit.row, *seen_at(work))


def by_year(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """Deleted redemptions for each year (UTC)."""
    redeemed = sa.cast(plan.c.row["redeemed_at"].astext, promo_redemptions.c.redeemed_at.type)
    year = sa.cast(sa.func.date_part("year", sa.func.timezone("UTC", redeemed)), sa.Integer)
    columns: tuple[sa.ColumnElement[Any], ...] = (
        year.label("year"),
        sa.func.count().label("redemptions"),
    )
    return sa.select(*columns).group_by(year).order_by(year)


def _redeemable(scope: Scope) -> sa.ColumnElement[bool]:
    """Whether a code can be redeemed, now or later; at the very instant of its end it still can."""
    code = promo_codes.c
    return sa.and_(
        code.is_active,
        sa.or_(code.valid_until.is_(None), code.valid_until >= instant(scope.as_of)),
        sa.or_(code.max_uses.is_(None), code.current_uses < code.max_uses),
    )


promo_cleanup = Job(
    name="promo_cleanup",
    system="monetization",
    says="Expired promo codes are inactive, and redemptions older than the retention are gone",
    assets=AssetNames(
        detected="outdated_promos",
        materialized="cleaned_promos",
        verified="verified_promos",
    ),
    schedule="0 2 * * 0",
    options=MonetizationOptions,
    relies_on=(
        relied_on(
            promo_codes,
            *("id", "valid_until", "max_uses", "max_uses_per_user", "current_uses", "is_active"),
        ),
        relied_on(promo_redemptions, "id", "promo_code_id", "redeemed_at", "applied_until"),
        # Whom a deleted row was of: it can be put back as long as they exist.
        relied_on(users, "id"),
    ),
    change=Units(
        parts=(
            Part(
                name="code",
                says="promo codes",
                key="code_id",
                due=expired_codes,
                writes=(UpdateRows(promo_codes, deactivated),),
                locks=(Lock(promo_codes, "id"),),
                rules=(after_a_run(ACTIVE_HAS_USES), after_a_run(WITHIN_USES)),
            ),
            Part(
                name="redemption",
                says="redemptions",
                key="redemption_id",
                due=old_redemptions,
                writes=(DeleteRows(promo_redemptions, deleted),),
                locks=(
                    # A code that is extended is redeemable again: that is waited for.
                    Lock(promo_codes, "id", "share", by="code_id"),
                    Lock(promo_redemptions, "id", "update"),
                ),
                summaries=(Summary("Deleted redemptions by year", by_year),),
            ),
        )
    ),
    result=lambda outcome: stamped(
        outcome.scope,
        codesDeactivated=outcome.applied["code"],
        redemptionsDeleted=outcome.applied["redemption"],
    ),
    priority=-10,
    time_limit=timedelta(minutes=1),
)
