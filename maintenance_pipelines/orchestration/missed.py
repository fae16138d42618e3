"""Runs that should have been and were not: found by the schedule and the ledger, requested once.

A daemon that was down on the 1st leaves no trace of what it did not do. Here each moment of a
job's schedule since it was switched on is held against the ledger: a run of that partition, as of
then or later, that went through or waits for a person has served it. What nobody has served, and
nobody is working on, is asked for, again with growing pauses while nothing comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger as tables
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alerts import Alert, Severity
from maintenance_pipelines.orchestration import telling
from maintenance_pipelines.orchestration.news import Passed, enter
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.orchestration.slots import Slot, deadline_passed, due, schedule_name
from maintenance_pipelines.orchestration.subjects import job_of, partition_of
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry

GRACE = timedelta(minutes=10)
"""How long after its moment a run may take to appear in the ledger."""
SETTLE = timedelta(minutes=5)
"""How long a run has to have been missing before it is asked for: when the daemon starts, its
scheduler asks for the last moment of every schedule by itself."""
FIRST_PAUSE = timedelta(minutes=5)
ATTEMPTS = 6
"""How often one slot is asked for, the pauses doubling: over five hours in all."""

WITHOUT_EFFECT = frozenset({"planned", "applying", "interrupted"})
"""States that do not serve a slot: a dry run, or work that nobody has finished."""

TAG = "maintenance/slot"
"""Tag of a run that makes up for another: the moment at which that should have been."""


@dataclass
class Findings:
    """What the look at one job's slots came to."""

    requests: list[dg.RunRequest] = field(default_factory=list)
    news: list[Alert | Passed] = field(default_factory=list)


def look(
    settings: Settings,
    instance: dg.DagsterInstance,
    storage: Database,
    now: datetime,
    switched_on: Mapping[str, bool],
) -> list[dg.RunRequest]:
    """Requests what was missed of every job whose schedule is on, and tells of it.

    A ledger that cannot be read says nothing about what was missed: its jobs wait.
    """
    on = [job for job in registry.JOBS.values() if switched_on.get(job.name, False)]
    with storage.transaction() as connection:
        for job in registry.JOBS.values():
            if job not in on:
                _forget(connection, job, now)
        since = {job.name: _since(connection, job, now) for job in on}
    busy = _busy(instance)
    requests: list[dg.RunRequest] = []
    for system in sorted({job.system for job in on}):
        wanted = {j.name: due(j, since[j.name], now - GRACE) for j in on if j.system == system}
        try:
            missing = _not_served(settings, system, wanted)
        except (Refusal, DBAPIError):
            continue
        with storage.transaction() as connection:
            for name, slots in missing.items():
                job = registry.JOBS[name]
                found = _judge(connection, job, slots, busy.get(name, set()), now)
                for each in found.news:
                    enter(connection, each, now)
                requests += found.requests
    return requests


def _forget(connection: sa.Connection, job: Job, now: datetime) -> None:
    """What a schedule that is off does not do is not missed."""
    alert_book.remove_marks(connection, f"missed/{job.name}/")
    alert_book.remove_marks(connection, f"schedule/{job.name}/")
    for cause in alert_book.open_causes(connection, f"missed/{job.system}/{job.name}/"):
        alert_book.recover(connection, cause.key, now, "its schedule has been switched off")


@dataclass(frozen=True)
class _Missing:
    slot: Slot
    held_by: Run | None


def _since(connection: sa.Connection, job: Job, now: datetime) -> datetime:
    """When the job's schedule was first seen to be on: what was before is nobody's fault."""
    name = f"schedule/{job.name}/"
    mark = alert_book.read_mark(connection, name)
    if mark is None:
        alert_book.set_mark(connection, name, now)
    return mark.at if mark else now


def _not_served(
    settings: Settings, system: str, wanted: Mapping[str, list[Slot]]
) -> dict[str, list[_Missing]]:
    """Of the slots of a system's jobs those that its ledger knows no run for."""
    missing: dict[str, list[_Missing]] = {name: [] for name in wanted}
    database = connect(settings, system)
    try:
        with database.transaction() as connection:
            readable = tables.is_current(connection)
            for name, slots in wanted.items():
                for slot in slots:
                    known = runs.of_partition(connection, name, slot.partition) if readable else []
                    if not any(serves(run, slot) for run in known):
                        held_by = next((run for run in known if run.held), None)
                        missing[name].append(_Missing(slot, held_by))
    finally:
        database.dispose()
    return missing


def serves(run: Run, slot: Slot) -> bool:
    """Whether a run of the slot's partition did what the schedule wanted, or waits for a person."""
    return run.as_of >= slot.at and (run.state not in WITHOUT_EFFECT or run.approval_due)


