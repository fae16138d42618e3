"""jobs, runs, grants: the verbs that only look."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.outcomes import Outcome, figures, next_step, print_json
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.grants import grants as grants_of
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured
from maintenance_pipelines.orchestration.ledgers import configured, find_run, ledgers, systems
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.registry import AnyJob

FAILURES_SHOWN = 20


def jobs(json: options.Json = False) -> int:
    """The jobs, their partitions, schedules and kinds of change."""
    found = [_job(job) for job in registry.every()]
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
    with ledgers(settings, configured(settings)) as all_of_them:
        recorded = {
            each.id: each
            for ledger in all_of_them
            for each in runs.history(ledger.database, only, limit)
            if ledger.has(each)
        }
    found = sorted(recorded.values(), key=lambda each: each.created_at, reverse=True)
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
    if isinstance(found, Migration):
        raise BadInput(
            f"{found.name} has no grants to print: on PostgreSQL it acts as the owner of the "
            "application's tables, or as a role with CREATE on their schema and SELECT and "
            "REFERENCES on them."
        )
    sql = grants_of(found, _schema(settings, found.system), role, undo)
    if json:
        print_json({"job": found.name, "role": role, "undo": undo, "sql": sql})
    else:
        terminal.say(sql)
    return 0


def known_system(name: str) -> str:
    """A system's name; refuses one that there is not."""
    if name not in systems():
        raise BadInput(f"There is no system {name!r}; the systems are: {', '.join(systems())}.")
    return name


def _job(job: AnyJob) -> dict[str, Any]:
    if isinstance(job, Migration):
        own = {
            "partitions": f"instances {', '.join(job.partitions)}",
            "schedule": None,
            "change": "add tables",
        }
    else:
        own = {
            "partitions": f"months since {job.partitions.since}" if job.partitions else None,
            "schedule": job.schedule,
            "change": KINDS[type(job.change).__name__],
        }
    return {"job": job.name, "system": job.system, **own, "says": job.says}


KINDS = {"Insert": "insert missing", "Units": "change by unit"}
"""What the kinds of change are called for people."""


def _one(settings: Settings, beginning: str, as_json: bool) -> int:
    # Reports are made by pandas, which takes most of a second to import.
    from maintenance_pipelines.engine.reports import failures

    with find_run(settings, beginning) as found:
        shown = runs.active(found.database, found.run)
        job = registry.find(shown.job)
        # A migration is applied as a whole, or not at all.
        failed = (
            failures(job, found.database, found.run, FAILURES_SHOWN) if isinstance(job, Job) else []
        )
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
