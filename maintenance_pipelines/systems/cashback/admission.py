"""Admission: what has to be true of a plan before the one transaction that carries it out."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.guards import RESUMABLE, spell_bounds
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.systems.cashback import manifest
from maintenance_pipelines.systems.cashback.instance import Instance, TableChange

SHORTEST_DIGEST = 8


def unfinished(database: Database, job: str, partition: str, request: Request) -> Run | None:
    """A run of the partition that has begun and is to be finished first; refuses others' work."""
    with database.transaction() as book:
        if not ledger.is_current(book):
            return None
        earlier = runs.of_partition(book, job, partition)
        for run in earlier:
            _demand_not_undone(book, run)
            if run.state == "applying":
                raise Guarded(
                    f"Another run ({run.id}) is applying {run.label}; wait for it to end."
                )
            if run.state == "paused":
                raise Guarded(
                    f"Run {run.id} of {run.label} is paused; `./maintenance resume {run.id}` or "
                    f"`./maintenance cancel {run.id}` first."
                )
            if run.state in runs.BEGUN:
                if request.dagster_run_id is not None:
                    runs.change(book, run.id, dagster_run_id=request.dagster_run_id)
                return run
        if any(run.held for run in earlier) and not request.by_person:
            raise Guarded(
                f"{earlier[0].label} is held since its rollback, until a person runs it again."
            )
    return None


def demand_here(instance: Instance, run: Run) -> None:
    """Refuses a run that was about another file: the instance's address has been changed since.

    A ledger in the instance's own database always is about that database, under any name.
    """
    there = run.options["detection"]["where"]
    if not instance.keeps_ledger and there != instance.where:
        raise Guarded(
            f"Run {run.id} is about {there}, and the address of {instance.name} now names "
            f"{instance.where}; set it back, or leave that run alone"
            + (f" (`./maintenance cancel {run.id}`)" if run.state in RESUMABLE else "")
            + " and plan again."
        )


def demand_appliable(
    book: sa.Connection, run: Run, verb: str, order: Order
) -> tuple[TableChange, ...]:
    """The plan's changes; refuses one that is stale, not approved, or not the one shown."""
    name = run.reverts or run.id
    if run.state not in RESUMABLE:
        raise Guarded(f"Run {run.id} is {run.state}; there is nothing to apply.")
    if order.rehearse and run.state != "planned":
        raise Guarded(f"Run {run.id} is {run.state}; only a planned run can be rehearsed.")
    if run.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned; plan {run.label} again.")
    if run.reverts is None:
        _demand_not_undone(book, run)
    if not run.within_scope:
        raise Guarded(
            f"Run {run.id} plans {run.planned} tables, expected were "
            f"{spell_bounds(run.expected_min, run.expected_max)}; look at its report first."
        )
    if run.state == "planned":
        _demand_fresh(book, run, order.plan_age)
    if order.digest is not None and not _names(run, order.digest):
        raise Guarded(f"Run {run.id} has another digest than the one given; look at it again.")
    if run.approval_due:
        raise Guarded(
            f"Run {run.id} plans {run.planned} tables, more than {run.approval_above}; a second "
            f"person has to `./maintenance approve {run.id}`."
        )
    changes = manifest.read(book, run.id)
    if manifest.digest(run.job, verb, run.partition or "", run.as_of, changes) != run.digest:
        raise Guarded(
            f"The plan of run {run.id} is not the one that was made: its digest differs. "
            f"`./maintenance cancel {name}` and plan again."
        )
    return changes


def _demand_not_undone(book: sa.Connection, run: Run) -> None:
    undo = runs.rollback_of(book, run.id)
    if undo is not None and undo.state in runs.BEGUN:
        raise Guarded(
            f"The rollback of run {run.id} is {undo.state}; finish it first with "
            f"`./maintenance resume {run.id}`."
        )


def _demand_fresh(book: sa.Connection, run: Run, plan_age: timedelta) -> None:
    if run.reverts is None:
        newest = runs.of_partition(book, run.job, run.partition)[0]
        if newest.id != run.id:
            raise Guarded(f"Run {run.id} is stale: run {newest.id} was planned after it.")
    if book.execute(sa.select(sa.func.clock_timestamp())).scalar_one() - run.created_at > plan_age:
        hours = f"{plan_age / timedelta(hours=1):g} hours"
        raise Guarded(f"Run {run.id} is stale: it was planned more than {hours} ago; plan again.")


def _names(run: Run, digest: str) -> bool:
    return len(digest) >= SHORTEST_DIGEST and run.digest.startswith(digest.lower())
