"""An instance of the application: what can be asked of its database, whichever kind it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import sqlalchemy as sa
import tenacity

from maintenance_pipelines.engine.refusals import Refusal

INSTANCES = ("prod", "dev", "testing")
"""The application's instances, by the names that its own folders have."""

PATIENCE_S = 30.0
"""Seconds that a lock of the application's is waited for where the settings do not say."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class TableChange:
    """One table to be created or dropped: by which statement, in which role, and who is then
    granted its use. `owner` is None where there are no roles.
    """

    table: str
    statement: str
    owner: str | None = None
    grants: tuple[str, ...] = ()


class Instance(Protocol):
    """One instance's database. SQLite and PostgreSQL each have one of these."""

    @property
    def name(self) -> str:
        """Its name, which is also the partition: `prod`, `dev`, `testing`."""

    @property
    def kind(self) -> str:
        """`SQLite` or `PostgreSQL`."""

    @property
    def schema(self) -> str | None:
        """The schema of the application's tables; None on SQLite."""

    @property
    def where(self) -> str:
        """Where it is, for people; without credentials."""

    @property
    def keeps_ledger(self) -> bool:
        """Whether the ledger is in this database, so that both commit together."""

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """What `work` finds, without a change to the application's database."""

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """One transaction that may write; rolled back as a whole where anything is raised."""

    def attempts(self) -> tenacity.Retrying:
        """Tries again what a lock has prevented, as long as the settings allow."""

    def journal_mode(self) -> str | None:
        """SQLite's journal mode as the file itself says, `wal` or `rollback`; else None."""

    def size(self, connection: sa.Connection) -> int:
        """Bytes on disk."""

    def definitions(self, connection: sa.Connection) -> dict[str, str]:
        """Everything that is defined in the database, as name and digest of the definition."""

    def writes(self, connection: sa.Connection) -> Callable[[], str]:
        """A function that says which rows have been written since now; empty where none was."""

    def creations(self, connection: sa.Connection, tables: tuple[str, ...]) -> list[TableChange]:
        """The statements for those of the six tables; refuses where a privilege is missing."""

    def removals(self, changes: Sequence[TableChange]) -> list[TableChange]:
        """The statements that drop what these have created, the last first."""

    def execute(self, connection: sa.Connection, change: TableChange) -> None:
        """Executes a statement and its grants."""

    def seclude(self, connection: sa.Connection, changes: Sequence[TableChange]) -> None:
        """Keeps everybody else from these tables until the transaction ends."""

    def made_by(self, connection: sa.Connection, changes: Sequence[TableChange]) -> bool:
        """Whether a run without an outcome in the ledger has created these tables after all."""

    def key(self, table: str) -> str:
        """The name under which `definitions` has a table."""

    def dependents(
        self, connection: sa.Connection, tables: Collection[str], known: Collection[str]
    ) -> list[str]:
        """What would be left hanging without these tables, but for the tables that are `known`."""

    def unusable(self, connection: sa.Connection, tables: tuple[str, ...]) -> list[str]:
        """Who may use the parents and not one of these tables, in words."""

    def refusal(self, error: BaseException) -> Refusal | None:
        """The sentence for an error of its database; None for one that nobody has foreseen."""
