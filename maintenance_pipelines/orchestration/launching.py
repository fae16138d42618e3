"""Dagster runs from a terminal: in this process, on the real instance, with the same records."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from maintenance_pipelines.engine import ownership
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.settings import PROJECT, STORAGE, Settings

# Capturing would take the terminal's progress bar for output of the assets.
NO_CAPTURE = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}

PROCESS = "maintenance/process"
"""Tag of a run that a command executes itself: which process of which host that is."""


@contextmanager
def instance_of(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance, its storage started where the embedded server has it."""
    environment = settings.dagster_environment()
    _demand_reachable(environment[STORAGE])
    os.environ.update(environment)
    ref = InstanceRef.from_dir(str(PROJECT), overrides=NO_CAPTURE)
    instance = dg.DagsterInstance.from_ref(ref)
    with instance:
        _bury_the_dead(instance)
        yield instance


def launch(
    instance: dg.DagsterInstance,
    job: str,
    maintenance: Maintenance,
    *,
    config: Mapping[str, Mapping[str, Any]],
    assets: Sequence[dg.AssetKey] | None = None,
    partition: str | None = None,
    verbose: bool = False,
) -> None:
    """Executes a Dagster job here and now, or only some of its assets.

    `config` is by the name of the op, entries that are None left out. Raises the refusal that
    failed the run, so that its sentence and exit code reach the person; `KeyboardInterrupt` for
    SIGTERM as for Ctrl-C.
    """
    from maintenance_pipelines.definitions import build

    ops = {op: {"config": _given(fields)} for op, fields in config.items()}
    run_config: dict[str, Any] = {"ops": ops}
    if not verbose:
        run_config["loggers"] = {"console": {"config": {"log_level": "CRITICAL"}}}
    with _quiet(verbose), _terminated_like_interrupted():
        try:
            build(maintenance).resolve_job_def(job).execute_in_process(
                run_config=run_config,
                instance=instance,
                partition_key=partition,
                asset_selection=assets,
                tags={PROCESS: ownership.claim()},
            )
        except dg.Failure as failure:
            if isinstance(failure.__cause__, Refusal):
                raise failure.__cause__ from None
            raise


def _demand_reachable(url: str) -> None:
    """Refuses in one sentence what Dagster would log, line by line, over many retries."""
    storage = Database.connect(url, STORAGE)
    try:
        with storage.transaction():
            pass
    except Refusal as refusal:
        raise type(refusal)(f"Dagster's storage ({STORAGE}): {refusal}") from None
    finally:
        storage.dispose()


def _bury_the_dead(instance: dg.DagsterInstance) -> None:
    """Marks as failed the runs of commands that were killed and could not say so themselves."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    for run in instance.get_runs(started):
        process = run.tags.get(PROCESS)
        if process is not None and not ownership.is_alive(process, timedelta(0)):
            instance.report_run_failed(run, "The process that worked on this run was killed.")


def op_of(asset: dg.AssetKey) -> str:
    """The name of the op that materializes an asset, as run configs have it."""
    return "__".join(asset.path)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keeps Dagster's own remarks off the terminal."""
    if verbose:
        yield
        return
    logger = logging.getLogger("dagster")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
