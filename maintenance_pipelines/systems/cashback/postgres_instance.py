"""An instance that is a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
import tenacity
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.faults import (
    GIVE_WAY,
    QUERY_CANCELED,
    Fault,
    describe,
    judge,
    sqlstate,
)
from maintenance_pipelines.engine.preflight import OLDEST_SERVER, SERVER
from maintenance_pipelines.engine.proof import Reading, demand_nothing_written, spell
from maintenance_pipelines.engine.refusals import Guarded, Misconfigured, Refusal
from maintenance_pipelines.systems.cashback import ownership
from maintenance_pipelines.systems.cashback.instance import PATIENCE_S, TableChange
from maintenance_pipelines.systems.cashback.schema import creation, definitions

Result = TypeVar("Result")

DEPENDENT_OBJECTS = "2BP01"
SIZE = sa.text("SELECT pg_database_size(current_database())")

# What defines a relation, but for what PostgreSQL itself adds to a table that is referred to.
DEFINITIONS = sa.text(
    """
    SELECT n.nspname || '.' || c.relname AS name, md5(concat_ws(E'\\n',
        c.relkind, pg_get_userbyid(c.relowner), c.relacl, c.relrowsecurity, c.reloptions,
        CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
        (SELECT string_agg(concat_ws(' ', a.attnum, a.attname,
                    format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                    a.attgenerated, a.attacl, pg_get_expr(d.adbin, d.adrelid)),
                    E'\\n' ORDER BY a.attnum)
           FROM pg_attribute a
           LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        (SELECT string_agg(k.conname || ' ' || pg_get_constraintdef(k.oid), E'\\n'
                    ORDER BY k.conname) FROM pg_constraint k WHERE k.conrelid = c.oid),
        (SELECT string_agg(pg_get_indexdef(i.indexrelid), E'\\n' ORDER BY i.indexrelid)
           FROM pg_index i WHERE i.indrelid = c.oid),
        (SELECT string_agg(pg_get_triggerdef(t.oid) || t.tgenabled::text, E'\\n' ORDER BY t.tgname)
           FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
        )) AS digest
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
       AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'maintenance')
    """
)


@dataclass(frozen=True)
class PostgresInstance:
    """A PostgreSQL database, which also holds the ledger. `patience_s` is how long a lock of the
    application's is waited for.
    """

    name: str
    database: Database
    patience_s: float = PATIENCE_S

    kind = "PostgreSQL"
    keeps_ledger = True

    @property
    def schema(self) -> str:
        """The schema of the application's tables."""
        return self.database.schema

    @property
    def where(self) -> str:
        """Host, database and schema."""
        url = self.database.engine.url
        host = url.host or url.query.get("host") or "localhost"
        return f"{host}:{url.port or 5432}/{url.database}, schema {self.schema}"

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """What `work` finds; by PostgreSQL's own count it must have written nothing."""
        try:
            with self.database.analysis() as connection:
                before = Reading.take(connection)
                found = work(connection)
                demand_nothing_written(connection, before)
                return found
        except DBAPIError as error:
            raise self.refusal(error) or error from None

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that waits for a lock only as long as the application would not notice."""
        return self.database.transaction()

    def attempts(self) -> tenacity.Retrying:
        """Tries again what a lock, or a lost connection, has prevented, until the patience is at an
        end.
        """
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: judge(error) is Fault.TRANSIENT),
            stop=tenacity.stop_after_delay(self.patience_s),
            wait=tenacity.wait_random(0.05, 0.3),
            reraise=True,
        )

    def journal_mode(self) -> None:
        """PostgreSQL has none."""

    def size(self, connection: sa.Connection) -> int:
        """Bytes of the whole database."""
        return int(connection.execute(SIZE).scalar_one())

    def definitions(self, connection: sa.Connection) -> dict[str, str]:
        """Every relation outside the server's own schemas and the ledger's."""
        return {row.name: row.digest for row in connection.execute(DEFINITIONS)}

    def writes(self, connection: sa.Connection) -> Callable[[], str]:
        """By PostgreSQL's own count of every table outside `maintenance`."""
        before = Reading.take(connection)
        return lambda: spell(Reading.take(connection).since(before))

    def creations(self, connection: sa.Connection, tables: tuple[str, ...]) -> list[TableChange]:
        """The statements, the role that executes them, and the grants that the parents have."""
        if not tables:
            return []
        server = connection.execute(SERVER).one()
        if server.version < OLDEST_SERVER:
            raise Misconfigured(
                f"The server is PostgreSQL {server.version}; {OLDEST_SERVER} or newer is needed."
            )
        if server.read_only:
            raise Misconfigured("The database is read-only; connect to its primary server.")
        if not server.counting:
            raise Misconfigured(
                "The server does not count what a transaction writes, which is the migration's "
                "proof; set track_counts = on."
            )
        metadata = definitions(self.schema)
        owner = ownership.creator(connection, self.schema)
        rights = ownership.rights_of_parents(connection, self.schema)
        return [
            TableChange(
                name,
                creation(metadata.tables[f"{self.schema}.{name}"], connection.dialect),
                owner,
                tuple(ownership.grants(connection, self.schema, name, owner, rights)),
            )
            for name in tables
        ]

    def removals(self, changes: Sequence[TableChange]) -> list[TableChange]:
        """The statements that drop what these have created, the last first."""
        return [
            TableChange(each.table, f"DROP TABLE {self.schema_quoted}.{each.table}", each.owner)
            for each in reversed(changes)
        ]

    def execute(self, connection: sa.Connection, change: TableChange) -> None:
        """Executes the statement and the grants in the role that owns the table."""
        with self._as_owner(connection, change):
            for statement in (change.statement, *change.grants):
                connection.exec_driver_sql(statement)

    def seclude(self, connection: sa.Connection, changes: Sequence[TableChange]) -> None:
        """Locks the tables."""
        for each in changes:
            with self._as_owner(connection, each):
                connection.exec_driver_sql(f"LOCK TABLE {self.schema_quoted}.{each.table}")

    def made_by(self, connection: sa.Connection, changes: Sequence[TableChange]) -> bool:
        """Never: the ledger commits with the tables."""
        return False

    def key(self, table: str) -> str:
        """As `definitions` has it."""
        return f"{self.schema}.{table}"

    def dependents(
        self, connection: sa.Connection, tables: Collection[str], known: Collection[str]
    ) -> list[str]:
        """Nothing that has to be looked up: PostgreSQL refuses to leave anything hanging."""
        return []

    def unusable(self, connection: sa.Connection, tables: tuple[str, ...]) -> list[str]:
        """By the privileges as they are now."""
        return [
            sentence
            for table in tables
            for sentence in ownership.lacking(connection, self.schema, table)
        ]

    @property
    def schema_quoted(self) -> str:
        """The schema as statements have it."""
        return self.database.engine.dialect.identifier_preparer.quote(self.schema)

    @staticmethod
    def _as_owner(connection: sa.Connection, change: TableChange) -> AbstractContextManager[None]:
        assert change.owner is not None, "every role on PostgreSQL has a name"
        return ownership.acting_as(connection, change.owner)

    def refusal(self, error: BaseException) -> Refusal | None:
        """The sentence for a lock that could not be had, or a right that is missing."""
        code = sqlstate(error)
        if code in GIVE_WAY or code == QUERY_CANCELED:
            return Guarded(
                f"{self.name} is locked by its application ({describe(error)}); stop the "
                "application and try again. Nothing was written."
            )
        if code == DEPENDENT_OBJECTS:
            return Guarded(f"{self.name}: {describe(error)}. Nothing was written.")
        if code.startswith("42"):
            return Misconfigured(f"{self.name} refuses: {describe(error)}. Nothing was written.")
        return None
