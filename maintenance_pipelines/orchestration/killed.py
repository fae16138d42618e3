"""Dagster runs whose process is gone: the default launcher never notices.

A run says which process works on it (`announces_process`). Where that process was killed, on
this host, or the ledger has given up waiting for its heartbeat, on another, the run is recorded
as failed, so that its place in the pool is free and somebody is told. The next run of the
partition finishes the work.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine import ledger as tables
from maintenance_pipelines.engine import ownership, runs
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.orchestration.launching import PROCESS
from maintenance_pipelines.orchestration.ledgers import ledgers
from maintenance_pipelines.orchestration.watch_ledgers import configured
from maintenance_pipelines.settings import Settings

SAYS = "The process that worked on this run was killed."
WORKING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def bury(settings: Settings, instance: dg.DagsterInstance) -> list[str]:
    """Records the runs whose process is gone as failed; returns their ids."""
    working = instance.get_runs(dg.RunsFilter(statuses=WORKING))
    if not working:
        return []
    abandoned = _abandoned(settings, [run.run_id for run in working])
    buried = []
    for run in working:
        process = run.tags.get(PROCESS)
        dead = process is not None and not ownership.is_alive(process, timedelta(0))
        if dead or run.run_id in abandoned:
            instance.report_run_failed(run, SAYS)
            buried.append(run.run_id)
    return buried


def _abandoned(settings: Settings, dagster_runs: list[str]) -> set[str]:
    """Those of the runs that the ledgers know to be interrupted."""
    found: set[str] = set()
    for system in configured(settings):
        # A ledger that cannot be read is told of by the watch over the ledgers.
        try:
            with ledgers(settings, [system]) as all_of_them:
                for each in all_of_them:
                    with each.database.transaction() as connection:
                        if tables.is_current(connection):
                            found |= _interrupted(connection, dagster_runs)
        except (Refusal, DBAPIError):
            continue
    return found


def _interrupted(connection: sa.Connection, dagster_runs: list[str]) -> set[str]:
    run = tables.run
    applying = sa.select(run.c.id).where(
        run.c.state == "applying", run.c.dagster_run_id.in_(dagster_runs)
    )
    loaded = [runs.load(connection, id_) for id_ in connection.scalars(applying)]
    return {
        each.dagster_run_id
        for each in loaded
        if each.state == "interrupted" and each.dagster_run_id is not None
    }
