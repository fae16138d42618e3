"""A migration becomes four assets: what is missing, the backup, what was created, what is proved.

Everything that happens is the system's; here is only which asset does what, and what of it
Dagster shows.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import dagster as dg

from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.verifying import SCOPE, VERIFIABLE, Check
from maintenance_pipelines.orchestration import checks, migration_reporting, names, reporting
from maintenance_pipelines.orchestration.choosing import run_to_apply, run_to_verify
from maintenance_pipelines.orchestration.config import (
    BackupConfig,
    MissingTablesConfig,
    NewTablesConfig,
    VerifiedTablesConfig,
)
from maintenance_pipelines.orchestration.endings import Results, guarded
from maintenance_pipelines.orchestration.instances import Opened
from maintenance_pipelines.orchestration.moments import as_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.sentences import sentence
from maintenance_pipelines.orchestration.steps import Step
from maintenance_pipelines.systems.cashback import migration, reports, verification
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.cashback.detection import Unfit

AS_DEFINED = "existing_tables_as_defined"
EVERY_S = 5.0
"""Least time between two words about how far a backup is."""


def assets_of(job: Migration) -> list[dg.AssetsDefinition]:
    """The migration's four assets, each depending on the one before it."""
    return [_detection(job), _backup(job), _materialization(job), _verification(job)]


def _detection(job: Migration) -> dg.AssetsDefinition:
    key = names.detected(job)

    @dg.asset(
        key=key,
        group_name=job.system,
        partitions_def=names.partitions(job),
        description=f"{job.says}: what is missing, as a plan. Changes not one byte of an instance.",
        check_specs=[checks.scope_spec(key), _as_defined_spec(key)],
    )
    def detection(
        context: dg.AssetExecutionContext,
        config: MissingTablesConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _detect(Step(job, context, maintenance), config))

    return detection


def _backup(job: Migration) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.backed_up(job),
        group_name=job.system,
        partitions_def=names.partitions(job),
        deps=[names.detected(job)],
        description="A verified copy of the instance, without which nothing is created.",
        pool=job.system,
    )
    def backup(
        context: dg.AssetExecutionContext,
        config: BackupConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _back_up(Step(job, context, maintenance), config))

    return backup


def _materialization(job: Migration) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.materialized(job),
        group_name=job.system,
        partitions_def=names.partitions(job),
        # Both: a rehearsal does without a backup, and still comes after the plan.
        deps=[names.detected(job), names.backed_up(job)],
        description=f"{job.says}: the missing tables created, in one transaction or not at all.",
        pool=job.system,
        # A rehearsal ends well and materializes nothing.
        output_required=False,
    )
    def materialization(
        context: dg.AssetExecutionContext,
        config: NewTablesConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _materialize(Step(job, context, maintenance), config))

    return materialization


def _verification(job: Migration) -> dg.AssetsDefinition:
    key = names.verified(job)

    @dg.asset(
        key=key,
        group_name=job.system,
        partitions_def=names.partitions(job),
        deps=[names.materialized(job)],
        description=f"{job.says}: exactly as defined, and nothing else was changed.",
        check_specs=_verification_specs(key),
    )
    def verified(
        context: dg.AssetExecutionContext,
        config: VerifiedTablesConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _verify(Step(job, context, maintenance), config))

    return verified


def _detect(step: Step[Migration], config: MissingTablesConfig) -> Results:
    request = step.request((config.expected_rows_min, config.expected_rows_max))
    moment = as_of(config.as_of, step.maintenance.clock())
    step.says(f"Looking at {step.label}")
    with _instance(step) as opened:
        try:
            run = migration.plan(opened.instance, opened.ledger, request, moment)
        except Unfit as unfit:
            yield _unfit(step, unfit)
            raise
        found = migration.detection_of(opened.ledger, run)
    report = reports.before(step.label, found, run)
    step.sees(run)
    step.maintenance.watcher.report(report)
    there = len(found.comparison.present)
    step.says(f"{run.planned} tables would be created, {there} already exist")
    yield dg.MaterializeResult(
        metadata={
            **reporting.planned(run, report),
            **migration_reporting.instance(found),
        },
        check_results=[
            checks.scope_result(run),
            checks.result(
                _as_defined_spec(names.detected(step.job)),
                Check(AS_DEFINED, True, f"{there} tables are there, as they have to be"),
                run,
            ),
        ],
    )
    if not run.within_scope:
        step.result(run)
        raise Guarded(checks.scope_sentence(run))
    if not step.is_followed_by(names.materialized(step.job)):
        step.result(run)


