"""The migration: plan, back up, apply, verify. Only adds, and only what the plan says.

`instance` is what is changed; `database` is where the ledger is: Dagster's storage for an SQLite
file, in which a ledger would itself be a change, and for PostgreSQL the instance's own.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.proof import ProofFailed
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.systems.cashback import (
    admission,
    backup,
    manifest,
    shapes,
    verification,
)
from maintenance_pipelines.systems.cashback.backup import Backup
from maintenance_pipelines.systems.cashback.detection import (
    Detection,
    demand_fit,
    detect,
    relied_on,
)
from maintenance_pipelines.systems.cashback.execution import execute
from maintenance_pipelines.systems.cashback.instance import Instance, TableChange

JOB = "cashback_migration"
CREATE = "create tables"
COLUMNS = ["table", "statement", "owner", "grants"]


def plan(
    instance: Instance, database: Database, request: Request, as_of: datetime | None = None
) -> Run:
    """Detects which of the six tables an instance lacks and stores that as a plan.

    Changes nothing in the instance. An interrupted run is returned instead, to be finished first;
    a plan without tables is complete. Refuses an instance that is not fit, naming everything.
    """
    started = time.monotonic()
    earlier = admission.unfinished(database, JOB, instance.name, request)
    if earlier is not None:
        admission.demand_here(instance, earlier)
        return earlier
    found = detect(instance)
    demand_fit(instance, found)
    ledger.ensure(database)
    with database.transaction() as book:
        run = _write(book, instance.name, found, request, as_of or _now())
        runs.spend(book, run, time.monotonic() - started)
        return runs.load(book, run)


def detection_of(database: Database, run: Run) -> Detection:
    """What the run's plan was made from, as the ledger has it."""
    with database.transaction() as book:
        planned = run.planned and run.pruned_at is None
        return Detection.from_json(
            run.options["detection"], manifest.read(book, run.id) if planned else ()
        )


def back_up(
    instance: Instance,
    database: Database,
    run: Run,
    order: Order,
    folder: Path,
    keep: int = backup.KEPT,
    progress: backup.Progress = lambda done, total: None,
) -> Backup | None:
    """Makes the backup without which `apply` refuses; None where nothing is left to be applied.

    Refuses what `apply` would refuse: nobody needs a copy for a plan that is stale.
    """
    if run.planned == 0 or run.applied == run.planned:
        return backup_of(run)
    admission.demand_here(instance, run)
    with database.transaction() as book:
        admission.demand_appliable(book, runs.load(book, run.id), CREATE, order)
    made = backup.make(instance, folder, keep, progress)
    with database.transaction() as book:
        now = runs.load(book, run.id, lock=True)
        runs.change(book, run.id, options={**now.options, "backup": made.json()})
        runs.spend(book, run.id, made.seconds)
    return made


def backup_of(run: Run) -> Backup | None:
    """The backup that was made for a run."""
    kept = run.options.get("backup")
    return Backup.from_json(kept) if kept else None


def apply(instance: Instance, database: Database, run: Run, order: Order) -> Run:
    """Creates the planned tables, all of them in one transaction or none.

    The run is `applied` then; a rehearsal rolls back and leaves it `planned`. A lock is waited
    for, as long as the instance's settings allow, then refused with nothing written.
    """
    admission.demand_here(instance, run)
    changes: tuple[TableChange, ...] = ()
    mode = instance.journal_mode()

    def take(book: sa.Connection, held: Run) -> None:
        nonlocal changes
        changes = admission.demand_appliable(book, held, CREATE, order)
        if not order.rehearse and held.applied < held.planned:
            backup.demand_usable(backup_of(held), held.id, order.plan_age)

    def carry(connection: sa.Connection, book: sa.Connection, held: Run) -> None:
        state = _create(connection, instance, held, changes)
        options = {**held.options, "applied": {**state, "journal_mode": mode}}
        runs.change(book, held.id, options=options)

    return execute(instance, database, run, order, take, carry)


def _write(
    book: sa.Connection, partition: str, found: Detection, request: Request, as_of: datetime
) -> str:
    run_id, planned = runs.new_id(), len(found.creations)
    complete = planned == 0 and not request.expected_rows[0]
    if planned:
        manifest.write(book, run_id, found.creations)
    book.execute(
        ledger.run.insert().values(
            id=run_id,
            job=JOB,
            partition=partition,
            state="verified" if complete else "planned",
            as_of=as_of,
            options={"detection": found.json()},
            planned_by=request.operator,
            dagster_run_id=request.dagster_run_id,
            columns=COLUMNS,
            digest=manifest.digest(JOB, CREATE, partition, as_of, found.creations),
            schema_digest=relied_on(found.where, found.definitions),
            planned=planned,
            excluded={"already_existed": n} if (n := len(found.comparison.present)) else {},
            # What found nothing to do has verified just that.
            checks=dict.fromkeys(verification.MUST_HOLD, True) if complete else {},
            expected_min=request.expected_rows[0],
            expected_max=request.expected_rows[1],
            approval_above=request.approval_above,
            finished_at=sa.func.clock_timestamp() if complete else None,
        )
    )
    if request.by_person:
        mine = (ledger.run.c.job == JOB) & (ledger.run.c.partition == partition)
        book.execute(ledger.run.update().where(mine, ledger.run.c.held).values(held=False))
    return run_id


def _create(
    connection: sa.Connection, instance: Instance, run: Run, changes: tuple[TableChange, ...]
) -> dict[str, Any]:
    """Creates the tables, and shows that nothing else was changed; returns what then is defined.

    Raises `ProofFailed`, which rolls all of it back, where anything else was.
    """
    before = instance.definitions(connection)
    if run.state in runs.BEGUN and instance.made_by(connection, changes):
        keys = {instance.key(each.table) for each in changes}
        return _state({n: d for n, d in before.items() if n not in keys}, before)
    _demand_unchanged(connection, instance, run, changes, before)
    written = instance.writes(connection)
    for change in changes:
        instance.execute(connection, change)
    after = instance.definitions(connection)
    altered = sorted(name for name in before if after.get(name) != before[name])
    if altered or written():
        raise ProofFailed(
            "Creating the tables changed something else, so it was rolled back: "
            f"{', '.join(altered) or written()}."
        )
    return _state(before, after)


def _demand_unchanged(
    connection: sa.Connection,
    instance: Instance,
    run: Run,
    changes: tuple[TableChange, ...],
    before: dict[str, str],
) -> None:
    there = {name.lower() for name in shapes.relations(connection, instance.schema)}
    appeared = [each.table for each in changes if each.table in there]
    if appeared or relied_on(instance.where, before) != run.schema_digest:
        why = f"{', '.join(appeared)} has appeared" if appeared else "its tables have changed"
        raise Guarded(
            f"Run {run.id} is stale: {why} since it was planned; `./maintenance cancel {run.id}` "
            "and plan again. Nothing was written."
        )


def _state(before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    created = {name: digest for name, digest in after.items() if name not in before}
    return {"definitions": before, "created": created}


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
