"""The reset in a process of its own, to be killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.systems.referrals import jobs

SMALL = Limits(batch_rows=4, granule_rows=2)
"""Many batches, even of few members."""

# A clean process forks every worker, which so has its imports done and none of our threads.
# The driver is imported when the first engine is made.
sa.create_engine("postgresql+psycopg://")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def kill_after(seconds: float, url: str, scope: Scope) -> None:
    """Runs the reset, and kills it after so many seconds where it is not done by then."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(there, url, scope), daemon=True)
    process.start()
    there.close()
    assert here.recv() == "ready"
    time.sleep(seconds)
    process.kill()
    process.join(10)
    here.close()


def _work(parent: Connection, url: str, scope: Scope) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - it is killed while it writes
    database = Database.connect(url, "WORKER_URL", SMALL)
    parent.send("ready")
    try:
        jobs.carry_out(monthly_stats_reset, database, scope)
    except Refusal:
        return
