"""Odd states: what should not be there, is reported, and is never changed in passing.

Each is a rule over all rows that `check` evaluates; a job that has to do with one warns of it too.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.consistency import ConsistencyRule
from maintenance_pipelines.engine.job import Rule, Scope
from maintenance_pipelines.systems.monetization import override
from maintenance_pipelines.systems.monetization.schema import (
    DEFAULT,
    FREE,
    GLOBAL_OVERRIDE,
    promo_codes,
    promo_redemptions,
    users,
)


def unreadable_override(scope: Scope) -> sa.Select[Any]:
    """The override whose value is not what it should be."""
    found = override.override().subquery("found")
    detail: sa.ColumnElement[str] = found.c.key + ": " + found.c.complaint
    columns: tuple[sa.ColumnElement[Any], ...] = (found.c.key.label("id"), detail.label("detail"))
    return sa.select(*columns).where(found.c.complaint.is_not(None))


def free_with_remains(scope: Scope) -> sa.Select[Any]:
    """Users of the free tier that have an expiry, or a source other than default."""
    expires = users.c.tier_expires_at.is_not(None)
    detail = sa.case((expires, "free, with an expiry"), else_="free, with a source of its own")
    odd = sa.or_(expires, users.c.tier_source != DEFAULT)
    return _named(users.c.id, detail).where(users.c.tier == FREE, odd)


def override_without_end(scope: Scope) -> sa.Select[Any]:
    """Users whose tier comes from a global override while none is in force."""
    detail = sa.literal("has a tier from a global override, and none is in force")
    none = sa.select(~override.in_force(scope)).scalar_subquery()  # asked once
    return _named(users.c.id, detail).where(users.c.tier_source == GLOBAL_OVERRIDE, none)


def used_up_but_active(scope: Scope) -> sa.Select[Any]:
    """Active codes that have no use left."""
    code = promo_codes.c
    detail = sa.func.format("active, used %s times of %s", code.current_uses, code.max_uses)
    found = _named(code.id, detail)
    return found.where(code.is_active, code.current_uses >= code.max_uses)


def redeemed_too_often(scope: Scope) -> sa.Select[Any]:
    """Codes with more redemptions than they have uses."""
    redeemed = (
        sa.select(promo_redemptions.c.promo_code_id, sa.func.count().label("times"))
        .group_by(promo_redemptions.c.promo_code_id)
        .subquery("redeemed")
    )
    code = promo_codes.c
    detail = sa.func.format("redeemed %s times of %s", redeemed.c.times, code.max_uses)
    found = _named(code.id, detail).join_from(
        promo_codes, redeemed, redeemed.c.promo_code_id == code.id
    )
    return found.where(redeemed.c.times > code.max_uses)


def _named(id_: sa.ColumnElement[Any], detail: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(sa.cast(id_, sa.Text).label("id"), detail.label("detail"))


OVERRIDE_READABLE = ConsistencyRule(
    "global_override_readable",
    "The global override, if there is one, has a known tier and an expiry with a time zone",
    unreadable_override,
)
FREE_IS_PLAIN = ConsistencyRule(
    "free_tier_without_remains",
    "Nobody of the free tier has an expiry, or a source other than default",
    free_with_remains,
    "warning",
)
OVERRIDE_HAS_CAUSE = ConsistencyRule(
    "override_tier_while_override",
    "Nobody has a tier from a global override while none is in force",
    override_without_end,
    "warning",
)
ACTIVE_HAS_USES = ConsistencyRule(
    "active_code_has_uses_left", "Every active code has a use left", used_up_but_active, "warning"
)
WITHIN_USES = ConsistencyRule(
    "redemptions_within_uses",
    "No code has been redeemed more often than it may be",
    redeemed_too_often,
    "warning",
)

RULES = (
    OVERRIDE_READABLE,
    FREE_IS_PLAIN,
    OVERRIDE_HAS_CAUSE,
    ACTIVE_HAS_USES,
    WITHIN_USES,
)


def after_a_run(rule: ConsistencyRule, named_by: str = "id") -> Rule:
    """The rule as a check after a job. Offenders are named by that column of the rule's."""

    def offenders(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
        found = rule.offenders(scope).subquery("found")
        return sa.select(found.c[named_by])

    return Rule(rule.name, rule.says, offenders, rule.severity)
