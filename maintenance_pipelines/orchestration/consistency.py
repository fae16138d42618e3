"""A system's consistency rules as an asset: a diagnosis to read, and an asset check for each rule.

It changes nothing and needs no job to have run; it is looked at every hour and by hand.
"""

import dagster as dg
from pydantic import Field

from maintenance_pipelines.engine.consistency import ConsistencyRule, Finding, judge
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.orchestration.endings import Results, refusals_fail_the_run
from maintenance_pipelines.orchestration.moments import as_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.schedules import status
from maintenance_pipelines.systems.registry import Checks

HOURLY = "20 * * * *"
"""Between the jobs, which begin at other minutes."""


class ConsistencyConfig(dg.Config):
    """What is looked at."""

    month: str | None = Field(
        default=None, description="The month to diagnose, like 2025-08. Default: the running one."
    )
    as_of: str | None = Field(
        default=None,
        description="What counts as now, in ISO 8601; UTC unless it says otherwise. Default: now.",
    )


def consistency_asset(system: str, checks: Checks) -> dg.AssetsDefinition:
    """The asset `<system>/consistency`."""
    key = dg.AssetKey([system, "consistency"])
    specs = [_spec(rule, key) for rule in checks.rules]

    @dg.asset(
        key=key,
        group_name=system,
        description=f"Whether the data of {system} is consistent, all rows of it. Changes nothing.",
        check_specs=specs,
    )
    def consistency(
        context: dg.AssetExecutionContext,
        config: ConsistencyConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        with refusals_fail_the_run(), maintenance.database(system) as database:
            scope = asked(database, system, checks, config, maintenance)
            report: dict[str, dg.MetadataValue] = {}
            if checks.diagnose is None:
                found = judge(database, scope, checks.rules)
            else:
                diagnosis = checks.diagnose(database, scope)
                found = diagnosis.consistency
                report["report"] = dg.MetadataValue.md(diagnosis.markdown())
            findings = found.findings
            yield dg.MaterializeResult(
                metadata={
                    **report,
                    "errors": sum(finding.errors for finding in findings),
                    "warnings": sum(finding.warnings for finding in findings),
                    "seconds": round(found.milliseconds / 1000, 3),
                    **{f"offenders/{f.rule.name}": f.count for f in findings},
                },
                check_results=[_result(finding) for finding in findings],
            )

    return consistency


def asked(
    database: Database,
    system: str,
    checks: Checks,
    config: ConsistencyConfig,
    maintenance: Maintenance,
) -> Scope:
    """What a config asks about, with the options that fit the database."""
    moment = as_of(config.as_of, maintenance.clock())
    month = None if config.month is None else str(Month.parse(config.month))
    chosen = maintenance.settings().options_of(system, checks.options)
    return checks.scope(database, moment, month, chosen)


def consistency_schedule(system: str, on: bool) -> dg.ScheduleDefinition:
    """The hourly schedule, and with it the Dagster job."""
    job = dg.define_asset_job(
        f"{system}_consistency",
        selection=[dg.AssetKey([system, "consistency"])],
        description=f"Whether the data of {system} is consistent.",
    )
    return dg.ScheduleDefinition(
        name=f"{system}_consistency_schedule",
        job=job,
        cron_schedule=HOURLY,
        execution_timezone="UTC",
        default_status=status(on),
    )


def _spec(rule: ConsistencyRule, asset: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(rule.name, asset=asset, description=rule.says)


def _result(finding: Finding) -> dg.AssetCheckResult:
    error = finding.severity == "error"
    return dg.AssetCheckResult(
        check_name=finding.rule.name,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        description=finding.sentence,
        metadata={
            "count": finding.count,
            "milliseconds": round(finding.milliseconds, 1),
            **({"sample": [one.id for one in finding.first]} if finding.first else {}),
        },
    )
