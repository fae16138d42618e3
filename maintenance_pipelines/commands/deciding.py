"""approve, rollback, pause, cancel: what a person decides about one run."""

from __future__ import annotations

from typing import Annotated

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.execution import demand_fit, take_back
from maintenance_pipelines.commands.outcomes import Outcome, conclude
from maintenance_pipelines.engine import runs
from maintenance_pipelines.orchestration.ledgers import find_run
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry


def approve(run: options.RunId, json: options.Json = False) -> int:
    """Approves a plan as it is, by its digest, as somebody other than who planned it."""
    settings = Settings.load()
    with find_run(settings, run) as found:
        approved = runs.approve(found.database, found.run.id, settings.operator)
    return conclude([Outcome(approved)], as_json=json)


def rollback(
    run: options.RunId,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what it would take back.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Of a migration: drop tables that hold rows, exporting them first."
        ),
    ] = False,
    allow_trigger: options.AllowTrigger = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Takes one run back, leaving alone the rows that somebody has touched since."""
    settings = Settings.load()
    with find_run(settings, run) as found:
        job = registry.find(found.run.job)
    demand_fit(job, settings, frozenset(allow_trigger or ()), undo=True)
    told = {"plan_only": plan, "force": force, "allow_triggers": allow_trigger}
    finished = take_back(settings, found.run, told, verbose)
    for report in () if json else finished.reports:
        terminal.show_report(report)
    return conclude([finished.outcome], as_json=json)


def pause(run: options.RunId, json: options.Json = False) -> int:
    """Asks a run under way to stop after its batch; `resume` goes on with it."""
    with find_run(Settings.load(), run) as found:
        active = runs.active(found.database, found.run)
        asked = runs.request_pause(found.database, active.id)
    return conclude([Outcome(asked)], as_json=json)


def cancel(run: options.RunId, json: options.Json = False) -> int:
    """Gives a run up, between batches; what it has written stays until it is rolled back."""
    with find_run(Settings.load(), run) as found:
        active = runs.active(found.database, found.run)
        asked = runs.request_cancel(found.database, active.id)
    return conclude([Outcome(asked)], as_json=json)
