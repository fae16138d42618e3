"""Alerts about runs: what the ledger knows of one, in the words of the person on call."""

from __future__ import annotations

from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.operations.alerts import Alert, Severity
from maintenance_pipelines.orchestration.sentences import sentence
from maintenance_pipelines.settings import Settings

UI = "MAINTENANCE_UI_URL"
"""Variable with the address of Dagster's UI as the person on call reaches it."""

UNFINISHED = {
    "partial": Severity.ERROR,
    "failed": Severity.ERROR,
    "interrupted": Severity.ERROR,
    "paused": Severity.WARNING,
}
"""States of a run that somebody has to look at."""

WHO_GOES_ON = {
    "partial": "./maintenance runs {name}, mend the cause, then ./maintenance resume {name}",
    "failed": "./maintenance runs {name}, read its report, and if in doubt "
    "./maintenance rollback {name} --plan",
    "interrupted": "./maintenance resume {name}, or nothing: the next run finishes it first",
    "paused": "./maintenance resume {name} or ./maintenance cancel {name}",
}


def unfinished(settings: Settings, system: str, run: Run) -> Alert:
    """A run, or a rollback, that is partial, failed, interrupted or paused."""
    name = (run.reverts or run.id)[:8]
    what = f"rollback of {run.label}" if run.reverts else run.label
    return Alert(
        cause=unfinished_cause(system, run),
        severity=UNFINISHED[run.state],
        system=system,
        title=f"{what} is {run.state}" if run.state != "failed" else f"{what} has failed",
        happened=sentence(run),
        written=written(run),
        run=run.reverts or run.id,
        next_step=WHO_GOES_ON[run.state].format(name=name),
        link=link(settings, run.dagster_run_id),
        changes=f"{run.id} {run.state} {run.failed} {sorted(run.checks.items())}",
    )


def unfinished_cause(system: str, run: Run) -> str:
    """The cause under which a run that is not finished is known."""
    if run.reverts:
        return f"ledger/{system}/rollback/{run.reverts}"
    return f"ledger/{system}/{run.job}/{run.partition or ''}"


def held(settings: Settings, system: str, run: Run) -> Alert:
    """A partition that schedules leave alone since its run was rolled back."""
    return Alert(
        cause=f"held/{system}/{run.job}/{run.partition or ''}",
        severity=Severity.WARNING,
        system=system,
        title=f"{run.label} is held since its rollback",
        happened=f"Run {run.id} was rolled back; schedules and sensors leave {run.label} alone "
        "until a person runs it again.",
        written="Nothing will be, as long as it is held.",
        run=run.id,
        next_step=f"./maintenance run {run.job}{partition_option(run.partition)}, once it is right",
        link=link(settings, run.dagster_run_id),
        changes=run.id,
    )


def waits_for_approval(settings: Settings, system: str, run: Run) -> Alert:
    """A plan that a second person has to approve."""
    return Alert(
        cause=f"approval/{system}/{run.job}/{run.partition or ''}",
        severity=Severity.WARNING,
        system=system,
        title=f"{run.label} waits for approval",
        happened=f"Run {run.id} plans {run.planned:,} rows, more than {run.approval_above:,}; "
        "a second person has to approve it.",
        run=run.id,
        next_step=f"./maintenance approve {run.id[:8]}, then ./maintenance apply {run.id[:8]}",
        link=link(settings, run.dagster_run_id),
        changes=run.id,
    )


def conflicts(settings: Settings, system: str, run: Run, threshold: int) -> Alert:
    """A run in which more rows were in conflict than somebody would expect."""
    return Alert(
        cause=f"conflicts/{system}/{run.job}",
        severity=Severity.WARNING,
        system=system,
        title=f"{run.label} met {run.conflicts:,} conflicts",
        happened=f"{run.conflicts:,} of {run.planned:,} planned rows had changed, or their reason "
        f"had gone, before they were written; more than {threshold:,} is unusual.",
        written=written(run),
        run=run.id,
        next_step=f"./maintenance runs {run.id[:8]}",
        link=link(settings, run.dagster_run_id),
        changes=run.id,
    )


def written(run: Run) -> str:
    """What a run has written, and what it has not."""
    undo = "taken back" if run.reverts else "written"
    if run.state == "planned":
        return "Nothing was written."
    rest = run.planned - run.applied - run.skipped - run.conflicts - run.failed
    others = [
        (run.skipped, "were already there"),
        (run.conflicts, "were in conflict and left alone"),
        (run.failed, "failed and were not"),
        (rest, "have not been tried"),
    ]
    parts = [f"{run.applied:,} of {run.planned:,} planned rows were {undo}"]
    parts += [f"{count:,} {what}" for count, what in others if count]
    untouched = run.checks.get("existing_rows_untouched")
    proof = " PostgreSQL counted no other write." if untouched else ""
    return "; ".join(parts) + "." + proof


def partition_option(partition: str | None) -> str:
    """How a command names the partition."""
    return f" --partition {partition}" if partition else ""


def link(settings: Settings, dagster_run_id: str | None) -> str:
    """Where the UI shows a Dagster run; empty where its address is not known."""
    secret = settings.variables.get(UI)
    if secret is None or dagster_run_id is None:
        return ""
    return f"{secret.get_secret_value().strip().rstrip('/')}/runs/{dagster_run_id}"
