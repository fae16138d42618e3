"""Which process works on a Dagster run: written down, so that its death can be noticed."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.engine import ownership
from maintenance_pipelines.orchestration.launching import PROCESS


def announce_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Writes down that this process works on a run, unless the run has known from its start."""
    if PROCESS not in run.tags:
        instance.add_run_tags(run.run_id, {PROCESS: ownership.claim()})
