"""Rollback: drops exactly the tables that a run has created, and never rows that nobody exported.

Points that people have collected are worth money: a table that holds rows stays, unless the
rollback is forced, and then the rows are on disk as CSV before the table is gone.
"""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.guards import RESUMABLE
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.proof import ProofFailed
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import VERIFIABLE, Check, Verification
from maintenance_pipelines.systems.cashback import admission, manifest, verification
from maintenance_pipelines.systems.cashback.execution import execute
from maintenance_pipelines.systems.cashback.exports import export
from maintenance_pipelines.systems.cashback.instance import Instance, TableChange

DROP = "drop tables"
WITH_THEIR_TABLE = ("index ", "trigger ")
"""What SQLite drops together with a table, as `definitions` names it."""


def plan_rollback(instance: Instance, database: Database, run: Run, request: Request) -> Run:
    """Plans to drop what `run` has created; returns the rollback's own run.

    Tables that are gone already are counted in `excluded`. A rollback that is under way or
    planned already is returned as it is.
    """
    with database.transaction() as book:
        current = runs.load(book, run.id)
        undo = runs.rollback_of(book, run.id)
    if current.state == "rolled_back":
        raise Guarded(f"Run {run.id} has already been rolled back.")
    if current.state in ("planned", "applying") or (current.planned and not current.applied):
        raise Guarded(f"Run {run.id} is {current.state}; only what was applied can be rolled back.")
    if current.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned and can no longer be rolled back.")
    admission.demand_here(instance, current)
    if undo is not None and undo.state == "applying":
        raise Guarded(f"The rollback of run {run.id} is being applied by another process.")
    if undo is not None and undo.state in RESUMABLE | {"applied"}:
        return undo
    return _write(instance, database, current, request)


def planned_changes(database: Database, run: Run) -> tuple[TableChange, ...]:
    """What the plan of a run, or of its rollback, says."""
    with database.transaction() as book:
        return manifest.read(book, run.id) if run.planned else ()


def rows_at_stake(instance: Instance, database: Database, undo: Run) -> dict[str, int]:
    """The rows that the tables of a planned rollback hold now, by table, for those that do."""
    changes = planned_changes(database, undo)
    counts = instance.read(lambda connection: _count(connection, instance, changes))
    return {table: rows for table, rows in counts.items() if rows}


def rollback(
    instance: Instance,
    database: Database,
    run: Run,
    request: Request,
    order: Order,
    exports: Path,
    force: bool = False,
) -> Verification:
    """Plans, applies and verifies the rollback of `run`; finishes one that was interrupted.

    Refuses where a table holds rows or has been altered since, unless forced; rows are then
    exported into a folder of their own under `exports` first. Afterwards `run` is `rolled_back`
    and its instance held for schedules until a person runs it again.
    """
    undo = plan_rollback(instance, database, run, request)
    started = time.monotonic()
    changes = planned_changes(database, undo)
    with database.transaction() as book:
        run = runs.load(book, run.id)
    created = run.options.get("applied", {}).get("created", {})

    def take(book: sa.Connection, held: Run) -> None:
        admission.demand_appliable(book, held, DROP, order)

    def carry(connection: sa.Connection, book: sa.Connection, held: Run) -> None:
        before = instance.definitions(connection)
        keys = {instance.key(each.table) for each in changes}
        if held.state in runs.BEGUN and not keys & set(before):
            return  # dropped by an attempt that could not say so
        instance.seclude(connection, changes)
        known = set(run.options["detection"]["comparison"]["present"])
        _demand_nothing_hanging(connection, instance, changes, known)
        counts = _count(connection, instance, changes)
        if not force:
            _demand_untouched(run, counts, before, created, keys)
        used = [table for table, rows in counts.items() if rows]
        if used and not order.rehearse:
            folder = exports / instance.name / held.id
            written = export(connection, instance.schema, used, folder)
            options = {**held.options, "exported": [str(path) for path in written]}
            runs.change(book, held.id, options=options)
        for change in changes:
            instance.execute(connection, change)
        _demand_only(before, instance.definitions(connection), created, keys)

    if undo.state in RESUMABLE and undo.planned:
        undo = execute(instance, database, undo, order, take, carry)
    if undo.state not in (*VERIFIABLE, "planned") or order.rehearse:
        return Verification(undo, ())
    checks = _checks(instance, database, undo, changes, set(created)) if undo.planned else []
    undo = verifying.conclude(database, undo, checks, started, order.dagster_run_id)
    if undo.state == "verified":
        with database.transaction() as book:
            runs.change(book, run.id, state="rolled_back", held=True)
    return Verification(undo, tuple(checks))


