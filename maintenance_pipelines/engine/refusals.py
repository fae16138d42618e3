"""Refusals: one clear sentence for the person, an exit code for the program, nothing written."""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """A request that is not carried out. Its text is the sentence shown to the person.

    The text names what is wrong and what to do, and never holds a password, a URL with
    credentials or personal data.
    """

    exit_code: ClassVar[int] = 2


class BadInput(Refusal):
    """What was asked for does not exist or is malformed."""


class Misconfigured(Refusal):
    """Settings, privileges or the database's schema do not allow the job."""


class Guarded(Refusal):
    """A guard stands in the way: approval, scope, another run, a held partition, a stale plan."""

    exit_code: ClassVar[int] = 1


class Unreachable(Refusal):
    """The database cannot be reached."""

    exit_code: ClassVar[int] = 3