def _unfit(step: Step[Migration], unfit: Unfit) -> dg.MaterializeResult[None]:
    """Shows what stands in the way; there is no plan, so that nothing can be applied."""
    report = reports.before(step.label, unfit.found)
    step.maintenance.watcher.report(report)
    wrong = [*unfit.found.comparison.lacking, *unfit.found.comparison.differences]
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(report),
            "planned": dg.MetadataValue.int(0),
            **migration_reporting.instance(unfit.found),
        },
        check_results=[
            dg.AssetCheckResult(check_name=SCOPE, passed=False, description="There is no plan."),
            dg.AssetCheckResult(
                check_name=AS_DEFINED,
                passed=False,
                description=str(unfit),
                metadata={"count": len(wrong), "sample": wrong[:10], "partition": step.label},
            ),
        ],
    )


def _back_up(step: Step[Migration], config: BackupConfig) -> Results:
    settings = step.maintenance.settings()
    options = settings.options_of(step.job.system, step.job.options)
    with _instance(step) as opened:
        run = run_to_apply(step, opened.ledger, config.plan)
        step.sees(run)
        if run.planned > run.applied:
            step.says(f"Backing up {step.label}")
        made = migration.back_up(
            opened.instance,
            opened.ledger,
            run,
            Order(plan_age=step.plan_age),
            settings.backups,
            options.backups_kept,
            _telling(step.says),
        )
    if made is not None:
        step.says(f"Backed up in {made.seconds:.1f} s: {made.path}")
        copy = {"path": str(made.path), "bytes": made.bytes, "seconds": round(made.seconds, 3)}
        step.maintenance.watcher.rows("backups", [copy])
    yield dg.MaterializeResult(metadata=migration_reporting.backup(run, made))


def _materialize(step: Step[Migration], config: NewTablesConfig) -> Results:
    with _instance(step) as opened:
        run = run_to_apply(step, opened.ledger, config.plan)
        step.sees(run)
        started = time.monotonic()
        nothing_left = run.state == "applied" and run.applied == run.planned
        if run.planned and not nothing_left:
            step.says(f"{'Rehearsing' if config.rehearse else 'Creating'} {run.planned} tables")
            order = Order(
                digest=config.digest,
                plan_age=step.plan_age,
                rehearse=config.rehearse,
                dagster_run_id=step.context.run.run_id,
                progress=step.maintenance.watcher.progress,
            )
            run = migration.apply(opened.instance, opened.ledger, run, order)
        seconds = time.monotonic() - started
    step.sees(run)
    metadata = reporting.applied(run, run.applied / seconds)
    if config.rehearse:
        step.rehearsed(run, metadata)
        return
    step.says(f"Created {run.applied} of {run.planned} tables in {seconds:.1f} s")
    if run.state not in VERIFIABLE:
        step.result(run)
        raise Guarded(sentence(run))
    yield dg.MaterializeResult(metadata=metadata)
    if not step.is_followed_by(names.verified(step.job)):
        step.result(run)


def _verify(step: Step[Migration], config: VerifiedTablesConfig) -> Results:
    with _instance(step) as opened:
        run = run_to_verify(step, opened.ledger, config.plan)
        step.says(f"Verifying run {run.id}")
        verdict = verification.verify(opened.instance, opened.ledger, run, step.context.run.run_id)
        run = verdict.run
        found = migration.detection_of(opened.ledger, run)
    report = reports.after(step.label, found, run, verdict.checks, migration.backup_of(run))
    step.sees(run)
    step.maintenance.watcher.report(report)
    step.result(run)
    yield dg.MaterializeResult(
        metadata={
            **reporting.verified(run, report),
            "already_existed": dg.MetadataValue.int(len(found.comparison.present)),
        },
        check_results=checks.verification_results(
            _verification_specs(names.verified(step.job)), verdict
        ),
    )
    if run.state != "verified":
        raise Guarded(sentence(run))


def _instance(step: Step[Migration]) -> AbstractContextManager[Opened]:
    assert step.partition is not None, "every asset of a migration has partitions"
    return step.maintenance.instance(step.job, step.partition)


def _as_defined_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        AS_DEFINED,
        asset=asset,
        blocking=True,
        description="The tables that are there already, and the parents, are as they have to be.",
    )


def _verification_specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return checks.specs(asset, verification.MUST_HOLD, verification.WORTH_KNOWING)


def _telling(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Says every few seconds how far a backup is."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if total and time.monotonic() - told >= EVERY_S:
            told = time.monotonic()
            say(f"{done * 100 // total} % is copied")

    return tell
