"""Reports: what a run would do and what it did, as Markdown for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.changes import Forward, Undo
from maintenance_pipelines.engine.database import Database, count
from maintenance_pipelines.engine.guards import spell_bounds
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.tables import markdown
from maintenance_pipelines.engine.verifying import Check

SAMPLE = 10
"""Rows of a sample, and failures that are listed one by one."""


def before(job: Job, database: Database, run: Run, subject: str | None = None) -> str:
    """The pre-execution report: what would change, what is left alone and why.

    `subject` names one person (by e-mail address or id) whose rows are shown; the address itself
    never is.
    """
    scope = change_of(job, run).scope
    parts = [
        f"# {run.label}: plan",
        f"{job.says}.",
        _facts(run),
        _table("Left alone, by reason", ["reason", "candidates"], sorted(run.excluded.items())),
    ]
    if job.notes is not None:
        parts.append(job.notes(scope))
    if run.planned and run.pruned_at is None:
        parts += _summaries(job, database, run)
        parts += _samples(job, database, run)
    if subject is not None:
        parts.append(person(job, database, run, subject, "before"))
    return "\n\n".join(part for part in parts if part) + "\n"


def after(
    job: Job,
    database: Database,
    run: Run,
    checks: Sequence[Check],
    subject: str | None = None,
) -> str:
    """The post-execution report: what became of every planned row, and every check."""
    outcomes = [
        ("planned", run.planned),
        ("applied", run.applied),
        ("skipped: already there", run.skipped),
        ("in conflict: the reason has gone", run.conflicts),
        ("failed", run.failed),
    ]
    verdicts = [
        (check.name, _verdict(check), check.says, ", ".join(check.sample)) for check in checks
    ]
    parts = [
        f"# {run.label}: {run.state.replace('_', ' ')}",
        _facts(run),
        _table("Rows", ["outcome", "rows"], outcomes),
        _table("Checks", ["check", "verdict", "figures", "first offenders"], verdicts),
        _failures(job, database, run),
    ]
    if subject is not None:
        parts.append(person(job, database, run, subject, "after"))
    return "\n\n".join(part for part in parts if part) + "\n"


def failures(job: Job, database: Database, run: Run, limit: int) -> list[dict[str, Any]]:
    """The first rows that failed: position, key, and the database's error for each."""
    if not run.failed or run.pruned_at is not None:
        return []
    exception = ledger.exception
    failed = (
        sa.select(exception.c.position, exception.c.sqlstate, exception.c.error)
        .where(exception.c.run_id == run.id, exception.c.outcome == "failed")
        .order_by(exception.c.position)
        .limit(limit)
    )
    with database.transaction() as connection:
        errors = {row.position: row for row in connection.execute(failed)}
    named = name_rows(job, database, run, {at: row.error for at, row in errors.items()})
    return [{**row, "sqlstate": errors[row["position"]].sqlstate} for row in named]


def name_rows(
    job: Job, database: Database, run: Run, errors: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Rows of a plan by their position, each with its key and its error."""
    with database.transaction() as connection:
        change: Forward | Undo
        if run.reverts is None:
            change = change_of(job, run)
        else:
            undone = runs.load(connection, run.reverts)
            change = change_of(job, undone).undo(connection, run.id, database)
        return [
            {**row, "error": errors[row["position"]]}
            for rows in change.named(list(errors))
            for row in connection.execute(rows).mappings()
        ]


def person(job: Job, database: Database, run: Run, subject: str, when: str) -> str:
    """One person's rows as they are now, found by e-mail address or id, shown without either."""
    if job.subject is None:
        return ""
    statement = job.subject(change_of(job, run).scope, subject)
    with database.transaction() as connection:
        found = connection.execute(statement)
        rows = found.fetchmany(200)
    return _table(f"The person asked for, {when}", list(found.keys()), rows) or (
        f"**The person asked for, {when}**: no rows."
    )


def _facts(run: Run) -> str:
    facts = [
        ("run", run.id),
        ("as of (UTC)", f"{run.as_of:%Y-%m-%d %H:%M:%S}"),
        ("planned by", run.planned_by),
        ("rows planned", f"{run.planned:,}"),
        ("digest", run.digest),
    ]
    if run.expected_min is not None or run.expected_max is not None:
        facts.append(("rows expected", spell_bounds(run.expected_min, run.expected_max)))
    return _table("", ["", "this run"], facts)


def _summaries(job: Job, database: Database, run: Run) -> Iterable[str]:
    change = change_of(job, run)
    for summary, plan in change.summaries():
        with database.analysis() as connection:
            found = connection.execute(summary.rows(change.scope, plan))
            yield _table(summary.title, list(found.keys()), found.fetchmany(50))


def _samples(job: Job, database: Database, run: Run) -> Iterable[str]:
    with database.transaction() as connection:
        for what, planned in change_of(job, run).samples():
            total = count(connection, planned.order_by(None))
            found = connection.execute(planned.limit(SAMPLE))
            columns, rows = list(found.keys()), found.all()
            title = f"The first {len(rows)} of {total:,} {what}, as they would be written"
            yield _table(title, columns, rows)


def _failures(job: Job, database: Database, run: Run) -> str:
    rows = failures(job, database, run, SAMPLE)
    if not rows:
        return ""
    title = f"The first {len(rows)} of {run.failed:,} rows that failed"
    return _table(title, list(rows[0]), [tuple(row.values()) for row in rows])


def _verdict(check: Check) -> str:
    if check.passed:
        return "holds"
    return "note" if check.warning else "FAILED"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    shown = markdown(columns, rows)
    return f"**{title}**\n\n{shown}" if title and shown else shown
