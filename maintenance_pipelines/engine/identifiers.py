"""Primary keys that the project assigns, in the form the apps' own clients make them."""

from __future__ import annotations

import hashlib
import secrets
import string
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.units import Work

ALPHABET = string.digits + string.ascii_lowercase


def cuid(scope: Scope, position: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """A cuid (`c` and 24 of [0-9a-z]) for the row at `position` of a plan.

    Like a client's own it begins with the time: `as_of` in base-36 milliseconds. The position
    follows, so that ids grow in the plan's order and a batch's entries lie side by side in the
    primary key's index. The tail is random, the same for one call, which keeps two plans apart.
    """
    milliseconds = round(scope.as_of.timestamp() * 1000)
    tail = "".join(secrets.choice(ALPHABET) for _ in range(8))
    return sa.literal("c" + base36(milliseconds)) + _hexadecimal(position, 8) + sa.literal(tail)


def cuid_of(
    work: Work, tag: str, line: sa.ColumnElement[int] | None = None
) -> sa.ColumnElement[str]:
    """A cuid for a row that is derived from a unit: the same one however often it is derived.

    `tag` tells apart the rows of several writes, `line` (below 256) those of one write.
    """
    milliseconds = round(work.scope.as_of.timestamp() * 1000)
    head, tail = sa.literal("c" + base36(milliseconds)), sa.literal(_seed(work, tag)[:6])
    return head + _hexadecimal(work.units.c.position, 8) + tail + _line(line, 2)


def object_id_of(
    work: Work, tag: str, line: sa.ColumnElement[int] | None = None
) -> sa.ColumnElement[str]:
    """As `cuid_of`, in 24 hexadecimal digits: seconds, then position, like a document store's."""
    seconds = f"{int(work.scope.as_of.timestamp()):08x}"
    tail = sa.literal(_seed(work, tag)[:5])
    return sa.literal(seconds) + _hexadecimal(work.units.c.position, 8) + tail + _line(line, 3)


def uuid_of(
    work: Work, tag: str, line: sa.ColumnElement[int] | None = None
) -> sa.ColumnElement[Any]:
    """As `cuid_of`, as a UUID of version 8, whose content is the maker's (RFC 9562)."""
    seed = _seed(work, tag)
    head = sa.literal(f"{seed[:12]}8{seed[12:15]}8{seed[15:16]}")
    text = head + _hexadecimal(work.units.c.position, 10) + _line(line, 4)
    as_uuid: sa.types.TypeEngine[Any] = sa.Uuid()
    return sa.cast(text, as_uuid)


def _seed(work: Work, tag: str) -> str:
    return hashlib.sha256(f"{work.run_id} {tag}".encode()).hexdigest()


def _hexadecimal(number: sa.ColumnElement[int], digits: int) -> sa.ColumnElement[str]:
    return sa.func.lpad(sa.func.to_hex(number), digits, "0")


def _line(line: sa.ColumnElement[int] | None, digits: int) -> sa.ColumnElement[str]:
    return sa.literal("0" * digits) if line is None else _hexadecimal(line, digits)


def base36(number: int) -> str:
    """A number in base 36, lower case, at least eight digits wide."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = ALPHABET[digit] + digits
    return digits.rjust(8, "0")
