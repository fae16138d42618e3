"""Watches Dagster's runs end: each failure, each failed check, each check that is missing.

Runs are read by the moment they were last updated, a while back again each time, since two
updates need not become visible in their order; the mark remembers which have been seen. Whatever
ended since the last look is looked at, in the order of ending, however long the daemon was down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger as tables
from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import WORTH_KNOWING
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alerts import HOUSE, Alert, Severity, scrub
from maintenance_pipelines.orchestration import names, pace, telling
from maintenance_pipelines.orchestration.ledgers import ledgers, systems
from maintenance_pipelines.orchestration.news import Passed, enter
from maintenance_pipelines.orchestration.subjects import job_of, partition_of
from maintenance_pipelines.orchestration.switches import is_on
from maintenance_pipelines.orchestration.watch_ledgers import configured
from maintenance_pipelines.settings import Settings

MARK = "runs"
OVERLAP = timedelta(minutes=15)
"""How far back each look begins again: longer than any transaction of Dagster's storage."""

COMPLETIONS = "COMPLETIONS"
"""`<SYSTEM>_COMPLETIONS=on` tells the operators of every run that ended well."""

ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


@dataclass
class End:
    """A Dagster run that has ended, as its events tell it."""

    record: dg.RunRecord
    failures: dict[str, str] = field(default_factory=dict)
    """What each step that failed said, by the asset's or op's name."""
    begun: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    """The steps that ended well."""
    planned: dict[tuple[str, str], None] = field(default_factory=dict)
    """The checks that were to be evaluated, by step and name."""
    checks: dict[tuple[str, str], dg.AssetCheckEvaluation] = field(default_factory=dict)

    @property
    def run(self) -> dg.DagsterRun:
        """Dagster's own record of it."""
        return self.record.dagster_run

    @property
    def partition(self) -> str:
        """Its partition, empty where it has none."""
        return partition_of(self.run)

    @property
    def job(self) -> str:
        """The job that it is about; Dagster's own name for what is no job of ours."""
        job = job_of(self.run)
        return job.name if job else self.run.job_name

    @property
    def system(self) -> str:
        """The system it is about, or this project itself."""
        job = job_of(self.run)
        return job.system if job else HOUSE

    @property
    def label(self) -> str:
        """The job and its partition."""
        return f"{self.job} {self.partition}".strip()

    @property
    def may_have_written(self) -> bool:
        """Whether a step has begun that writes."""
        job = job_of(self.run)
        return bool(self.begun) and (job is None or _step_of(names.materialized(job)) in self.begun)

    @property
    def failed_checks(self) -> list[dg.AssetCheckEvaluation]:
        """Checks that do not hold, but for mere numbers of live traffic."""
        return [
            check
            for (_, name), check in sorted(self.checks.items())
            if not check.passed and name not in WORTH_KNOWING
        ]

    @property
    def unevaluated(self) -> list[str]:
        """Checks that have no result although their step has begun."""
        return [
            name
            for step, name in self.planned
            if (step, name) not in self.checks and step in self.begun
        ]


def watch(
    settings: Settings, instance: dg.DagsterInstance, storage: Database, now: datetime
) -> None:
    """Enters what every run that has ended since the last look gives reason to."""
    with storage.transaction() as connection:
        mark = alert_book.read_mark(connection, MARK)
        if mark is None:
            # What was before somebody began to watch is history.
            alert_book.set_mark(connection, MARK, now, since=now.timestamp(), seen=[])
            return
        since = float(mark.value["since"])
        seen = set(mark.value["seen"])
        ended = dg.RunsFilter(statuses=ENDED, updated_after=mark.at - OVERLAP)
        records = [each for each in instance.get_run_records(ended) if _ended_at(each) >= since]
        for record in sorted(records, key=_ended_at):
            if record.dagster_run.run_id not in seen:
                for alert in about(settings, end_of(instance, record)):
                    enter(connection, alert, now)
        ids = [record.dagster_run.run_id for record in records]
        alert_book.set_mark(connection, MARK, now, since=since, seen=ids)


