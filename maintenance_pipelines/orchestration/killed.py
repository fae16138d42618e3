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
    at_work = instance.get_runs(dg.RunsFilter(statuses=WORKING))
    working = [(run, run.tags[PROCESS]) for run in at_work if PROCESS in run.tags]
    if not working:
        return []
    silent = _silent(settings)
    buried = []
    for run, process in working:
        if not ownership.is_alive(process, timedelta(0)) or _name(process) in silent:
            instance.report_run_failed(run, SAYS)
            buried.append(run.run_id)
    return buried


def _silent(settings: Settings) -> set[str]:
    """The processes that a ledger has given up on, whichever host they were on."""
    found: set[str] = set()
    for system in configured(settings):
        # A ledger that cannot be read is told of by the watch over the ledgers.
        try:
            with ledgers(settings, [system]) as all_of_them:
                for each in all_of_them:
                    with each.database.transaction() as connection:
                        if tables.is_current(connection):
                            found |= _dead_owners(connection)
        except (Refusal, DBAPIError):
            continue
    return found


def _dead_owners(connection: sa.Connection) -> set[str]:
    run = tables.run
    applying = sa.select(run.c.id, run.c.owner).where(run.c.state == "applying")
    return {
        _name(owner)
        for id_, owner in connection.execute(applying)
        if runs.load(connection, id_).state == "interrupted"
    }


def _name(claim: str) -> str:
    """A process by host, number and start, without what tells its claims apart."""
    return claim.rsplit("|", 1)[0]
