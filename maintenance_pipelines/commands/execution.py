"""A verb that works on data becomes Dagster runs in this process, watched on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy.exc import DBAPIError

from maintenance_pipelines import terminal
from maintenance_pipelines.commands.outcomes import Outcome
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.engine.refusals import BadInput, Guarded, Refusal
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration.ledgers import ledgers
from maintenance_pipelines.orchestration.resources import Maintenance, connect
from maintenance_pipelines.orchestration.sentences import refusal_of, sentence
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.registry import AnyJob

Config = Mapping[str, Mapping[str, Any]]
"""What each stage is told; its stages are the ones that are worked on."""


@dataclass(frozen=True)
class Work:
    """What is asked of a job: the stages `detection`, `materialization`, `verification`, and
    `backup`, which only a migration has.

    `subject` is the user to show in the reports, kept out of what Dagster stores.
    """

    job: AnyJob
    stages: Config
    subject: str | None = None
    rehearsed: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Finished:
    """What came of it: an outcome, and the reports in the order in which they were made."""

    outcome: Outcome
    reports: list[str] = field(default_factory=list)
    interrupted: bool = False


def demand_fit(
    job: AnyJob, settings: Settings, triggers: frozenset[str], undo: bool = False
) -> None:
    """Refuses settings and a database that the job cannot work with, before Dagster starts.

    The instances of a migration are looked at one by one, each in its own Dagster run.
    """
    settings.options(job)
    settings.approval_above(job.system)
    if isinstance(job, Migration):
        if triggers:
            raise BadInput(f"{job.name} writes no rows, so no trigger can fire; none is allowed.")
        return
    database = connect(settings, job.system)
    try:
        preflight(job, database, settings.allowed_triggers(job.system) | triggers, undo)
    finally:
        database.dispose()


def carry_out(settings: Settings, work: Work, partitions: Sequence[str | None]) -> list[Finished]:
    """One Dagster run for each partition; one that fails does not stop the next.

    Ctrl-C stops them all, and leaves the run that it met paused.
    """
    # Importing Dagster takes a second or two, which verbs that do without it should not cost.
    from maintenance_pipelines.orchestration import launching, names

    assets = names.stages(work.job)
    chosen = [stage for stage in assets if stage in work.stages]
    config = {launching.op_of(assets[stage]): work.stages[stage] for stage in chosen}
    finished: list[Finished] = []
    with launching.instance_of(settings) as instance:
        for partition in partitions:
            launch = partial(
                launching.launch,
                instance,
                work.job.name,
                config=config,
                assets=[assets[stage] for stage in chosen],
                partition=partition,
                verbose=work.verbose,
            )
            finished.append(_watch(settings, work, partition or work.job.name, launch))
            if finished[-1].interrupted:
                break
    return finished


def take_back(settings: Settings, run: Run, told: Mapping[str, Any], verbose: bool) -> Finished:
    """The rollback of a run, or only its plan, as a Dagster run."""
    from maintenance_pipelines.orchestration import admin, launching

    with launching.instance_of(settings) as instance:
        launch = partial(
            launching.launch,
            instance,
            admin.rollback.name,
            config={admin.roll_back_run.name: {"run": run.id, **told}},
            verbose=verbose,
        )
        return _watch(settings, Work(registry.find(run.job), {}), run.label, launch)


def _watch(
    settings: Settings, work: Work, label: str, launch: Callable[[Maintenance], None]
) -> Finished:
    """Launches a Dagster run, and says what has become of the ledger's run."""
    screen = terminal.Screen()
    maintenance = Maintenance(lambda: settings, watcher=screen, subject=work.subject)
    refusal: Refusal | None = None
    interrupted = False
    try:
        with screen:
            launch(maintenance)
    except Refusal as refused:
        refusal = refused
    except DBAPIError as error:
        refusal = refusal_of(error)
    except KeyboardInterrupt:
        interrupted = True
        run = _as_it_is(settings, work.job, screen.run_seen)
        refusal = Guarded(f"Interrupted. {sentence(run) if run else 'Nothing was written.'}")
    run = screen.run_seen
    if refusal is not None and not work.rehearsed:
        run = _as_it_is(settings, work.job, run)
    return Finished(
        Outcome(run, refusal, work.rehearsed, label, screen.lists), screen.reports, interrupted
    )


def _as_it_is(settings: Settings, job: AnyJob, run: Run | None) -> Run | None:
    """The run as the ledger has it now; as it was seen last where that cannot be read."""
    if run is None:
        return None
    with suppress(Refusal), ledgers(settings, [job.system]) as found:
        for ledger in found:
            with suppress(Refusal, DBAPIError), ledger.database.transaction() as connection:
                return runs.load(connection, run.id)
    return run