def _busy(instance: dg.DagsterInstance) -> dict[str, set[str | None]]:
    """The partitions of each job that a Dagster run works on, or is queued for."""
    unfinished = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    found: dict[str, set[str | None]] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        job = job_of(run)
        if job is not None:
            found.setdefault(job.name, set()).add(partition_of(run) or None)
    return found


def _judge(
    connection: sa.Connection,
    job: Job,
    missing: list[_Missing],
    busy: set[str | None],
    now: datetime,
) -> Findings:
    found = Findings()
    wanted = {_cause(each.slot) for each in missing}
    for cause in alert_book.open_causes(connection, f"missed/{job.system}/{job.name}/"):
        if cause.key not in wanted:
            found.news.append(Passed(cause.key, "it has been made up for"))
    for each in missing:
        slot = each.slot
        if each.held_by is not None:
            found.news.append(_held(slot, each.held_by))
        elif slot.partition not in busy:
            _ask(connection, slot, now, found)
    return found


def _ask(connection: sa.Connection, slot: Slot, now: datetime, found: Findings) -> None:
    """Requests a slot where its time has come, or says that it will not be."""
    name = f"missed/{slot.job.name}/{slot.at.isoformat()}"
    mark = alert_book.read_mark(connection, name)
    if mark is None:
        alert_book.set_mark(connection, name, now, attempts=0)
        return
    attempts = int(mark.value["attempts"])
    if deadline_passed(slot, now):
        if attempts == 0:
            found.news.append(_too_late(slot))
        return
    pause = FIRST_PAUSE * 2 ** (attempts - 1) if attempts else SETTLE
    if now - mark.at < pause:
        return
    if attempts == ATTEMPTS:
        found.news.append(_in_vain(slot))
        return
    alert_book.set_mark(connection, name, now, attempts=attempts + 1)
    found.news.append(_requested(slot))
    found.requests.append(
        dg.RunRequest(
            run_key=f"{name}/{attempts + 1}",
            job_name=slot.job.name,
            partition_key=slot.partition,
            tags={TAG: slot.at.isoformat()},
        )
    )


def _cause(slot: Slot) -> str:
    return f"missed/{slot.job.system}/{slot.job.name}/{slot.partition or ''}"


def _requested(slot: Slot) -> Alert:
    return Alert(
        cause=_cause(slot),
        severity=Severity.WARNING,
        system=slot.job.system,
        title=f"{slot.label} did not run when it should have",
        happened=f"It was due at {_spell(slot.at)} and no run went through since. It has been "
        "asked for now.",
        written="Nothing yet.",
        next_step=f"./maintenance runs --job {slot.job.name}",
        changes="asked for",
    )


def _in_vain(slot: Slot) -> Alert:
    return Alert(
        cause=_cause(slot),
        severity=Severity.ERROR,
        system=slot.job.system,
        title=f"{slot.label} does not run",
        happened=f"It was due at {_spell(slot.at)} and has been asked for {ATTEMPTS} times in "
        "vain; it will not be asked for again.",
        written="See the failed runs.",
        next_step=_by_hand(slot),
        changes="in vain",
    )


def _too_late(slot: Slot) -> Alert:
    return Alert(
        cause=f"late/{slot.job.system}/{slot.job.name}/{slot.at.isoformat()}",
        severity=Severity.ERROR,
        system=slot.job.system,
        title=f"{slot.label} was missed and cannot be made up for",
        happened=f"It was due at {_spell(slot.at)}; by now it is too late for it.",
        next_step=f"decide what those whom it was about are owed; ./maintenance runs --job "
        f"{slot.job.name} shows the runs before and after it",
        lasting=False,
    )


def _held(slot: Slot, run: Run) -> Alert:
    return Alert(
        cause=f"late/{slot.job.system}/{slot.job.name}/{slot.at.isoformat()}",
        severity=Severity.WARNING,
        system=slot.job.system,
        title=f"{slot.label} was missed and is held",
        happened=f"It was due at {_spell(slot.at)}, but is held since run {run.id} was rolled "
        "back; a person has to run it.",
        run=run.id,
        next_step=_by_hand(slot),
        lasting=False,
    )


def _by_hand(slot: Slot) -> str:
    return f"./maintenance run {slot.job.name}{telling.partition_option(slot.partition)}"


def _spell(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def switched_on(instance: dg.DagsterInstance, default: Mapping[str, bool]) -> dict[str, bool]:
    """Which jobs' schedules are on: as a person has set them in the UI, else as usual."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import InstigatorStatus

    states = {
        state.instigator_name: state.status
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    }

    def is_on(job: str, usual: bool) -> bool:
        status = states.get(schedule_name(job))
        if status in (InstigatorStatus.RUNNING, InstigatorStatus.STOPPED):
            return status == InstigatorStatus.RUNNING
        return usual

    return {job: is_on(job, usual) for job, usual in default.items()}
