"""Connections: the address as people have it, and transactions that set everything they rely on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError

from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Unreachable

# What client libraries other than libpq put into their URLs; libpq refuses a connection over them.
FOREIGN_PARAMETERS = frozenset(
    {"schema", "pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "sslaccept"}
    | {"statement_cache_size", "sslidentity", "pool_max_conns", "uselibpqcompat", "supa"}
)

# A server that answers but does not let this user in says so only in words: libpq reports no
# SQLSTATE for a connection that was never made.
REFUSED_BY_SERVER = {
    "password": "the server does not accept the user name and password",
    "does not exist": "the user or the database in it does not exist",
    "pg_hba": "the server's pg_hba.conf does not let this user in from here",
    "permission denied": "the user may not connect to that database",
}


@dataclass(frozen=True)
class Limits:
    """What bounds a run: times, sizes and attempts."""

    lock_timeout_ms: int = 500
    """Longest wait for one lock. Kept below the server's `deadlock_timeout`: the job gives way."""
    batch_timeout_s: int = 60
    """Longest statement while applying."""
    detection_timeout_s: int = 3600
    """Longest statement while planning and verifying."""
    batch_rows: int = 20_000
    """Rows that one transaction writes."""
    granule_rows: int = 1_000
    """Rows that are marked done together; a batch is a run of granules."""
    workers: int = 2
    """Batches that are written at the same time."""
    attempts: int = 8
    """How often a batch is tried when a lock or the connection cannot be had."""
    lock_patience: int = 60
    """Waits for a lock that one run bears in all before it leaves rows for later."""
    work_mem: str = "128MB"
    """Memory of one sort or hash on the server while planning and verifying."""


@dataclass(frozen=True)
class Database:
    """One application's database: where its tables are, and the limits of work on it."""

    engine: sa.Engine
    schema: str = "public"
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def connect(cls, url: str, variable: str, limits: Limits | None = None) -> Database:
        """A database from a URL as people have it; nothing is sent before the first transaction.

        Takes `postgres://` and Prisma's parameters, honours `schema`, and refuses a malformed
        address with the name of the `variable` it came from, never with the address itself.
        """
        address, schema = parse_url(url, variable)
        engine = sa.create_engine(
            address,
            pool_size=4,
            # An error's text would quote what was asked for, an e-mail address perhaps.
            hide_parameters=True,
            # A transaction pooler hands every transaction to another server session, where a
            # statement prepared in an earlier one is unknown.
            connect_args={
                "prepare_threshold": None,
                "connect_timeout": 10,
                "application_name": "maintenance_pipelines",
            },
        ).execution_options(schema_translate_map={None: schema})
        return cls(engine, schema, limits or Limits())

    @contextmanager
    def transaction(self, timeout_s: int | None = None) -> Iterator[sa.Connection]:
        """One transaction whose settings are its own (`SET LOCAL`), committed at the end.

        `timeout_s` bounds each statement (default: the limit for batches). Raises `Unreachable`
        or `Misconfigured` where there is no connection to be had.
        """
        try:
            connection = self.engine.connect()
        except DBAPIError as error:
            raise connection_refusal(error) from None
        with connection, connection.begin():
            connection.execute(SETTINGS, self._settings(timeout_s or self.limits.batch_timeout_s))
            yield connection

    @contextmanager
    def analysis(self) -> Iterator[sa.Connection]:
        """A transaction for statements that read whole tables: more time, more memory."""
        with self.transaction(self.limits.detection_timeout_s) as connection:
            connection.execute(WORK_MEMORY, {"work_mem": self.limits.work_mem})
            yield connection

    def dispose(self) -> None:
        """Closes the idle connections."""
        self.engine.dispose()

    def _settings(self, timeout_s: int) -> dict[str, str]:
        return {
            "lock_timeout": str(self.limits.lock_timeout_ms),
            "statement_timeout": f"{timeout_s}s",
        }


# lock_timeout stays below deadlock_timeout (a superuser's setting, default 1 s): in a deadlock
# between the job and the app it is then always the job that gives way.
# Compiling statements of this size (jit) takes longer than running them.
SETTINGS = sa.text(
    """
    SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
           set_config('IntervalStyle', 'postgres', true),
           set_config('extra_float_digits', '1', true),
           set_config('bytea_output', 'hex', true), set_config('row_security', 'on', true),
           set_config('statement_timeout', :statement_timeout, true),
           set_config('lock_timeout', least(:lock_timeout, 0.8 * extract(epoch FROM
               current_setting('deadlock_timeout')::interval) * 1000)::integer::text, true),
           set_config('jit', 'off', true)
    """
).bindparams(sa.bindparam("lock_timeout", type_=sa.Numeric))

WORK_MEMORY = sa.text("SELECT set_config('work_mem', :work_mem, true)")

# A batch's rows are read to be locked, compared and written, so they are in memory from then on.
# At the server's default, which is made for cold disks, each of the three would rather read the
# whole table.
BY_KEY = sa.text(
    """
    SELECT set_config('random_page_cost', least(1.1 * current_setting('seq_page_cost')::float8,
               current_setting('random_page_cost')::float8)::text, true)
    """
)


def count(connection: sa.Connection, rows: sa.Select[Any]) -> int:
    """How many rows a statement finds."""
    counted = sa.select(sa.func.count()).select_from(rows.subquery("counted"))
    return connection.execute(counted).scalar_one()


def parse_url(url: str, variable: str) -> tuple[sa.URL, str]:
    """The address for psycopg 3 and the schema that the URL names (default `public`)."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.split("+")[0] not in ("postgres", "postgresql"):
        raise BadInput(
            f"{variable} is not a PostgreSQL address; write it like "
            "postgresql://user:password@host:5432/database."
        )
    try:
        address = sa.make_url(f"postgresql+psycopg://{rest}")
    except (ArgumentError, ValueError):
        raise BadInput(
            f"{variable} cannot be read as an address; check its port, and write special "
            "characters in the password as %-codes."
        ) from None
    schema = address.query.get("schema") or "public"
    kept = {name: text for name, text in address.query.items() if name not in FOREIGN_PARAMETERS}
    return address.set(query=kept), schema if isinstance(schema, str) else schema[0]


def connection_refusal(error: DBAPIError) -> Misconfigured | Unreachable:
    """The sentence for a connection that could not be made."""
    said = str(error.orig)
    for words, meaning in REFUSED_BY_SERVER.items():
        if "FATAL" in said and words in said:
            return Misconfigured(f"The database refused the connection: {meaning}; check its URL.")
    if "invalid" in said and "option" in said:
        return Misconfigured("The database URL has a parameter that PostgreSQL does not know.")
    return Unreachable(
        "The database cannot be reached; check that the server runs and that the host and port "
        "in its URL are right."
    )
