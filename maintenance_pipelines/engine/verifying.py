"""Verify: proves from the database what a run has done, and that nothing else was touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.batches import attempts
from maintenance_pipelines.engine.changes import Forward
from maintenance_pipelines.engine.database import Database, count
from maintenance_pipelines.engine.faults import Fault, describe, judge
from maintenance_pipelines.engine.insertion import Comparison, Insertion
from maintenance_pipelines.engine.job import Insert, Job, Rule
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.proof import Counts
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.unit_change import UnitChange

VERIFIABLE = frozenset({"applied", "verified", "partial", "failed"})
SAMPLE = 10

SCOPE = "plan_within_expected_scope"
MUST_HOLD = {
    "every_planned_row_accounted_for": "Applied, skipped, conflicting and failed rows add up.",
    "existing_rows_untouched": "PostgreSQL counted the planned writes and nothing else.",
    "nothing_left_missing": "Detection as of the plan's moment finds nothing more to do.",
}
"""The engine's own checks after a run, beside the rules of the job."""
OF_NEW_ROWS = {
    "new_rows_as_specified": "Every applied row is there as it was planned.",
    "no_duplicate": "No key of an applied row exists twice.",
}
"""Further ones where missing rows were inserted."""
WORTH_KNOWING = {
    "appeared_since": "Rows that became due after the plan was made.",
    "touched_since": "Applied rows that the app or its users have changed since.",
}
"""Numbers of live traffic, and no failure."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check: how many rows break it, the first of them by id, and in words.

    A `warning` is a number worth knowing and fails nothing.
    """

    name: str
    passed: bool
    says: str
    count: int = 0
    sample: tuple[str, ...] = ()
    warning: bool = False


@dataclass(frozen=True)
class Verification:
    """A run after verification, and every check of it."""

    run: Run
    checks: tuple[Check, ...]


def verify(
    job: Job, database: Database, run: Run, dagster_run_id: str | None = None
) -> Verification:
    """Re-reads the database and accounts for every row of the plan.

    The run is `verified` where every check holds, `partial` where rows failed or wait, `failed`
    otherwise. A check that could not be evaluated has failed.
    """
    if run.state not in VERIFIABLE:
        raise Guarded(f"Run {run.id} is {run.state}; only a run that was applied can be verified.")
    if run.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned and cannot be verified any more.")
    if run.planned == 0 and not job.judged_when_empty:
        return Verification(run, ())
    started = time.monotonic()
    checks = [*_checks(job, database, run)]
    return Verification(conclude(database, run, checks, started, dagster_run_id), tuple(checks))


def conclude(
    database: Database,
    run: Run,
    checks: list[Check],
    started: float,
    dagster_run_id: str | None = None,
) -> Run:
    """Writes the verdict into the ledger and returns the run as it is then."""
    # A system's own rules may warn as well; the ledger has no column for those.
    counts = {check.name: check.count for check in checks if check.name in WORTH_KNOWING}
    blocking = {check.name: check.passed for check in checks if not check.warning}
    with database.transaction() as connection:
        incomplete = run.failed > 0 or run.planned > settled(run)
        unmet = "partial" if incomplete and run.state != "failed" else "failed"
        runs.change(
            connection,
            run.id,
            state="verified" if all(blocking.values()) else unmet,
            checks=blocking,
            finished_at=sa.func.clock_timestamp(),
            dagster_run_id=dagster_run_id or run.dagster_run_id,
            **counts,
        )
        runs.spend(connection, run.id, time.monotonic() - started)
        return runs.load(connection, run.id)


def must_hold(job: Job) -> dict[str, str]:
    """The checks that a run of this job has to pass after it, and what each says."""
    own = MUST_HOLD | (OF_NEW_ROWS if isinstance(job.change, Insert) else {})
    return own | {rule.name: rule.says for rule in job.all_rules if rule.severity == "error"}


def worth_knowing(job: Job) -> dict[str, str]:
    """The checks of a run of this job that fail nothing, and what each says."""
    warnings = {rule.name: rule.says for rule in job.all_rules if rule.severity == "warning"}
    return WORTH_KNOWING | warnings


def settled(run: Run) -> int:
    """Rows of the plan that have an outcome."""
    return run.applied + run.skipped + run.conflicts + run.failed


def accounted_for(connection: sa.Connection, run: Run) -> Check:
    """Applied, skipped, in conflict and failed rows add up to the plan, counted two ways."""
    batches = sa.select(sa.func.coalesce(sa.func.sum(ledger.batch.c.rows), 0))
    tried = connection.execute(batches.where(ledger.batch.c.run_id == run.id)).scalar_one()
    open_rows = run.planned - settled(run)
    return Check(
        "every_planned_row_accounted_for",
        open_rows == 0 and tried + run.failed == run.planned,
        f"{run.planned} planned = {run.applied} applied + {run.skipped} skipped + "
        f"{run.conflicts} in conflict + {run.failed} failed",
        abs(open_rows),
    )


