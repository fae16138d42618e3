"""Guards: what has to be true of a plan before its first batch may be written."""

from __future__ import annotations

from collections.abc import Container
from datetime import timedelta

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, plans, runs
from maintenance_pipelines.engine.changes import Change
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run

RESUMABLE = frozenset({"planned", "paused", "interrupted", "partial"})


def demand_appliable(
    connection: sa.Connection,
    change: Change,
    run: Run,
    schema_digest: str,
    digest: str | None,
    plan_age: timedelta,
) -> None:
    """Refuses a plan that is stale, out of scope, not approved, or not the one that was shown.

    The plan's own digest is computed again from its rows.
    """
    demand_allowed(connection, run, digest, plan_age, schema_digest=schema_digest)
    pieces = change.pieces(connection, run.planned)
    demand_unaltered(run, plans.digest(connection, pieces, change.job, change.scope, change.kind))


def demand_allowed(
    connection: sa.Connection,
    run: Run,
    digest: str | None,
    plan_age: timedelta,
    *,
    what: str = "rows",
    schema_digest: str | None = None,
) -> None:
    """Refuses a plan that must not be applied, whatever is in it; `what` is what it counts.

    `digest`, where given, is that of the plan the person has seen, or its beginning;
    `schema_digest`, where given, that of the tables it relies on, as they are now.
    """
    name = run.reverts or run.id  # what commands know a rollback by
    if run.state not in RESUMABLE:
        raise Guarded(f"Run {run.id} is {run.state}; there is nothing to apply.")
    if run.reverts is None:
        _demand_not_undone(connection, run, runs.BEGUN | {"partial"})
    if run.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned; plan {run.label} again.")
    if not run.within_scope:
        raise Guarded(
            f"Run {run.id} plans {run.planned} {what}, expected were "
            f"{spell_bounds(run.expected_min, run.expected_max)}; look at its report first."
        )
    if run.state == "planned":
        _demand_fresh(connection, run, plan_age)
    if schema_digest is not None and run.schema_digest != schema_digest:
        raise Guarded(
            f"Run {run.id} is stale: the tables it relies on have changed since it was planned; "
            f"`./maintenance cancel {name}` and plan again."
        )
    if digest is not None and not _names(run, digest):
        raise Guarded(f"Run {run.id} has another digest than the one given; look at it again.")
    if run.approval_due:
        raise Guarded(
            f"Run {run.id} plans {run.planned} {what}, more than {run.approval_above}; a second "
            f"person has to `./maintenance approve {run.id}`."
        )


def demand_unaltered(run: Run, digest: str) -> None:
    """Refuses a plan that is not the one that was made, by its digest as it is now."""
    if digest != run.digest:
        raise Guarded(
            f"The plan of run {run.id} is not the one that was made: its digest differs. "
            f"`./maintenance cancel {run.reverts or run.id}` and plan again."
        )


def to_finish_first(
    connection: sa.Connection,
    job: str,
    partition: str | None,
    by_person: bool,
    dagster_run_id: str | None,
) -> Run | None:
    """The run of a job and partition that has begun and is not at its end, before another is
    planned. Refuses while one is applied, paused or being taken back, and, unless a person asks,
    a partition that is held.
    """
    earlier = runs.of_partition(connection, job, partition)
    for run in earlier:
        _demand_not_undone(connection, run, runs.BEGUN)
        if run.state == "applying":
            raise Guarded(f"Another run ({run.id}) is applying {run.label}; wait for it to end.")
        if run.state == "paused":
            raise Guarded(
                f"Run {run.id} of {run.label} is paused; "
                f"`./maintenance resume {run.id}` or `./maintenance cancel {run.id}` first."
            )
        if run.state in runs.BEGUN:
            if dagster_run_id is not None:
                runs.change(connection, run.id, dagster_run_id=dagster_run_id)
            return run
    if any(run.held for run in earlier) and not by_person:
        raise Guarded(
            f"{earlier[0].label} is held since its rollback, until a person runs it again."
        )
    return None


def spell_bounds(low: int | None, high: int | None) -> str:
    """Bounds as a person writes them, `MIN..MAX`."""
    return f"{'' if low is None else low}..{'' if high is None else high}"


def _demand_fresh(connection: sa.Connection, run: Run, plan_age: timedelta) -> None:
    if run.reverts is None:
        newer = next(iter(runs.of_partition(connection, run.job, run.partition)), run)
        if newer.id != run.id:
            raise Guarded(f"Run {run.id} is stale: run {newer.id} was planned after it.")
    age = connection.execute(
        sa.select(sa.func.clock_timestamp() - ledger.run.c.created_at).where(
            ledger.run.c.id == run.id
        )
    ).scalar_one()
    if age > plan_age:
        hours = f"{plan_age / timedelta(hours=1):g} hours"
        again = f"`./maintenance cancel {run.reverts}` and plan" if run.reverts else "plan"
        raise Guarded(
            f"Run {run.id} is stale: it was planned more than {hours} ago; {again} again."
        )


def _demand_not_undone(connection: sa.Connection, run: Run, states: Container[str]) -> None:
    undo = runs.rollback_of(connection, run.id)
    if undo is not None and undo.state in states:
        raise Guarded(
            f"The rollback of run {run.id} is {undo.state}; finish it first with "
            f"`./maintenance resume {run.id}`."
        )


def _names(run: Run, digest: str) -> bool:
    return len(digest) >= 8 and run.digest.startswith(digest.lower())
