"""Runs by their id alone: which system's database holds one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Refusal, Unreachable
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry


@dataclass(frozen=True)
class Found:
    """A run and the database that holds it."""

    system: str
    database: Database
    run: Run


def systems() -> list[str]:
    """Every system that has a job."""
    return sorted({job.system for job in registry.JOBS.values()})


def configured(settings: Settings) -> list[str]:
    """The systems that have a database URL; refuses where none has."""
    found, refused = [], None
    for system in systems():
        try:
            settings.url(system)
        except Misconfigured as refusal:
            refused = refused or refusal
        else:
            found.append(system)
    if not found and refused is not None:
        raise refused
    return found


@contextmanager
def find_run(settings: Settings, beginning: str) -> Iterator[Found]:
    """The one run, of all configured systems, whose id begins so; refuses none and several."""
    databases = {name: connect(settings, name) for name in configured(settings)}
    try:
        yield _only(beginning, databases)
    finally:
        for database in databases.values():
            database.dispose()


def _only(beginning: str, databases: dict[str, Database]) -> Found:
    found: list[Found] = []
    refused: list[Refusal] = []
    for system, database in databases.items():
        try:
            found.append(Found(system, database, runs.find(database, beginning)))
        except Refusal as refusal:
            refused.append(refusal)
    if len(found) > 1:
        raise BadInput(f"Runs of several systems begin with {beginning}; give more of the id.")
    if not found:
        # A database that cannot be asked may be the one that holds the run.
        raise next((each for each in refused if isinstance(each, Unreachable)), refused[0])
    return found[0]
