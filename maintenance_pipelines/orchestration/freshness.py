"""What the UI shows as overdue: the proof of a scheduled job has to be as young as its schedule."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.orchestration import names

OF_AN_HOUR = timedelta(minutes=30)
OF_A_DAY = timedelta(hours=2)


def policy_of(job: Job) -> dg.FreshnessPolicy | None:
    """Verified between each moment of the schedule and a while later; None without a schedule.

    A job of every hour has half an hour, any other two hours. Schedules late in the evening have
    until midnight: a deadline is a cron line as well, and has no day after.
    """
    if job.schedule is None:
        return None
    minute, hour, *days = job.schedule.split()
    if hour == "*":
        late = int(minute) + int(OF_AN_HOUR.total_seconds()) // 60
        return _by(f"{late % 60} * {' '.join(days)}", OF_AN_HOUR)
    end = int(hour) + int(OF_A_DAY.total_seconds()) // 3600
    if end > 23:
        span = timedelta(hours=23 - int(hour), minutes=59 - int(minute))
        return _by(f"59 23 {' '.join(days)}", span)
    return _by(f"{minute} {end} {' '.join(days)}", OF_A_DAY)


def with_freshness(jobs: list[Job], assets: list[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets, the verifying ones of scheduled jobs with their policy."""
    policies = {names.verified(job): policy_of(job) for job in jobs}

    def fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = policies.get(spec.key)
        return spec if policy is None else dg.apply_freshness_policy(spec, policy)

    return [each.map_asset_specs(fresh) for each in assets]


def _by(deadline: str, span: timedelta) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.cron(deadline_cron=deadline, lower_bound_delta=span, timezone="UTC")
