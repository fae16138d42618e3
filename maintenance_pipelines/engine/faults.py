"""What a database error means for a batch: try again, blame a row, or stop."""

from __future__ import annotations

import re
from enum import Enum

from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.refusals import Unreachable

# Class and code names: PostgreSQL manual, appendix A.
GIVE_WAY = frozenset({"55P03", "40P01", "40001"})  # lock not available, deadlock, serialization
CONNECTION_LOST = frozenset({"57P01", "57P02", "57P03", "57P05"})  # shutdown, crash, starting up
QUERY_CANCELED = "57014"  # by statement_timeout: half the rows may be quick enough
NOT_ABOUT_A_ROW = ("08", "0A", "25", "28", "3D", "42", "53", "54", "57", "58", "F0", "XX")

E_MAIL = re.compile(r"[^\s@()=,;'\"<>]+@[^\s@()=,;'\"<>]+")


class Raced(Exception):
    """A row has changed between being read and being written by one statement."""


class Fault(Enum):
    """How the engine goes on after an error."""

    TRANSIENT = "try the batch again"
    ROW = "find the row and record it"
    SYSTEMIC = "stop the run"


def judge(error: BaseException) -> Fault:
    """What kind of fault an exception is; what is not about the data stops the run."""
    if isinstance(error, Unreachable):
        return Fault.TRANSIENT
    if isinstance(error, Raced):
        return Fault.ROW
    if not isinstance(error, DBAPIError):
        return Fault.SYSTEMIC
    code = sqlstate(error)
    if error.connection_invalidated or code in GIVE_WAY | CONNECTION_LOST:
        return Fault.TRANSIENT
    if code == QUERY_CANCELED:
        return Fault.ROW
    if not code or code.startswith(NOT_ABOUT_A_ROW):
        return Fault.SYSTEMIC
    return Fault.ROW


def sqlstate(error: BaseException) -> str:
    """The error's SQLSTATE, empty where there is none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def describe(error: BaseException) -> str:
    """The database's own words without its DETAIL, which quotes values, and without addresses."""
    diagnosis = getattr(getattr(error, "orig", None), "diag", None)
    message = getattr(diagnosis, "message_primary", None)
    if message is None:
        said = str(getattr(error, "orig", error)).strip().splitlines()
        message = said[0] if said else type(error).__name__
    return E_MAIL.sub("<e-mail>", message)
