"""One sentence for a run that did not end well, and for an error of the database."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.faults import (
    CONNECTION_LOST,
    GIVE_WAY,
    QUERY_CANCELED,
    describe,
    sqlstate,
)
from maintenance_pipelines.engine.refusals import Guarded, Misconfigured, Refusal, Unreachable
from maintenance_pipelines.engine.runs import Run

MISCONFIGURED = ("25", "28", "3D", "42")
"""SQLSTATE classes that say the database is not as the job needs it: read-only, no privilege."""


def sentence(run: Run) -> str:
    """Why a Dagster run fails over a run in this state, and what to do."""
    name = run.reverts or run.id
    what = f"The rollback of run {name}" if run.reverts else f"Run {name}"
    if run.state == "partial":
        cause = f"{run.failed:,} of {run.planned:,} rows failed" if run.failed else run.error
        return (
            f"{what} is partial: {cause}; see `./maintenance runs {name}`, then "
            f"`./maintenance resume {name}`."
        )
    if run.state == "failed":
        broken = ", ".join(check for check, passed in run.checks.items() if not passed)
        return f"{what} has failed: {broken or run.error or 'no row could be applied'}."
    if run.state in ("paused", "interrupted"):
        return f"{what} is {run.state}; `./maintenance resume {name}` goes on with it."
    return f"{what} is {run.state}."


def refusal_of(error: DBAPIError) -> Refusal:
    """An error that the engine could not get past, as a sentence without the app's data."""
    code, says = sqlstate(error), describe(error)
    if error.connection_invalidated or not code or code in CONNECTION_LOST:
        return Unreachable(f"The connection to the database was lost: {says}.")
    if code in GIVE_WAY or code == QUERY_CANCELED:
        return Guarded(f"The database did not get to it in time: {says}; try again later.")
    if code.startswith(MISCONFIGURED):
        return Misconfigured(f"The database refused: {says}.")
    return Guarded(f"The database refused: {says}.")