def _write(instance: Instance, database: Database, run: Run, request: Request) -> Run:
    started, run_id = time.monotonic(), runs.new_id()
    made = planned_changes(database, run)
    now = instance.read(instance.definitions)
    standing = [each for each in made if instance.key(each.table) in now]
    changes = instance.removals(standing)
    with database.transaction() as book:
        if changes:
            manifest.write(book, run_id, changes)
        book.execute(
            ledger.run.insert().values(
                id=run_id,
                job=run.job,
                partition=run.partition or "",
                reverts=run.id,
                state="planned",
                as_of=run.as_of,
                options={"before": now},
                planned_by=request.operator,
                dagster_run_id=request.dagster_run_id,
                columns=list(run.columns),
                digest=manifest.digest(run.job, DROP, run.partition or "", run.as_of, changes),
                schema_digest=run.schema_digest,
                planned=len(changes),
                excluded={"already_gone": n} if (n := len(made) - len(changes)) else {},
            )
        )
        runs.spend(book, run_id, time.monotonic() - started)
        return runs.load(book, run_id)


def _count(
    connection: sa.Connection, instance: Instance, changes: tuple[TableChange, ...]
) -> dict[str, int]:
    quote = connection.dialect.identifier_preparer.quote
    prefix = f"{quote(instance.schema)}." if instance.schema else ""
    statements = {each.table: f"SELECT count(*) FROM {prefix}{each.table}" for each in changes}
    return {
        table: int(connection.execute(sa.text(statement)).scalar_one())
        for table, statement in statements.items()
    }


def _demand_nothing_hanging(
    connection: sa.Connection,
    instance: Instance,
    changes: tuple[TableChange, ...],
    known: set[str],
) -> None:
    hanging = instance.dependents(connection, [each.table for each in changes], known)
    if hanging:
        raise Guarded(
            f"{', '.join(hanging)} would be left hanging; remove that first. Nothing was written."
        )


def _demand_untouched(
    run: Run,
    counts: dict[str, int],
    now: dict[str, str],
    created: dict[str, str],
    keys: set[str],
) -> None:
    used = [f"{table} ({rows:,})" for table, rows in counts.items() if rows]
    if used:
        raise Guarded(
            f"Tables of run {run.id} hold rows by now: {', '.join(used)}. To drop them would "
            "destroy these; a forced rollback exports them as CSV first. Nothing was written."
        )
    altered = sorted(key for key in keys if now.get(key) != created.get(key))
    if altered:
        raise Guarded(
            f"{', '.join(altered)} has been altered since run {run.id} created it; only a forced "
            "rollback drops it. Nothing was written."
        )


def _demand_only(
    before: dict[str, str], after: dict[str, str], created: dict[str, str], keys: set[str]
) -> None:
    """Indexes, triggers and sequences go with their tables; all else has to be as it was."""
    gone = keys | set(created)
    lost = [n for n in before if n not in gone and after.get(n) != before[n]]
    lost = [n for n in lost if not n.startswith(WITH_THEIR_TABLE)]
    if lost or keys & set(after):
        raise ProofFailed(f"Dropping the tables would change {', '.join(lost)}; rolled back.")


def _checks(
    instance: Instance,
    database: Database,
    undo: Run,
    changes: tuple[TableChange, ...],
    created: set[str],
) -> list[Check]:
    with database.transaction() as book:
        accounted = verifying.accounted_for(book, undo)
    now = instance.read(instance.definitions)
    keys = {instance.key(each.table) for each in changes}
    left = sorted(keys & set(now))
    gone = Check("removed_tables_are_gone", not left, f"{len(left)} are there", len(left))
    before = undo.options["before"]
    with_them = {n for n in set(before) - set(now) if n.startswith(WITH_THEIR_TABLE)}
    gone_too = keys | with_them | created
    return [accounted, gone, verification.unchanged(before, now, gone_too)]
