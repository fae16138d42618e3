"""plan, run, apply, verify, resume: the verbs that work on an app's data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.execution import (
    Finished,
    Work,
    carry_out,
    demand_fit,
    take_back,
)
from maintenance_pipelines.commands.outcomes import conclude
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.guards import RESUMABLE
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration.ledgers import find_run
from maintenance_pipelines.orchestration.moments import as_of as read_moment
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback.declaration import Migration


def plan(
    job: options.JobName,
    partition: options.Partition = None,
    as_of: options.AsOf = None,
    expected_rows: options.ExpectedRows = None,
    user: options.User = None,
    allow_trigger: options.AllowTrigger = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Detection alone: shows what a run would change, and changes nothing."""
    detection = _detection(as_of, expected_rows, allow_trigger)
    return _work(job, partition, {"detection": detection}, user, json, verbose, as_of)


def run(
    job: options.JobName,
    partition: options.Partition = None,
    as_of: options.AsOf = None,
    expected_rows: options.ExpectedRows = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Roll every batch back; find what would fail.")
    ] = False,
    user: options.User = None,
    allow_trigger: options.AllowTrigger = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Plan, apply and verify, as one Dagster run for each partition."""
    stages: dict[str, dict[str, Any]] = {
        "detection": _detection(as_of, expected_rows, allow_trigger),
        "materialization": {"rehearse": rehearse, "allow_triggers": allow_trigger},
    }
    if not rehearse:
        stages |= {"backup": {}, "verification": {}}
    return _work(job, partition, stages, user, json, verbose, as_of)


def verify(
    job: options.JobName,
    partition: options.Partition = None,
    user: options.User = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Verification alone, of the newest run that was applied."""
    return _work(job, partition, {"verification": {}}, user, json, verbose)


def apply(
    run: options.RunId,
    digest: options.Digest = None,
    allow_trigger: options.AllowTrigger = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Applies the plan of a run, and only that, then verifies."""
    settings = Settings.load()
    found = _find(settings, run)
    if found.state not in RESUMABLE:
        raise Guarded(f"Run {found.id} is {found.state}; there is nothing to apply.")
    return _finish(settings, found, digest, allow_trigger, json, verbose)


def resume(
    run: options.RunId,
    allow_trigger: options.AllowTrigger = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Goes on with a run that was paused, interrupted or partial, or with its rollback."""
    settings = Settings.load()
    with find_run(settings, run) as found:
        active = runs.active(found.database, found.run)
    if active.reverts is not None:
        demand_fit(registry.find(active.job), settings, frozenset(allow_trigger or ()), undo=True)
        undone = take_back(settings, found.run, {"allow_triggers": allow_trigger}, verbose)
        return _show([undone], json)
    if active.state not in RESUMABLE | {"applied"}:
        raise Guarded(f"Run {active.id} is {active.state}; there is nothing to resume.")
    return _finish(settings, active, None, allow_trigger, json, verbose)


def _finish(
    settings: Settings,
    run: Run,
    digest: str | None,
    triggers: list[str] | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Applies what is left of a run and verifies it."""
    job = registry.find(run.job)
    demand_fit(job, settings, frozenset(triggers or ()))
    materialization = {"plan": run.id, "digest": digest, "allow_triggers": triggers}
    stages: dict[str, dict[str, Any]] = {
        "materialization": materialization,
        "backup": {"plan": run.id},
        "verification": {"plan": run.id},
    }
    return _show(carry_out(settings, Work(job, stages, verbose=verbose), [run.partition]), as_json)


def _work(
    name: str,
    partition: str | None,
    stages: dict[str, dict[str, Any]],
    user: str | None,
    as_json: bool,
    verbose: bool,
    as_of: str | None = None,
) -> int:
    """Checks everything that was asked before Dagster starts, then carries it out."""
    settings, job = Settings.load(), registry.find(name)
    partitions = options.partitions(job, settings, partition, read_moment(as_of, utc_now()))
    if user is not None and isinstance(job, Migration):
        raise BadInput(f"{job.name} is not about people; leave --user out.")
    triggers = stages.get("detection", {}).get("allow_triggers") or ()
    demand_fit(job, settings, frozenset(triggers))
    rehearsed = bool(stages.get("materialization", {}).get("rehearse"))
    work = Work(job, stages, user, rehearsed, verbose)
    finished = carry_out(settings, work, partitions)
    # The reports of a whole run are in Dagster; a single stage was asked for to be read.
    reading = len(stages) == 1 and not as_json and partition != options.ALL
    return _show(finished, as_json, several=partition == options.ALL, reading=reading)


def _show(
    finished: list[Finished], as_json: bool, several: bool = False, reading: bool = False
) -> int:
    for report in finished[0].reports if reading else ():
        terminal.show_report(report)
    return conclude([each.outcome for each in finished], as_json=as_json, several=several)


def _detection(
    as_of: str | None, expected_rows: str | None, triggers: list[str] | None
) -> dict[str, Any]:
    low, high = options.expected_rows(expected_rows)
    return {
        "as_of": as_of,
        "expected_rows_min": low,
        "expected_rows_max": high,
        "allow_triggers": triggers,
    }


def _find(settings: Settings, beginning: str) -> Run:
    with find_run(settings, beginning) as found:
        return found.run
