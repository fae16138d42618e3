"""Which run an asset is about: the one named, the one just made, or the newest that will do."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from maintenance_pipelines.engine import ledger, runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.guards import RESUMABLE
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import VERIFIABLE
from maintenance_pipelines.orchestration import names
from maintenance_pipelines.orchestration.steps import Step


def run_to_apply(step: Step[Any], database: Database, named: str | None) -> Run:
    """The run that is named, else the one just planned, else the newest unapplied one."""
    planned = named or step.run_made_by(names.detected(step.job))
    if planned is not None:
        return step.run_named(database, planned)
    newest = _newest(step, database, RESUMABLE)
    if newest is None:
        raise Guarded(f"There is no plan of {step.job.name} {step.label} to apply; plan it first.")
    return newest


def run_to_verify(step: Step[Any], database: Database, named: str | None) -> Run:
    """The run that is named, else the one just applied, else the newest applied one."""
    applied = named or step.run_made_by(names.materialized(step.job))
    if applied is not None:
        return step.run_named(database, applied)
    newest = _newest(step, database, VERIFIABLE)
    if newest is None:
        raise Guarded(
            f"No run of {step.job.name} {step.label} has been applied; nothing to verify."
        )
    return newest


def _newest(step: Step[Any], database: Database, states: Container[str]) -> Run | None:
    with database.transaction() as connection:
        if not ledger.is_current(connection):
            return None
    return runs.newest(database, step.job.name, step.partition, states)
