"""Admission: what has to be true of a plan before the one transaction that carries it out."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine import guards, ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.systems.cashback import manifest
from maintenance_pipelines.systems.cashback.instance import Instance, TableChange


def unfinished(database: Database, job: str, partition: str, request: Request) -> Run | None:
    """A run of the partition that has begun and is to be finished first; refuses others' work."""
    with database.transaction() as book:
        if not ledger.is_current(book):
            return None
        return guards.to_finish_first(
            book, job, partition, request.by_person, request.dagster_run_id
        )


def demand_here(instance: Instance, run: Run) -> None:
    """Refuses a run that was about another file: the instance's address has been changed since.

    A ledger in the instance's own database always is about that database, under any name.
    """
    there = run.options["detection"]["where"]
    if not instance.keeps_ledger and there != instance.where:
        raise Guarded(
            f"Run {run.id} is about {there}, and the address of {instance.name} now names "
            f"{instance.where}; set it back, or leave that run alone"
            + (f" (`./maintenance cancel {run.id}`)" if run.state in guards.RESUMABLE else "")
            + " and plan again."
        )


def demand_appliable(
    book: sa.Connection, run: Run, verb: str, order: Order
) -> tuple[TableChange, ...]:
    """The plan's changes; refuses one that is stale, not approved, or not the one shown."""
    if order.rehearse and run.state in guards.RESUMABLE - {"planned"}:
        raise Guarded(f"Run {run.id} is {run.state}; only a planned run can be rehearsed.")
    guards.demand_allowed(book, run, order.digest, order.plan_age, what="tables")
    changes = manifest.read(book, run.id)
    digest = manifest.digest(run.job, verb, run.partition or "", run.as_of, changes)
    guards.demand_unaltered(run, digest)
    return changes
