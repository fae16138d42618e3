"""Changes: what the engine asks of a kind of change, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from maintenance_pipelines.engine.catalog import TableShape
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job, Rule, Scope, Summary
from maintenance_pipelines.engine.plans import Piece, Span
from maintenance_pipelines.engine.proof import Counts


@dataclass(frozen=True)
class Written:
    """What a batch has written: how many rows of the plan, and what the database should have
    counted, by the table's name.
    """

    applied: int
    expected: Mapping[str, Counts]


class Busy(Exception):
    """The app is in the middle of changing what these positions of the plan are about."""

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(f"{len(positions)} units are being changed by the app")
        self.positions = positions


class Change(Protocol):
    """One run's change, planned and about to be written."""

    @property
    def job(self) -> Job:
        """The job it belongs to."""

    @property
    def scope(self) -> Scope:
        """What the plan is about."""

    @property
    def run_id(self) -> str:
        """The run whose plan tables it writes from."""

    @property
    def kind(self) -> str:
        """The kind's name, part of the digest."""

    @property
    def settle_s(self) -> float:
        """For how many seconds busy positions are waited for at the end of the run."""

    def pieces(self, connection: sa.Connection, planned: int) -> tuple[Piece, ...]:
        """The plan tables, and which of their positions are to be applied."""

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Writes the span's rows whose reason still holds, and records the others as exceptions.

        Raises `Busy` or `faults.Raced`, after which the transaction must be rolled back.
        """


class Forward(Change, Protocol):
    """The change that a job is about, as against the one that takes it back."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What the ledger keeps of the plan's columns."""

    def fill(
        self, connection: sa.Connection, shapes: Mapping[str, TableShape]
    ) -> dict[str | None, int]:
        """Creates and fills the plan tables; counts candidates by reason, None for the planned."""

    def counted(self, connection: sa.Connection) -> Counts:
        """The rows that the applied part of the plan should have inserted, updated, deleted."""

    def due_now(self, connection: sa.Connection) -> int:
        """Runs detection again and counts the rows that are due."""

    def failed_and_due(self, connection: sa.Connection) -> int:
        """Counts the rows that failed and are still due."""

    def rules(self) -> Iterable[tuple[Rule, sa.FromClause]]:
        """What must hold afterwards, each rule with the applied rows that it is about."""

    def summaries(self) -> Iterable[tuple[Summary, sa.FromClause]]:
        """Tables for the report, each with the planned rows that it is about."""

    def samples(self) -> Iterable[tuple[str, sa.Select[Any]]]:
        """What is planned, by what it is called, in order and as it would be written."""

    def named(self, positions: Sequence[int]) -> Iterable[sa.Select[Any]]:
        """`position` and the key of rows of the plan."""

    def undo(self, connection: sa.Connection, run_id: str, database: Database) -> Undo:
        """The change that takes this one back, as a run of its own."""


class Undo(Change, Protocol):
    """A rollback's change."""

    def fill(self, connection: sa.Connection) -> dict[str | None, int]:
        """Creates and fills the plan tables; counts what stays by reason, None for the rest."""

    def counted(self, connection: sa.Connection) -> Counts:
        """The rows that the applied part of the plan should have inserted, updated, deleted."""

    def not_undone(self, connection: sa.Connection) -> int:
        """Counts rows that were taken back and are there all the same."""

    def left_alone(self, connection: sa.Connection, limit: int) -> list[tuple[str, str]]:
        """The first rows that stayed, as (id, reason)."""

    def named(self, positions: Sequence[int]) -> Iterable[sa.Select[Any]]:
        """`position` and the key of rows of the plan."""
