"""The instances of a migration: their databases, and where the ledger of each is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.database import Database, parse_url
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Refusal
from maintenance_pipelines.settings import POSTGRES_EXAMPLE, STORAGE, Settings, url_variable
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.cashback.instance import Instance
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance
from maintenance_pipelines.systems.cashback.sqlite_instance import EXAMPLE, SqliteInstance, file_of


@dataclass(frozen=True)
class Opened:
    """An instance and the database that holds its ledger."""

    instance: Instance
    ledger: Database


def configured(settings: Settings, job: Migration) -> list[str]:
    """The names of the instances that have an address."""
    return [name for name in job.partitions if settings.has_url(_key(job, name))]


def demand_configured(settings: Settings, job: Migration) -> list[str]:
    """The names of the instances that have an address; refuses where none has."""
    names = configured(settings, job)
    if not names:
        variables = [url_variable(_key(job, name)) for name in job.partitions]
        raise Misconfigured(
            f"No instance of {job.system} has an address: set {', '.join(variables[:-1])} or "
            f"{variables[-1]} in the environment or in .env in the project, like "
            f"{variables[0]}={EXAMPLE}."
        )
    return names


def demand_address(settings: Settings, job: Migration, name: str) -> str:
    """The address of an instance; refuses one that there is not, and one that has none."""
    return settings.url(_key(job, job.demand_partition(name)), EXAMPLE)


@contextmanager
def opened(settings: Settings, job: Migration, name: str) -> Iterator[Opened]:
    """An instance while it is needed; nothing is sent to it yet.

    Refuses one that there is not, that has no address, or that another name has as well. The
    embedded server is started where an address names a database of it.
    """
    url, variable = demand_address(settings, job, name), url_variable(_key(job, name))
    _demand_distinct(settings, job, name)
    patience_s = settings.options_of(job.system, job.options).lock_patience_s
    with ExitStack() as stack:
        if _is_sqlite(url):
            instance = SqliteInstance(name, file_of(url, variable), patience_s)
            yield Opened(instance, stack.enter_context(storage(settings)))
            return
        _demand_postgres(url, variable)
        address = embedded.resolve(url, settings.home, settings.postgres_version)
        database = Database.connect(address, variable, settings.limits)
        stack.callback(database.dispose)
        yield Opened(PostgresInstance(name, database, patience_s), database)


@contextmanager
def storage(settings: Settings) -> Iterator[Database]:
    """Dagster's own database, where the ledger of SQLite files is."""
    address = settings.dagster_environment()[STORAGE]
    database = Database.connect(address, STORAGE, settings.limits)
    try:
        yield database
    finally:
        database.dispose()


def keeps_its_ledger(settings: Settings, job: Migration, name: str) -> bool:
    """Whether an instance's ledger is in its own database, not in Dagster's storage."""
    return not _is_sqlite(demand_address(settings, job, name))


def _key(job: Migration, name: str) -> str:
    """What the settings know an instance by: `cashback_prod` has CASHBACK_PROD_DATABASE_URL."""
    return f"{job.system}_{name}"


def _is_sqlite(url: str) -> bool:
    return url.strip().lower().startswith("sqlite")


def _demand_postgres(url: str, variable: str) -> None:
    if not url.strip().startswith(("postgres", embedded.PREFIX)):
        raise BadInput(
            f"{variable} names neither an SQLite file nor a PostgreSQL database; write it as "
            f"{EXAMPLE} or {POSTGRES_EXAMPLE}."
        )


def _demand_distinct(settings: Settings, job: Migration, name: str) -> None:
    """Refuses two names for one database: asking for one would change the other."""
    mine = _place(settings, job, name)
    for other in configured(settings, job):
        if other != name and mine is not None and _place(settings, job, other) == mine:
            raise Misconfigured(
                f"{url_variable(_key(job, name))} and {url_variable(_key(job, other))} name the "
                "same database; each instance has its own."
            )


def _place(settings: Settings, job: Migration, name: str) -> str | None:
    """Where an address leads, without going there; None for one that cannot be read."""
    key = _key(job, name)
    url, variable = settings.url(key), url_variable(key)
    try:
        if _is_sqlite(url):
            return str(file_of(url, variable))
        if url.startswith(embedded.PREFIX):
            return url.strip()
        address, schema = parse_url(url, variable)
    except Refusal:
        return None
    host = address.host or address.query.get("host")
    return f"{host}:{address.port or 5432}/{address.database}/{schema}"
