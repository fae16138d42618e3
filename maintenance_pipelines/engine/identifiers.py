"""Primary keys that the project assigns, in the form the apps' own clients make them."""

from __future__ import annotations

import secrets
import string

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope

ALPHABET = string.digits + string.ascii_lowercase


def cuid(scope: Scope, position: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """A cuid (`c` and 24 of [0-9a-z]) for the row at `position` of a plan.

    Like a client's own it begins with the time: `as_of` in base-36 milliseconds. The position
    follows, so that ids grow in the plan's order and a batch's entries lie side by side in the
    primary key's index. The tail is random, the same for one call, which keeps two plans apart.
    """
    milliseconds = round(scope.as_of.timestamp() * 1000)
    tail = "".join(secrets.choice(ALPHABET) for _ in range(8))
    in_order = sa.func.lpad(sa.func.to_hex(position), 8, "0")
    return sa.literal("c" + base36(milliseconds)) + in_order + sa.literal(tail)


def base36(number: int) -> str:
    """A number in base 36, lower case, at least eight digits wide."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = ALPHABET[digit] + digits
    return digits.rjust(8, "0")
