"""Approval and rollback as Dagster jobs, so that they can be launched from the UI as well."""

import json
from datetime import timedelta

import dagster as dg
from pydantic import Field

from maintenance_pipelines.engine import runs, undoing
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration import reporting
from maintenance_pipelines.orchestration.endings import interrupts_pause, refusals_fail_the_run
from maintenance_pipelines.orchestration.ledgers import Found, find_run
from maintenance_pipelines.orchestration.progress import telling
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.sentences import sentence
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback import reports as migration_reports
from maintenance_pipelines.systems.cashback import rollback as migration_rollback
from maintenance_pipelines.systems.cashback.declaration import Migration


class ApprovalConfig(dg.Config):
    """Which plan is approved."""

    run: str = Field(description="The id of the plan, or any unique beginning of it.")


class RollbackConfig(dg.Config):
    """Which run is taken back."""

    run: str = Field(description="The id of the run, or any unique beginning of it.")
    plan_only: bool = Field(
        default=False, description="Only show what a rollback would do; change nothing."
    )
    force: bool = Field(
        default=False,
        description="Of a migration only: drop tables that hold rows by now, which are exported "
        "first.",
    )
    allow_triggers: list[str] = Field(
        default_factory=list,
        description="Triggers of the app's tables that may fire, by name, beside those that the "
        "settings allow.",
    )


@dg.op(description="Approves a plan that somebody else has made, as it is.")
def approve_plan(
    context: dg.OpExecutionContext,
    config: ApprovalConfig,
    maintenance: dg.ResourceParam[Maintenance],
) -> None:
    """Approves a plan, bound to its digest."""
    with (
        refusals_fail_the_run(),
        find_run(maintenance.settings(), config.run) as found,
    ):
        operator = maintenance.operator(context.run.tags)
        run = runs.approve(found.database, found.run.id, operator)
        maintenance.watcher.run(run)
        context.log.info(f"Run {run.id} of {run.label}, {run.planned:,} rows, is approved.")


@dg.job(description="Approve a plan, as somebody other than who planned it.")
def approve() -> None:
    """One op: the approval."""
    approve_plan()


@dg.op(description="Takes one run back, leaving alone what somebody has touched since.")
def roll_back_run(
    context: dg.OpExecutionContext,
    config: RollbackConfig,
    maintenance: dg.ResourceParam[Maintenance],
) -> None:
    """Plans a rollback; unless only that was asked for, applies and verifies it."""
    with (
        refusals_fail_the_run(),
        interrupts_pause(context),
        find_run(maintenance.settings(), config.run) as found,
    ):
        _roll_back(context, config, maintenance, found)


@dg.job(description="Take one run back: planned, applied and verified like any other.")
def rollback() -> None:
    """One op: the rollback."""
    roll_back_run()


def _roll_back(
    context: dg.OpExecutionContext, config: RollbackConfig, maintenance: Maintenance, found: Found
) -> None:
    job, database = registry.find(found.run.job), found.database
    if isinstance(job, Migration):
        _drop_tables(context, config, maintenance, job, found.run)
        return
    if config.force:
        raise BadInput(
            f"A rollback of {job.name} leaves alone what somebody has touched; there is nothing "
            "to force."
        )
    settings, watcher = maintenance.settings(), maintenance.watcher
    allowed = settings.allowed_triggers(found.system) | frozenset(config.allow_triggers)
    request = Request(
        operator=maintenance.operator(context.run.tags),
        dagster_run_id=context.run.run_id,
        allowed_triggers=allowed,
    )

    def says(line: str) -> None:
        context.log.info(f"[{job.hyphenated}] {line}")
        watcher.says(f"[{job.hyphenated}] {line}")

    undo = undoing.plan_rollback(job, database, found.run, request)
    watcher.run(undo)
    says(f"Planned to take back {undo.planned:,} rows of run {found.run.id}")
    if not config.plan_only:
        order = Order(
            plan_age=timedelta(hours=settings.plan_hours),
            dagster_run_id=context.run.run_id,
            progress=telling(watcher, lambda description, _: context.log.info(description)),
        )
        undo = undoing.rollback(job, database, found.run, request, order).run
        watcher.run(undo)
    left = undoing.left_alone(job, database, undo)
    watcher.rows("left_alone", [{"id": row, "reason": reason} for row, reason in left])
    report = reporting.rollback_report(undo, left)
    watcher.report(report)
    context.add_output_metadata(reporting.undone(undo, report))
    says(f"Result: {json.dumps(undo.json())}")
    if not config.plan_only and undo.state != "verified":
        raise Guarded(sentence(undo))


def _drop_tables(
    context: dg.OpExecutionContext,
    config: RollbackConfig,
    maintenance: Maintenance,
    job: Migration,
    run: Run,
) -> None:
    """The same for a migration, whose rollback drops the tables that the run has created."""
    settings, watcher = maintenance.settings(), maintenance.watcher
    request = Request(
        operator=maintenance.operator(context.run.tags), dagster_run_id=context.run.run_id
    )

    def says(line: str) -> None:
        context.log.info(f"[{job.hyphenated}] {line}")
        watcher.says(f"[{job.hyphenated}] {line}")

    assert run.partition is not None, "every run of a migration has a partition"
    with maintenance.instance(job, run.partition) as opened:
        instance, ledger = opened.instance, opened.ledger
        undo = migration_rollback.plan_rollback(instance, ledger, run, request)
        watcher.run(undo)
        says(f"Planned to drop {undo.planned} tables of run {run.id}")
        changes = migration_rollback.planned_changes(ledger, undo)
        at_stake = migration_rollback.rows_at_stake(instance, ledger, undo)
        rows = [{"table": table, "rows": count} for table, count in at_stake.items()]
        watcher.rows("rows_at_stake", rows)
        if not config.plan_only:
            order = Order(
                plan_age=timedelta(hours=settings.plan_hours),
                dagster_run_id=context.run.run_id,
                progress=watcher.progress,
            )
            undo = migration_rollback.rollback(
                instance, ledger, run, request, order, settings.exports, config.force
            ).run
            watcher.run(undo)
    report = migration_reports.undone(undo, at_stake, changes)
    watcher.report(report)
    context.add_output_metadata(reporting.undone(undo, report))
    says(f"Result: {json.dumps(undo.json())}")
    if not config.plan_only and undo.state != "verified":
        raise Guarded(sentence(undo))
