"""The job: every benefit has a status for each cycle that starts in the month."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maintenance_pipelines.engine.identifiers import cuid
from maintenance_pipelines.engine.job import AssetNames, Insert, Job, Scope
from maintenance_pipelines.engine.months import Months
from maintenance_pipelines.systems.benefits.candidates import KEY, candidates
from maintenance_pipelines.systems.benefits.options import BenefitsOptions
from maintenance_pipelines.systems.benefits.rules import no_overlapping_cycle
from maintenance_pipelines.systems.benefits.schema import TABLES, benefit_status
from maintenance_pipelines.systems.benefits.summaries import SUMMARIES, notes, statuses_of


def as_the_app_creates_it(scope: Scope) -> Mapping[str, Any]:
    """What every new status has alike; the columns that are not named keep their defaults."""
    return {
        "isCompleted": False,
        "completedAt": None,
        "isNotUsable": False,
        "orderIndex": None,
        "createdAt": scope.naive_as_of,
        "updatedAt": scope.naive_as_of,
    }


benefit_status_backfill = Job(
    name="benefit_status_backfill",
    system="benefits",
    says="Every benefit has a status for each cycle that starts in the month",
    assets=AssetNames(
        detected="missing_benefit_statuses",
        materialized="backfilled_benefit_statuses",
        verified="verified_benefit_statuses",
    ),
    partitions=Months(since="2025-01"),
    schedule="30 0 1 * *",
    options=BenefitsOptions,
    relies_on=TABLES,
    change=Insert(
        into=benefit_status,
        key=KEY,
        candidates=candidates,
        identifier=cuid,
        constants=as_the_app_creates_it,
        touched=(
            "isCompleted",
            "completedAt",
            "isNotUsable",
            "orderIndex",
            "usedAmount",
            "notes",
        ),
        # The app's own job rewrites both of existing rows at any time.
        bookkeeping=("updatedAt", "cycleEndDate"),
    ),
    rules=(no_overlapping_cycle,),
    summaries=SUMMARIES,
    notes=notes,
    subject=statuses_of,
)
