"""jobs, runs, grants, doctor: the verbs that only look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.outcomes import Outcome, figures, next_step, print_json
from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.grants import grants as grants_of
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Refusal
from maintenance_pipelines.orchestration.ledgers import configured, find_run, systems
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.orchestration.sentences import refusal_of
from maintenance_pipelines.settings import Settings, url_variable
from maintenance_pipelines.systems import registry

FAILURES_SHOWN = 20


def jobs(json: options.Json = False) -> int:
    """The jobs, their partitions, schedules and kinds of change."""
    found = [_job(job) for job in registry.JOBS.values()]
    if json:
        print_json({"jobs": found})
    else:
        columns = ("job", "system", "partitions", "schedule (UTC)", "change", "says")
        terminal.show_table(columns, [tuple(each.values()) for each in found])
    return 0


def runs_(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="One run in full.")] = None,
    job: Annotated[
        str | None, typer.Option(metavar="JOB", help="Only the runs of this job.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, of each system.")] = 50,
    json: options.Json = False,
) -> int:
    """What was planned, applied and taken back, the newest first; or one run in full."""
    settings = Settings.load()
    if run is not None:
        return _one(settings, run, json)
    only = registry.find(job).name if job else None
    found = []
    for system in configured(settings):
        database = connect(settings, system)
        try:
            found += runs.history(database, only, limit)
        finally:
            database.dispose()
    found.sort(key=lambda each: each.created_at, reverse=True)
    if json:
        print_json({"runs": [_entry(each) for each in found]})
        return 0
    columns = (
        "run",
        "job",
        "partition",
        "state",
        "planned",
        "applied",
        "failed",
        "planned at",
        "by",
    )
    terminal.show_table(columns, [_line(each) for each in found])
    return 0


def grants(
    job: options.JobName,
    undo: Annotated[bool, typer.Option("--undo", help="What a rollback needs besides.")] = False,
    role: Annotated[str, typer.Option(help="The database role that gets them.")] = "maintenance",
    json: options.Json = False,
) -> int:
    """The least privileges that a job can do with, as SQL; nothing is executed."""
    found, settings = registry.find(job), Settings.load()
    sql = grants_of(found, _schema(settings, found.system), role, undo)
    if json:
        print_json({"job": found.name, "role": role, "undo": undo, "sql": sql})
    else:
        terminal.say(sql)
    return 0


def doctor(
    system: Annotated[
        str | None, typer.Argument(metavar="[SYSTEM]", help="Default: every configured one.")
    ] = None,
    json: options.Json = False,
) -> int:
    """Settings and preflight of each job, one line each; nothing is written."""
    settings = Settings.load()
    names = [known_system(system)] if system else configured(settings)
    findings = [finding for name in names for finding in _examine(settings, name)]
    code = max((finding.exit_code for finding in findings), default=0)
    if json:
        print_json({"findings": [finding.json() for finding in findings], "exit_code": code})
        return code
    for finding in findings:
        terminal.say(
            f"{'ok   ' if finding.exit_code == 0 else 'WRONG'} {finding.what}: {finding.says}"
        )
    return code


def known_system(name: str) -> str:
    """A system's name; refuses one that there is not."""
    if name not in systems():
        raise BadInput(f"There is no system {name!r}; the systems are: {', '.join(systems())}.")
    return name


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` has looked at."""

    what: str
    says: str
    exit_code: int = 0

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {"what": self.what, "ok": self.exit_code == 0, "says": self.says}


def _examine(settings: Settings, system: str) -> Iterator[Finding]:
    try:
        database = connect(settings, system)
    except Refusal as refusal:
        yield Finding(url_variable(system), str(refusal), refusal.exit_code)
        return
    try:
        yield _ledger(database)
        for job in registry.JOBS.values():
            if job.system == system:
                yield _fitness(settings, job, database)
    except Refusal as refusal:
        yield Finding(url_variable(system), str(refusal), refusal.exit_code)
    except DBAPIError as error:
        retold = refusal_of(error)
        yield Finding(url_variable(system), str(retold), retold.exit_code)
    finally:
        database.dispose()


def _ledger(database: Database) -> Finding:
    with database.transaction() as connection:
        current = ledger.is_current(connection)
    says = (
        "is there and current" if current else "is made on first use, or by `./maintenance install`"
    )
    return Finding("ledger", says)


def _fitness(settings: Settings, job: Job, database: Database) -> Finding:
    try:
        settings.options(job)
        settings.approval_above(job.system)
        fit = preflight(job, database, settings.allowed_triggers(job.system))
    except Refusal as refusal:
        return Finding(job.name, str(refusal), refusal.exit_code)
    triggers = f"; allowed triggers fire: {', '.join(fit.triggers)}" if fit.triggers else ""
    return Finding(
        job.name, f"can work on this database, PostgreSQL {fit.server_version}{triggers}"
    )


def _job(job: Job) -> dict[str, Any]:
    return {
        "job": job.name,
        "system": job.system,
        "partitions": f"months since {job.partitions.since}" if job.partitions else None,
        "schedule": job.schedule,
        "change": KINDS[type(job.change).__name__],
        "says": job.says,
    }


KINDS = {"Insert": "insert missing"}
"""What the kinds of change are called in DESIGN.md."""


def _one(settings: Settings, beginning: str, as_json: bool) -> int:
    # Reports are made by pandas, which takes most of a second to import.
    from maintenance_pipelines.engine.reports import failures

    with find_run(settings, beginning) as found:
        shown = runs.active(found.database, found.run)
        failed = failures(registry.find(shown.job), found.database, found.run, FAILURES_SHOWN)
    if as_json:
        print_json(_entry(shown) | {"failures": failed})
        return 0
    terminal.show_table(("", ""), figures(shown))
    if failed:
        terminal.show_table(list(failed[0]), [list(each.values()) for each in failed])
    if shown.error:
        terminal.say(f"Error: {shown.error}")
    if (step := next_step(shown)) is not None:
        terminal.say(f"Next: {step}")
    return 0


def _entry(run: runs.Run) -> dict[str, Any]:
    return Outcome(run).json() | {"created_at": run.created_at.isoformat(), "reverts": run.reverts}


def _line(run: runs.Run) -> tuple[object, ...]:
    name = f"rollback of {run.reverts[:8]}" if run.reverts else run.id[:8]
    counts = (run.planned, run.applied, run.failed)
    when = f"{run.created_at:%Y-%m-%d %H:%M}"
    return (name, run.job, run.partition or "", run.state, *counts, when, run.planned_by)


def _schema(settings: Settings, system: str) -> str:
    """The schema that the system's URL names; `public` where it has no URL yet."""
    try:
        return connect(settings, system).schema
    except Misconfigured:
        return "public"
