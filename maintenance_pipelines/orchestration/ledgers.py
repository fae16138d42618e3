"""The ledgers of all systems, and runs by their id alone: which ledger holds one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput, Refusal, Unreachable
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration import instances
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback.declaration import Migration


@dataclass(frozen=True)
class Ledger:
    """A ledger of a system. With `partitions`, only runs of these are its own: the ledger of an
    instance comes along with a copy of its database.
    """

    system: str
    database: Database
    partitions: frozenset[str] | None = None

    def has(self, run: Run) -> bool:
        """Whether a run that is recorded here is one of this system, and this instance."""
        return self.partitions is None or run.partition in self.partitions


@dataclass(frozen=True)
class Found:
    """A run and the database whose ledger has it."""

    system: str
    database: Database
    run: Run


def systems() -> list[str]:
    """Every system that has a job."""
    return sorted({job.system for job in registry.every()})


def configured(settings: Settings) -> list[str]:
    """The systems that have a database URL; refuses where none has."""
    found = [system for system in systems() if _is_configured(settings, system)]
    if not found:
        settings.url(systems()[0])  # refuses with the variable's name
    return found


@contextmanager
def ledgers(settings: Settings, among: Collection[str]) -> Iterator[list[Ledger]]:
    """The ledgers of these systems; refuses a system that has no database URL at all."""
    with ExitStack() as stack:
        yield [ledger for system in among for ledger in _of(settings, system, stack)]


@contextmanager
def find_run(settings: Settings, beginning: str) -> Iterator[Found]:
    """The one run, of all configured systems, whose id begins so; refuses none and several."""
    with ledgers(settings, configured(settings)) as all_of_them:
        yield _only(beginning, all_of_them)


def _is_configured(settings: Settings, system: str) -> bool:
    migration = _migration(system)
    if migration is not None:
        return bool(instances.configured(settings, migration))
    return settings.has_url(system)


def _of(settings: Settings, system: str, stack: ExitStack) -> Iterator[Ledger]:
    migration = _migration(system)
    if migration is None:
        database = connect(settings, system)
        stack.callback(database.dispose)
        yield Ledger(system, database)
        return
    names = instances.demand_configured(settings, migration)
    elsewhere = {n for n in names if not instances.keeps_its_ledger(settings, migration, n)}
    if elsewhere:
        storage = stack.enter_context(instances.storage(settings))
        yield Ledger(system, storage, frozenset(elsewhere))
    for name in (name for name in names if name not in elsewhere):
        opened = stack.enter_context(instances.opened(settings, migration, name))
        yield Ledger(system, opened.ledger, frozenset({name}))


def _migration(system: str) -> Migration | None:
    found = (each for each in registry.MIGRATIONS.values() if each.system == system)
    return next(found, None)


def _only(beginning: str, all_of_them: list[Ledger]) -> Found:
    found: dict[str, Found] = {}
    refused: list[Refusal] = []
    for ledger in all_of_them:
        try:
            run = runs.find(ledger.database, beginning)
        except Refusal as refusal:
            refused.append(refusal)
        else:
            if ledger.has(run):
                found[run.id] = Found(ledger.system, ledger.database, run)
    if len(found) > 1:
        raise BadInput(f"Runs of several systems begin with {beginning}; give more of the id.")
    if not found:
        # A database that cannot be asked may be the one that holds the run.
        unreachable = (each for each in refused if isinstance(each, Unreachable))
        nowhere = BadInput(f"There is no run {beginning}; `./maintenance runs` lists them.")
        raise next(unreachable, next(iter(refused), nowhere))
    return next(iter(found.values()))
