"""A job becomes three assets: what is missing, what was changed, what has been proved.

Everything that happens is the engine's; here is only which asset does what, and what of it
Dagster shows.
"""

import time
from dataclasses import replace

import dagster as dg

from maintenance_pipelines.engine import reports
from maintenance_pipelines.engine.applying import apply
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import plan
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.results import result_keys
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import VERIFIABLE, verify
from maintenance_pipelines.orchestration import checks, names, reporting
from maintenance_pipelines.orchestration.choosing import run_to_apply, run_to_verify
from maintenance_pipelines.orchestration.config import (
    DetectionConfig,
    MaterializationConfig,
    VerificationConfig,
)
from maintenance_pipelines.orchestration.endings import Results, guarded
from maintenance_pipelines.orchestration.moments import as_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.sentences import sentence
from maintenance_pipelines.orchestration.steps import Step

FAILURES_SHOWN = 10
"""Rows whose error is logged; all of them are in the ledger."""
FAILURES_LISTED = 100
"""Rows whose error is handed to programs."""


def assets_of(job: Job) -> list[dg.AssetsDefinition]:
    """The job's three assets, each depending on the one before it."""
    return [_detection(job), _materialization(job), _verification(job)]


def _detection(job: Job) -> dg.AssetsDefinition:
    key = names.detected(job)

    @dg.asset(
        key=key,
        group_name=job.system,
        partitions_def=names.partitions(job),
        description=f"{job.says}: what is missing, as a plan. Changes no table of the app.",
        check_specs=[checks.scope_spec(key)],
    )
    def detection(
        context: dg.AssetExecutionContext,
        config: DetectionConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _detect(Step(job, context, maintenance), config))

    return detection


def _materialization(job: Job) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.materialized(job),
        group_name=job.system,
        partitions_def=names.partitions(job),
        deps=[names.detected(job)],
        description=f"{job.says}: the plan applied, batch by batch.",
        pool=job.system,
        # A rehearsal ends well and materializes nothing.
        output_required=False,
    )
    def materialization(
        context: dg.AssetExecutionContext,
        config: MaterializationConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _materialize(Step(job, context, maintenance), config))

    return materialization


def _verification(job: Job) -> dg.AssetsDefinition:
    key = names.verified(job)

    @dg.asset(
        key=key,
        group_name=job.system,
        partitions_def=names.partitions(job),
        deps=[names.materialized(job)],
        description=f"{job.says}: every row of the plan accounted for, and what must hold.",
        check_specs=checks.verification_specs(job, key),
    )
    def verification(
        context: dg.AssetExecutionContext,
        config: VerificationConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        yield from guarded(context, _verify(Step(job, context, maintenance), config))

    return verification


def _detect(step: Step[Job], config: DetectionConfig) -> Results:
    job, settings = step.job, step.maintenance.settings()
    moment = as_of(config.as_of, step.maintenance.clock())
    if job.partitions is not None and step.partition is not None:
        job.partitions.check(step.partition, moment)
    scope = Scope(moment, step.partition, settings.options(job))
    expected = config.expected_rows_min, config.expected_rows_max
    request = step.request(expected, step.allowed_triggers(config.allow_triggers))
    step.says(f"Planning {step.label}")
    with step.maintenance.database(job.system, granule_rows=config.granule_rows) as database:
        run = plan(job, database, scope, request)
        subject = config.subject or step.maintenance.subject
        report = reports.before(job, database, run, subject)
    step.sees(run)
    step.maintenance.watcher.report(report)
    step.says(f"Planned {run.planned:,} rows, left {sum(run.excluded.values()):,} alone")
    yield dg.MaterializeResult(
        metadata=reporting.planned(run, report), check_results=[checks.scope_result(run)]
    )
    if not run.within_scope:
        step.result(run)
        raise Guarded(checks.scope_sentence(run))
    if not step.is_followed_by(names.materialized(job)):
        step.result(run)


def _materialize(step: Step[Job], config: MaterializationConfig) -> Results:
    limits = {"batch_rows": config.batch_rows, "batch_timeout_s": config.batch_timeout_s}
    with step.maintenance.database(step.job.system, **limits) as database:
        run = run_to_apply(step, database, config.plan)
        step.sees(run)
        before, started = run.applied, time.monotonic()
        if not _is_complete(step, run):
            run = _apply(step, database, run, config)
        seconds = time.monotonic() - started
    step.sees(run)
    rate = (run.applied - before) / seconds
    if config.rehearse:
        step.rehearsed(run, reporting.applied(run, rate))
        return
    step.says(f"Applied {run.applied:,} of {run.planned:,} rows in {seconds:.1f} s")
    if run.state not in VERIFIABLE:
        step.result(run)
        raise Guarded(sentence(run))
    yield dg.MaterializeResult(metadata=reporting.applied(run, rate))
    if not step.is_followed_by(names.verified(step.job)):
        step.result(run)
        if run.state in ("partial", "failed"):
            raise Guarded(sentence(run))


def _is_complete(step: Step[Job], run: Run) -> bool:
    """Whether nothing is left to apply: all of it was, or the plan has just come out empty."""
    made_here = step.run_made_by(names.detected(step.job)) == run.id
    return run.state == "applied" or (made_here and run.planned == 0)


def _apply(step: Step[Job], database: Database, run: Run, config: MaterializationConfig) -> Run:
    verb = "Rehearsing" if config.rehearse else "Applying"
    step.says(f"{verb} {run.planned:,} rows of run {run.id}")
    step.maintenance.watcher.progress(run.applied, run.planned)
    allowed = step.allowed_triggers(config.allow_triggers)
    order = Order(
        digest=config.digest,
        plan_age=step.plan_age,
        rehearse=config.rehearse,
        dagster_run_id=step.context.run.run_id,
        progress=step.progress(),
    )
    run, failures = apply(step.job, database, run, order, allowed)
    first = dict(sorted(failures.items())[:FAILURES_LISTED])
    for position, error in list(first.items())[:FAILURES_SHOWN]:
        step.says(
            f"Row {position} of the plan {'would fail' if config.rehearse else 'failed'}: {error}"
        )
    if first:
        named = reports.name_rows(step.job, database, run, first)
        step.maintenance.watcher.rows("failures", named)
    return replace(run, failed=len(failures)) if config.rehearse else run


def _verify(step: Step[Job], config: VerificationConfig) -> Results:
    with step.maintenance.database(step.job.system) as database:
        run = run_to_verify(step, database, config.plan)
        step.says(f"Verifying run {run.id}")
        verification = verify(step.job, database, run, step.context.run.run_id)
        subject = config.subject or step.maintenance.subject
        report = reports.after(step.job, database, verification.run, verification.checks, subject)
        keys = result_keys(step.job, database, verification.run)
    run = verification.run
    step.sees(run)
    step.maintenance.watcher.report(report)
    step.result(run, keys)
    yield dg.MaterializeResult(
        metadata=reporting.verified(run, report),
        check_results=checks.verification_results(
            checks.verification_specs(step.job, names.verified(step.job)), verification
        ),
    )
    if run.state != "verified":
        raise Guarded(sentence(run))
