"""Removal: taking back inserted rows that nobody has touched since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, plans
from maintenance_pipelines.engine.catalog import Reference
from maintenance_pipelines.engine.changes import Written
from maintenance_pipelines.engine.database import count
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.plans import Piece, Span
from maintenance_pipelines.engine.proof import Counts, ProofFailed, Reading, spell

if TYPE_CHECKING:
    from maintenance_pipelines.engine.insertion import Insertion


@dataclass(frozen=True)
class Removal:
    """The rollback of one insertion, a run of its own.

    `references` are the foreign keys that point to the target: a row that others now depend on
    stays.
    """

    undone: Insertion
    run_id: str
    references: tuple[Reference, ...]

    kind = "remove"
    prefix = "old"
    settle_s = 0.0

    @property
    def job(self) -> Job:
        """The job whose run is taken back."""
        return self.undone.job

    @property
    def scope(self) -> Scope:
        """The scope of the run that is taken back."""
        return self.undone.scope

    @property
    def target(self) -> sa.Table:
        """The table that the rows are removed from."""
        return self.undone.target

    @cached_property
    def plan(self) -> plans.Plan:
        """The rollback's own plan table."""
        return plans.plan_table(self.run_id, self.prefix, self.target, self.undone.columns)

    def fill(self, connection: sa.Connection) -> dict[str | None, int]:
        """Plans the removal of every row that the run has written; counts them by reason.

        Under None are the rows to be removed, numbered first; the others are listed after them
        with the reason they stay: `gone`, `touched` or `depended_on`.
        """
        plans.create(connection, self.run_id, self.prefix, self.target, self.undone.columns)
        applied = self.undone.applied()
        identity = self.undone.identity
        reason = sa.case(
            (self.target.c[identity].is_(None), "gone"),
            (self._touched(applied, "new"), "touched"),
            (self._depended_on(), "depended_on"),
        ).label("reason")
        judged = (
            sa.select(reason, applied)
            .select_from(
                applied.outerjoin(
                    self.target, self.target.c[identity] == applied.c[f"new_{identity}"]
                )
            )
            .subquery("judged")
        )
        order = sa.func.row_number().over(
            order_by=[judged.c.reason.is_not(None), judged.c.position]
        )
        rows = sa.select(
            order, judged.c.reason, *(judged.c[f"new_{name}"] for name in self.undone.columns)
        )
        names = ["position", "reason", *(f"old_{name}" for name in self.undone.columns)]
        connection.execute(self.plan.insert().from_select(names, rows))
        counts = sa.select(self.plan.c.reason, sa.func.count()).group_by(self.plan.c.reason)
        return {row[0]: row[1] for row in connection.execute(counts)}

    def pieces(self, connection: sa.Connection, planned: int) -> tuple[Piece, ...]:
        """The rows to be removed, which come first."""
        return (Piece(self.plan, 1, planned),)

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Deletes the span's rows that are still untouched, and records the others as exceptions.

        The condition is in the deleting statement: after waiting for a row's lock, PostgreSQL
        evaluates it again on the row as it is then.
        """
        plan, identity = self.plan, self.undone.identity
        here = self.target.c[identity] == plan.c[f"old_{identity}"]
        removed = (
            self.target.delete()
            .where(here, span.covers(plan.c.position), ~self._touched(plan, "old"))
            .where(~self._depended_on())
            .returning(plan.c.position)
            .cte("removed")
        )
        before = self.target.alias("before")
        there = sa.exists().where(before.c[identity] == plan.c[f"old_{identity}"])
        stayed = sa.select(
            sa.literal(self.run_id),
            plan.c.position,
            sa.case((there, "conflict"), else_="skipped"),
        ).where(
            span.covers(plan.c.position),
            ~sa.exists().where(removed.c.position == plan.c.position),
        )
        names = ["run_id", "position", "outcome"]
        recorded = ledger.exception.insert().from_select(names, stayed).cte("recorded")
        counted = sa.select(sa.func.count()).select_from(removed).add_cte(recorded)
        earlier = Reading.take(connection)
        written = connection.execute(counted).scalar_one()
        self._demand_dependents_spared(connection, earlier)
        return Written(written, {self.target.name: (0, 0, written)})

    def counted(self, connection: sa.Connection) -> Counts:
        """One row deleted for each that was removed."""
        return 0, 0, count(connection, ledger.applied_rows(self.run_id, self.plan))

    def not_undone(self, connection: sa.Connection) -> int:
        """Counts rows that were removed and are in the table all the same."""
        removed = ledger.applied_rows(self.run_id, self.plan).subquery("removed")
        identity = self.undone.identity
        same = self.target.c[identity] == removed.c[f"old_{identity}"]
        found = sa.select(sa.func.count()).select_from(removed.join(self.target, same))
        return connection.execute(found).scalar_one()

    def left_alone(self, connection: sa.Connection, limit: int) -> list[tuple[str, str]]:
        """The first rows that stayed, as (id, reason)."""
        plan, exception = self.plan, ledger.exception
        joined = plan.outerjoin(
            exception,
            (exception.c.run_id == self.run_id) & (exception.c.position == plan.c.position),
        )
        outcome = sa.case(
            (exception.c.outcome == "conflict", "touched"),
            (exception.c.outcome == "skipped", "gone"),
            else_=exception.c.outcome,
        )
        reason = sa.func.coalesce(plan.c.reason, outcome)
        key = sa.cast(plan.c[f"old_{self.undone.identity}"], sa.Text)
        rows = sa.select(key, reason).select_from(joined).where(reason.is_not(None))
        return [(row[0], row[1]) for row in connection.execute(rows.order_by(key).limit(limit))]

    def named(self, positions: Sequence[int]) -> Iterator[sa.Select[Any]]:
        """`position` and the key."""
        names = self.undone.change.key
        key = [self.plan.c[f"old_{name}"].label(name) for name in names]
        rows = sa.select(self.plan.c.position, *key).order_by(self.plan.c.position)
        yield rows.where(self.plan.c.position.in_(positions))

    def _touched(self, planned: sa.FromClause, prefix: str) -> sa.ColumnElement[bool]:
        differences = [
            self.target.c[name].is_distinct_from(planned.c[f"{prefix}_{name}"])
            for name in self.undone.touchable()
        ]
        return sa.or_(sa.false(), *differences)

    def _demand_dependents_spared(self, connection: sa.Connection, earlier: Reading) -> None:
        """Raises `ProofFailed` where rows that depend on removed ones went with them.

        One that was committed while the removal waited for its row is not seen by its condition,
        but is by the foreign key's cascade; no allowed trigger excuses that.
        """
        dependents = {
            f"{reference.child_schema}.{reference.child}"
            for reference in self.references
            if reference.child != self.target.name
        }
        changes = Reading.take(connection).since(earlier)
        lost = {
            table: counts
            for table, counts in changes.items()
            if table in dependents and any(counts[1:])
        }
        if lost:
            raise ProofFailed(f"Rows that depend on removed ones went with them: {spell(lost)}.")

    def _depended_on(self) -> sa.ColumnElement[bool]:
        dependents: list[sa.ColumnElement[bool]] = []
        for reference in self.references:
            child = sa.table(
                reference.child,
                *(sa.column(name) for name in reference.child_columns),
                schema=reference.child_schema,
            ).alias()
            pairs = zip(reference.child_columns, reference.parent_columns, strict=True)
            same = [child.c[mine] == self.target.c[theirs] for mine, theirs in pairs]
            dependents.append(sa.exists().where(*same))
        return sa.or_(sa.false(), *dependents)
