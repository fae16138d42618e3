"""The global override ("this week everyone gets premium"), read without trusting it.

It is one row of `global_config` whose value is JSON that people and scripts have written. A cast
of what is no time raises and would stop the job, and a comparison with nothing is false both
ways; so every step here first asks whether the next one can be taken.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.monetization.schema import (
    MOMENT,
    TIERS,
    global_config,
    instant,
)

OVERRIDE = "global_tier_override"
"""The key of the override in `global_config`."""

# ISO 8601 as programs write it. What PostgreSQL would read besides, it reads by its settings.
TIME = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?"
ZONE = r" ?([Zz]|[+-]\d\d(:?\d\d)?)$"

# PostgreSQL's `json` accepts escapes that it then cannot make a text of: NUL, half a surrogate.
ESCAPED_BACKSLASH = r"\\\\"
SURROGATE_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
NO_TEXT = r"\\u(0000|[dD][89a-fA-F])"

Text = sa.ColumnElement[str]


def override() -> sa.Select[Any]:
    """The override, if there is one: `key`, `tier`, `expires_at`, and `complaint`.

    `complaint` says in words why the value cannot be read; where there is one, `tier` and
    `expires_at` are NULL. Never raises, whatever the value is.
    """
    field = _fields().subquery("field")
    time = field.c.expires_at
    is_time = time.regexp_match(TIME + ZONE)
    seen = sa.select(
        field,
        sa.case((is_time, _exists(time)), else_=sa.false()).label("is_moment"),
    ).subquery("seen")
    complaint = sa.case(
        (~seen.c.is_object, "its value is not an object"),
        (
            sa.func.coalesce(seen.c.tier, "").not_in(TIERS),
            f'its "tier" is none of {", ".join(TIERS)}',
        ),
        (seen.c.expires_at.is_(None), 'it has no "expires_at" that is a text'),
        (seen.c.expires_at.regexp_match(TIME + "$"), 'its "expires_at" has no time zone'),
        (~seen.c.is_moment, 'its "expires_at" is not a time'),
    )
    judged = sa.select(seen, sa.cast(complaint, sa.Text).label("complaint")).subquery("judged")
    readable = judged.c.complaint.is_(None)
    return sa.select(
        judged.c.key,
        sa.case((readable, judged.c.tier)).label("tier"),
        sa.case((readable, sa.cast(judged.c.expires_at, MOMENT))).label("expires_at"),
        judged.c.complaint,
    )


def in_force(scope: Scope) -> sa.ColumnElement[bool]:
    """Whether a readable override is in force: at the very instant of its expiry it still is."""
    there = override().subquery("override")
    return sa.exists().where(there.c.expires_at >= instant(scope.as_of))


def _fields() -> sa.Select[Any]:
    """`key`, whether the value `is_object`, and its `tier` and `expires_at` if they are texts."""
    value = global_config.c.value
    spelled: Text = sa.cast(value, sa.Text)
    for harmless in (ESCAPED_BACKSLASH, SURROGATE_PAIR):
        spelled = sa.func.regexp_replace(spelled, harmless, "", "g")
    is_object = sa.and_(~spelled.regexp_match(NO_TEXT), sa.func.json_typeof(value) == "object")
    found = (
        sa.select(
            global_config.c.key,
            value,
            # Guarded by a case: nothing says in which order `AND` looks at its sides.
            sa.case((is_object, sa.true()), else_=sa.false()).label("is_object"),
        )
        .where(global_config.c.key == OVERRIDE)
        .subquery("found")
    )

    def text(name: str) -> sa.ColumnElement[Any]:
        is_text = sa.func.json_typeof(found.c.value[name]) == "string"
        it = sa.case((is_text, found.c.value[name].astext))
        return sa.case((found.c.is_object, it)).label(name)

    return sa.select(found.c.key, found.c.is_object, text("tier"), text("expires_at"))


def _exists(time: Text) -> sa.ColumnElement[bool]:
    """Whether a text in the form of a time names one: no 30th of February, no hour 25."""
    year, month, day = (_number(time, first, n) for first, n in ((1, 4), (6, 2), (9, 2)))
    hour, minute = _number(time, 12, 2), _number(time, 15, 2)
    second = _part(time, r":\d\d:(\d\d)")
    zone_hour, zone_minute = (
        _part(time, r"[+-](\d\d):?(?:\d\d)?$"),
        _part(time, r"[+-]\d\d:?(\d\d)$"),
    )
    length = sa.func.date_part(
        "day", sa.func.make_date(year, month, 1) + sa.text("interval '1 month - 1 day'")
    )
    return sa.case(
        (sa.or_(year < 1, ~month.between(1, 12)), sa.false()),
        else_=sa.and_(
            day.between(1, length),
            hour <= 23,
            minute <= 59,
            second <= 59,
            zone_hour <= 14,
            zone_minute <= 59,
        ),
    )


def _number(text: Text, first: int, digits: int) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.substr(text, first, digits), sa.Integer)


def _part(text: Text, pattern: str) -> sa.ColumnElement[int]:
    """The group of digits that the pattern finds, 0 where it finds none."""
    found = sa.cast(sa.func.substring(text, pattern), sa.Integer)
    return sa.func.coalesce(found, 0)
