"""How a Dagster run ends that does not end well: a refusal, or an interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import dagster as dg
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.orchestration.sentences import refusal_of
from maintenance_pipelines.orchestration.workers import announce_process

Results = Iterator[dg.MaterializeResult[None]]


def guarded(context: dg.AssetExecutionContext, work: Results) -> Results:
    """An asset's work, its refusals and its interrupts ending the Dagster run as they should."""
    with refusals_fail_the_run(), interrupts_pause(context):
        yield from work


@contextmanager
def refusals_fail_the_run() -> Iterator[None]:
    """Turns a refusal into Dagster's failure with the same one sentence, never tried again.

    The refusal stays the failure's cause, so that the terminal finds its exit code. An error of
    the database is retold without its detail, which quotes the app's data: Dagster stores and
    shows the text of every exception.
    """
    try:
        yield
    except Refusal as refusal:
        raise dg.Failure(description=str(refusal), allow_retries=False) from refusal
    except DBAPIError as error:
        retold = refusal_of(error)
        raise dg.Failure(description=str(retold), allow_retries=False) from retold


@contextmanager
def interrupts_pause(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Iterator[None]:
    """Lets Ctrl-C, SIGTERM and the UI's *Terminate* reach the engine as `KeyboardInterrupt`.

    Dagster's own exception for them is unknown to the engine, which pauses the run, and to
    psycopg, which cancels the statement that the server is working on. The Dagster run is
    recorded as canceled, which is what it was. That a process was killed, which no signal tells
    it, can only be noticed from outside: so it is written down which one it is.
    """
    announce_process(context.instance, context.run)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    except KeyboardInterrupt:
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is not None and run.status == dg.DagsterRunStatus.STARTED:
            context.instance.report_run_canceling(run)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