def evaluate(database: Database, name: str, check: Callable[[sa.Connection], Check]) -> Check:
    """One check in a transaction of its own; one that the database refuses has failed."""
    try:
        for attempt in attempts(database):
            with attempt, database.analysis() as connection:
                return check(connection)
    except DBAPIError as error:
        if judge(error) is Fault.TRANSIENT:
            raise
        return Check(name, False, f"could not be evaluated: {describe(error)}")
    raise AssertionError("the last attempt raises")


def counted(connection: sa.Connection, run: Run) -> Counts:
    """Rows inserted, updated, deleted, as PostgreSQL counted the run's batches."""
    batch = ledger.batch.c
    sums = (
        sa.func.coalesce(sa.func.sum(c), 0) for c in (batch.inserted, batch.updated, batch.deleted)
    )
    row = connection.execute(sa.select(*sums).where(batch.run_id == run.id)).one()
    return int(row[0]), int(row[1]), int(row[2])


def as_counted(name: str, counts: Counts, planned: Counts) -> Check:
    """Whether what PostgreSQL counted is what the applied part of the plan comes to."""
    inserted, updated, deleted = counts
    return Check(
        name,
        counts == planned,
        f"PostgreSQL counted {inserted} rows inserted, {updated} updated, {deleted} deleted",
        sum(abs(have - due) for have, due in zip(counts, planned, strict=True)),
    )


def _checks(job: Job, database: Database, run: Run) -> Iterator[Check]:
    change = change_of(job, run)
    yield Check(
        SCOPE,
        run.within_scope,
        f"{run.planned} rows planned",
    )
    yield evaluate(database, "every_planned_row_accounted_for", lambda c: accounted_for(c, run))
    yield evaluate(database, "existing_rows_untouched", lambda c: _untouched(c, change, run))
    if isinstance(change, Insertion):
        yield from _rows_there(database, change, run)
    if isinstance(change, UnitChange):
        yield evaluate(database, "touched_since", lambda c: _touched(c, change))
    yield from _nothing_left(database, change, run)
    for rule, applied in change.rules():
        yield _rule(database, change, rule, applied)


def _untouched(connection: sa.Connection, change: Forward, run: Run) -> Check:
    name = "existing_rows_untouched"
    return as_counted(name, counted(connection, run), change.counted(connection))


def _touched(connection: sa.Connection, change: UnitChange) -> Check:
    touched = change.touched(connection)
    says = f"{touched} applied units have been changed since"
    return Check("touched_since", touched == 0, says, touched, warning=True)


def _rows_there(database: Database, change: Insertion, run: Run) -> Iterator[Check]:
    """One comparison answers three questions: as specified, no duplicate, touched since."""
    found: Comparison | None = None

    def compare(connection: sa.Connection) -> Check:
        nonlocal found
        found = change.compare(connection, run.applied)
        says = f"{found.wrong} applied rows are not as planned"
        return Check("new_rows_as_specified", found.wrong == 0, says, found.wrong)

    specified = evaluate(database, "new_rows_as_specified", compare)
    yield specified
    if found is None:
        yield Check("no_duplicate", False, specified.says)
        yield Check("touched_since", False, specified.says, warning=True)
        return
    says = f"{found.duplicates} rows have the key of an applied row"
    yield Check("no_duplicate", found.duplicates == 0, says, found.duplicates)
    touched = found.gone + found.touched
    says = f"{touched} applied rows have been changed or deleted since"
    yield Check("touched_since", touched == 0, says, touched, warning=True)


def _nothing_left(database: Database, change: Forward, run: Run) -> Iterator[Check]:
    """Detection again: what is due now and was planned, and what has become due since.

    The plan held all that was due when it was made. What is due now and neither failed nor waits
    has become so since: the app has added it, or taken away what stood in its place.
    """
    waiting = run.planned - settled(run)
    appeared: int | None = None

    def detect(connection: sa.Connection) -> Check:
        nonlocal appeared
        failed = change.failed_and_due(connection) if run.failed else 0
        appeared = max(0, change.due_now(connection) - failed - waiting)
        left = failed + waiting
        says = f"{left} planned rows are still missing"
        return Check("nothing_left_missing", left == 0, says, left)

    left = evaluate(database, "nothing_left_missing", detect)
    yield left
    if appeared is None:
        yield Check("appeared_since", False, left.says, warning=True)
        return
    says = f"{appeared} more rows have become due since the plan was made"
    yield Check("appeared_since", appeared == 0, says, appeared, warning=True)


def _rule(database: Database, change: Forward, rule: Rule, applied: sa.FromClause) -> Check:
    def offenders(connection: sa.Connection) -> Check:
        found = rule.offenders(change.scope, applied).subquery("offenders")
        total = count(connection, sa.select(found))
        first = connection.scalars(sa.select(found).limit(SAMPLE)).all() if total else []
        return Check(
            rule.name,
            total == 0,
            f"{rule.says}: {total} offenders",
            total,
            tuple(str(offender) for offender in first),
            rule.severity == "warning",
        )

    return evaluate(database, rule.name, offenders)
