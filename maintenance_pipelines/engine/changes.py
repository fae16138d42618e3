"""Changes: what the engine asks of a kind of change, whichever it is."""

from __future__ import annotations

from typing import Protocol

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.plans import Plan, Span
from maintenance_pipelines.engine.proof import Counts


class Change(Protocol):
    """One run's change of one table, planned and about to be written."""

    @property
    def job(self) -> Job:
        """The job it belongs to."""

    @property
    def scope(self) -> Scope:
        """What the plan is about."""

    @property
    def run_id(self) -> str:
        """The run whose plan table it writes from."""

    @property
    def kind(self) -> str:
        """The kind's name, part of the digest."""

    @property
    def plan(self) -> Plan:
        """The run's plan table."""

    @property
    def target(self) -> sa.Table:
        """The app's table that is written."""

    def write(self, connection: sa.Connection, span: Span) -> tuple[int, Counts]:
        """Writes the span's rows whose reason still holds, and records the others as exceptions.

        Returns how many were written, and the rows that the database should have counted as
        inserted, updated and deleted in the target.
        """