def _ended_at(record: dg.RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def end_of(instance: dg.DagsterInstance, record: dg.RunRecord) -> End:
    """Reads the events of a run that has ended."""
    end = End(record)
    kinds = dg.DagsterEventType
    wanted = {
        kinds.STEP_FAILURE,
        kinds.STEP_SUCCESS,
        kinds.STEP_START,
        kinds.ASSET_CHECK_EVALUATION,
        kinds.ASSET_CHECK_EVALUATION_PLANNED,
    }
    run_id = record.dagster_run.run_id
    for entry in instance.all_logs(run_id, of_type=wanted):
        event = entry.dagster_event
        if event is None:
            continue
        step = event.step_key or ""
        if event.event_type == kinds.STEP_FAILURE:
            end.failures[step] = _said(event)
        elif event.event_type == kinds.STEP_SUCCESS:
            end.done.add(step)
        elif event.event_type == kinds.STEP_START:
            end.begun.add(step)
        elif event.event_type == kinds.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            end.checks[_step_of(check.asset_key), check.check_name] = check
        else:
            planned = event.asset_check_planned_data
            end.planned[_step_of(planned.asset_key), planned.check_name] = None
    return end


def about(settings: Settings, end: End) -> Iterable[Alert | Passed]:
    """What the end of a run gives reason to say."""
    yield from pace.of_ended(settings, end.record)
    if end.run.status == dg.DagsterRunStatus.CANCELED:
        # A person has stopped it; what it leaves behind is in the ledger, as a paused run.
        return
    if end.run.status == dg.DagsterRunStatus.FAILURE:
        yield from _failure(settings, end)
        return
    for step in end.done:
        yield Passed(_cause_of_failure(end, step), f"{end.label} has ended well since")
    yield Passed(_cause_of_failure(end, ""), f"{end.label} has ended well since")
    found, _ = _in_ledger(settings, end)
    yield from _checks(settings, end, end.failed_checks, found)
    yield from _numbers(settings, end)
    if _tells_completions(settings, end.system):
        yield _completion(settings, end, found)


def _failure(settings: Settings, end: End) -> Iterable[Alert | Passed]:
    """A failed run, by what the ledger says of it where it has begun one."""
    found, reachable = _in_ledger(settings, end)
    if found is not None:
        system, run = found
        if run.state in telling.UNFINISHED:
            yield telling.unfinished(settings, system, run)
            named = {name for name, holds in run.checks.items() if not holds}
            rest = [check for check in end.failed_checks if check.check_name not in named]
            yield from _checks(settings, end, rest, found)
            return
        if run.state == "planned" and run.approval_due:
            yield telling.waits_for_approval(settings, system, run)
            return
    killed = "The process that worked on it was killed, or could not be started."
    step, says = next(iter(end.failures.items()), ("", killed))
    if found is not None:
        written = telling.written(found[1])
    elif reachable and not end.may_have_written:
        written = "Nothing was written."
    elif reachable:
        written = "What its batches had committed stays; `./maintenance runs` counts it."
    else:
        written = "Not known: the database could not be asked. `./maintenance runs` will say."
    broken = [_judged(check) for check in end.failed_checks]
    parts = [says]
    parts += [f"Checks that do not hold: {'; '.join(broken)}."] if broken else []
    missing = end.unevaluated
    parts += [f"Checks that could not be evaluated: {', '.join(missing)}."] if missing else []
    yield Alert(
        cause=_cause_of_failure(end, step),
        severity=Severity.ERROR,
        system=found[0] if found else end.system,
        title=f"{end.label} has failed",
        happened=" ".join(parts),
        written=written,
        run=found[1].id if found else end.run.run_id,
        next_step=_next(end, found[1] if found else None),
        link=telling.link(settings, end.run.run_id),
        changes=scrub(" ".join([says, *(c.check_name for c in end.failed_checks), *missing])),
    )


def _checks(
    settings: Settings,
    end: End,
    broken: list[dg.AssetCheckEvaluation],
    found: tuple[str, Run] | None,
) -> Iterable[Alert | Passed]:
    """Checks that do not hold, or have no result, and that no other alert is about."""
    cause, missing = f"checks/{end.system}/{end.job}/{end.partition}", end.unevaluated
    if not broken and not missing:
        if end.checks and end.run.status == dg.DagsterRunStatus.SUCCESS:
            yield Passed(cause, "all checks hold")
        return
    grave = missing or any(c.severity == dg.AssetCheckSeverity.ERROR for c in broken)
    says = [_judged(check) for check in broken]
    says += [f"{name} could not be evaluated" for name in missing]
    many = "checks do" if len(says) > 1 else "check does"
    yield Alert(
        cause=cause,
        severity=Severity.ERROR if grave else Severity.WARNING,
        system=end.system,
        title=f"{end.label}: {len(says)} {many} not hold",
        happened="; ".join(says) + ".",
        written=telling.written(found[1]) if found else "Nothing was written.",
        run=found[1].id if found else end.run.run_id,
        next_step=_next(end, found[1] if found else None),
        link=telling.link(settings, end.run.run_id),
        changes=" ".join(sorted([*(check.check_name for check in broken), *missing])),
    )


def _numbers(settings: Settings, end: End) -> Iterable[Alert]:
    """What live traffic has done meanwhile: worth a note, and nothing to do."""
    moved = [
        check for (_, name), check in end.checks.items()
        if not check.passed and name in WORTH_KNOWING
    ]  # fmt: skip
    if moved:
        yield Alert(
            cause=f"numbers/{end.system}/{end.run.run_id}",
            severity=Severity.NOTE,
            system=end.system,
            title=f"{end.label}: the app went on meanwhile",
            happened="; ".join(_judged(check) for check in moved) + ".",
            written="As planned; this is no failure.",
            run=end.run.run_id,
            next_step="none; the next run of this partition takes in what has become due",
            link=telling.link(settings, end.run.run_id),
            lasting=False,
        )


def _completion(settings: Settings, end: End, found: tuple[str, Run] | None) -> Alert:
    return Alert(
        cause=f"completed/{end.system}/{end.run.run_id}",
        severity=Severity.NOTE,
        system=end.system,
        title=f"{end.label} is done",
        happened=f"{end.label} has ended well.",
        written=telling.written(found[1]) if found else "Nothing was written.",
        run=found[1].id if found else end.run.run_id,
        next_step="none",
        link=telling.link(settings, end.run.run_id),
        lasting=False,
    )


def _tells_completions(settings: Settings, system: str) -> bool:
    return is_on(settings, f"{system.upper()}_{COMPLETIONS}")


def _cause_of_failure(end: End, step: str) -> str:
    """Of one step: it is over when that step ends well, in whichever run of the partition."""
    return f"run/{end.system}/{end.job}/{end.partition}/{step}"


def _in_ledger(settings: Settings, end: End) -> tuple[tuple[str, Run] | None, bool]:
    """The ledger's run that a Dagster run worked on, with its system; and whether all the ledgers
    that may have it could be read.
    """
    reachable = True
    among = [end.system] if end.system in systems() else configured(settings)
    for system in among:
        try:
            with ledgers(settings, [system]) as all_of_them:
                for each in all_of_them:
                    found = _worked_on(each.database, end.run.run_id)
                    if found is not None:
                        return (system, found), True
        except (Refusal, DBAPIError):
            reachable = False
    return None, reachable


def _worked_on(database: Database, dagster_run_id: str) -> Run | None:
    run = tables.run
    with database.transaction() as connection:
        if not tables.is_current(connection):
            return None
        mine = run.select().with_only_columns(run.c.id).where(
            run.c.dagster_run_id == dagster_run_id
        )  # fmt: skip
        found = connection.scalars(mine.order_by(run.c.created_at.desc()).limit(1)).one_or_none()
        return runs.load(connection, found) if found else None


def _said(event: dg.DagsterEvent) -> str:
    """Why a step failed: the sentence of a refusal, else only the kind of error."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    kind = data.error.cls_name if data.error else None
    # The text of an exception may hold anything, a row of the app's included.
    return f"Unexpected {kind or 'error'}; the run's log in Dagster says where."


def _judged(check: dg.AssetCheckEvaluation) -> str:
    return f"{check.check_name}: {(check.description or 'does not hold').rstrip('.')}"


def _next(end: End, run: Run | None) -> str:
    if run is not None:
        return f"./maintenance runs {run.id[:8]}"
    if end.system == HOUSE:
        return "./maintenance runs"
    return (
        f"./maintenance doctor {end.system}, then ./maintenance run {end.job}"
        f"{telling.partition_option(end.partition)}"
    )


def _step_of(asset: dg.AssetKey) -> str:
    return "__".join(asset.path)
