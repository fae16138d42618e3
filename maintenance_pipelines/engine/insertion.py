"""Insert missing: the statements that plan it, write it and look at it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from maintenance_pipelines.engine import ledger, plans
from maintenance_pipelines.engine.catalog import TableShape, read_references
from maintenance_pipelines.engine.changes import Written
from maintenance_pipelines.engine.database import Database, count
from maintenance_pipelines.engine.job import REASON, Insert, Job, Rule, Scope, Summary
from maintenance_pipelines.engine.plans import Piece, Span
from maintenance_pipelines.engine.proof import Counts
from maintenance_pipelines.engine.removal import Removal


@dataclass(frozen=True)
class Comparison:
    """Applied rows beside what is there now.

    Rows gone, rows that are not as planned, rows that somebody has touched, and keys that have
    another row beside the applied one.
    """

    gone: int
    wrong: int
    touched: int
    duplicates: int


@dataclass(frozen=True)
class Insertion:
    """One run's insertion of missing rows."""

    job: Job
    scope: Scope
    run_id: str
    columns: tuple[str, ...]

    kind = "insert"
    prefix = "new"
    settle_s = 0.0

    @property
    def change(self) -> Insert:
        """The job's declaration."""
        assert isinstance(self.job.change, Insert)
        return self.job.change

    @cached_property
    def plan(self) -> plans.Plan:
        """The run's plan table."""
        return plans.plan_table(self.run_id, self.prefix, self.change.into, self.columns)

    @property
    def target(self) -> sa.Table:
        """The app's table that is written."""
        return self.change.into

    def fill(
        self, connection: sa.Connection, shapes: Mapping[str, TableShape]
    ) -> dict[str | None, int]:
        """Writes the plan's rows and counts candidates by reason, in one statement.

        The count under None is that of the planned rows, numbered in the order of the key: a
        table written in the order of its index is written fastest.
        """
        plans.create(connection, self.run_id, self.prefix, self.target, self.columns)
        shape = shapes[self.target.name]
        defaults = left_to_the_database(self.change, self.scope, list(self.columns), shape)
        candidate = self.change.candidates(self.scope, None).cte("candidate")
        order = [candidate.c[name] for name in self.change.key]
        numbered = (
            sa.select(sa.func.row_number().over(order_by=order).label("position"), candidate)
            .where(candidate.c[REASON].is_(None))
            .subquery("numbered")
        )
        values = self._values(numbered, defaults)
        rows = sa.select(numbered.c.position, *(values[name] for name in self.columns))
        names = ["position", *(f"new_{name}" for name in self.columns)]
        planned = self.plan.insert().from_select(names, rows).cte("planned")
        counts = sa.select(candidate.c[REASON], sa.func.count()).group_by(candidate.c[REASON])
        return {row[0]: row[1] for row in connection.execute(counts.add_cte(planned))}

    def pieces(self, connection: sa.Connection, planned: int) -> tuple[Piece, ...]:
        """The plan table, all of it."""
        return (Piece(self.plan, 1, planned),)

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Inserts the span's rows that are still due, and records the others as exceptions.

        The reason is evaluated again in the inserting statement itself; a key that appears
        meanwhile is settled by the unique index.
        """
        plan, into = self.plan, self.change.into
        among = (
            sa.select(*(plan.c[f"new_{name}"].label(name) for name in self.change.key))
            .where(span.covers(plan.c.position))
            .subquery("among")
        )
        due = self.change.candidates(self.scope, among).subquery("due")
        same_key = sa.and_(
            *(plan.c[f"new_{name}"] == due.c[name] for name in self.change.key),
        )
        rows = (
            sa.select(*(plan.c[f"new_{name}"] for name in self.columns))
            .select_from(plan.join(due, same_key))
            .where(span.covers(plan.c.position), due.c[REASON].is_(None))
            .order_by(plan.c.position)
        )
        statement = (
            postgresql.insert(into)
            .from_select(list(self.columns), rows, include_defaults=False)
            .on_conflict_do_nothing(index_elements=[into.c[name] for name in self.change.key])
            .execution_options(preserve_rowcount=True)
        )
        written = connection.execute(statement).rowcount
        if written < span.rows:
            self._record_unwritten(connection, span)
        return Written(written, {into.name: (written, 0, 0)})

    def applied(self) -> sa.Subquery:
        """The plan's rows that the run has written."""
        return ledger.applied_rows(self.run_id, self.plan).subquery("applied")

    def compare(self, connection: sa.Connection, applied_rows: int) -> Comparison:
        """Looks for every applied row, by its key, and at what it holds now.

        One pass over the table; only where rows are missing or strangers have turned up under
        their keys does a second one tell what happened.
        """
        applied, into = self.applied(), self.change.into
        ours = into.c[self.identity] == applied.c[f"new_{self.identity}"]
        wrong = sa.or_(*self._differences(applied, self._as_specified()), sa.false())
        touched = sa.or_(*self._differences(applied, self.touchable()), sa.false())
        counts = sa.select(
            sa.func.count().filter(ours).label("found"),
            sa.func.count().filter(~ours).label("strangers"),
            sa.func.count().filter(ours & wrong).label("wrong"),
            sa.func.count().filter(ours & ~wrong & touched).label("touched"),
        ).select_from(applied.join(into, self._same_key(applied)))
        row = connection.execute(counts).one()
        absent = applied_rows - row.found
        moved = self._moved(connection) if absent else 0
        duplicates = self._duplicates(connection) if row.strangers else 0
        return Comparison(absent - moved, row.wrong + moved, row.touched, duplicates)

    def due_now(self, connection: sa.Connection) -> int:
        """Runs detection again and counts the rows that are due."""
        due = self.change.candidates(self.scope, None).subquery("due")
        return count(connection, sa.select(due).where(due.c[REASON].is_(None)))

    def failed_and_due(self, connection: sa.Connection) -> int:
        """Counts the rows that failed and are still due."""
        plan, exception = self.plan, ledger.exception
        failed = (
            sa.select(*(plan.c[f"new_{name}"].label(name) for name in self.change.key))
            .join_from(plan, exception, exception.c.position == plan.c.position)
            .where(exception.c.run_id == self.run_id, exception.c.outcome == "failed")
            .subquery("failed")
        )
        due = self.change.candidates(self.scope, failed).subquery("due")
        return count(connection, sa.select(due).where(due.c[REASON].is_(None)))

    def counted(self, connection: sa.Connection) -> Counts:
        """One row inserted for each that was applied."""
        return count(connection, ledger.applied_rows(self.run_id, self.plan)), 0, 0

    def rules(self) -> Iterator[tuple[Rule, sa.FromClause]]:
        """The job's rules, all of them about the applied rows."""
        for rule in self.job.rules:
            yield rule, self.applied()

    def summaries(self) -> Iterator[tuple[Summary, sa.FromClause]]:
        """The job's summaries of its plan."""
        for summary in self.job.summaries:
            yield summary, self.plan

    def samples(self) -> Iterator[tuple[str, sa.Select[Any]]]:
        """The rows, column by column."""
        columns = [self.plan.c[f"new_{name}"].label(name) for name in self.columns]
        yield "rows", sa.select(*columns).order_by(self.plan.c.position)

    def named(self, positions: Sequence[int]) -> Iterator[sa.Select[Any]]:
        """`position` and the key."""
        key = [self.plan.c[f"new_{name}"].label(name) for name in self.change.key]
        rows = sa.select(self.plan.c.position, *key).order_by(self.plan.c.position)
        yield rows.where(self.plan.c.position.in_(positions))

    def undo(self, connection: sa.Connection, run_id: str, database: Database) -> Removal:
        """The rollback: the removal of what was inserted."""
        references = read_references(connection, database.schema, self.target.name)
        return Removal(self, run_id, tuple(references))

    @property
    def identity(self) -> str:
        """The target's primary key column."""
        return next(iter(self.change.into.primary_key)).name

    def touchable(self) -> list[str]:
        """The columns, among those planned, that mean that somebody has acted on a row."""
        return [name for name in self.columns if name in self.change.touched]

    def _same_key(self, applied: sa.FromClause) -> sa.ColumnElement[bool]:
        into = self.change.into
        return sa.and_(*(into.c[name] == applied.c[f"new_{name}"] for name in self.change.key))

    def _moved(self, connection: sa.Connection) -> int:
        """Applied rows that are there under another key than planned."""
        applied, into = self.applied(), self.change.into
        ours = into.c[self.identity] == applied.c[f"new_{self.identity}"]
        moved = applied.join(into, sa.and_(ours, ~self._same_key(applied)))
        return connection.execute(sa.select(sa.func.count()).select_from(moved)).scalar_one()

    def _duplicates(self, connection: sa.Connection) -> int:
        """Rows that stand beside an applied row under the very same key."""
        applied, into, ours = self.applied(), self.change.into, self.change.into.alias("ours")
        mine = applied.c[f"new_{self.identity}"]
        beside = sa.and_(self._same_key(applied), into.c[self.identity] != mine)
        there = sa.exists().where(ours.c[self.identity] == mine)
        statement = sa.select(sa.func.count()).select_from(applied.join(into, beside))
        return connection.execute(statement.where(there)).scalar_one()

    def _as_specified(self) -> list[str]:
        free = {*self.change.touched, *self.change.bookkeeping, *self.change.key}
        return [name for name in self.columns if name not in free]

    def _differences(
        self, applied: sa.FromClause, names: list[str]
    ) -> list[sa.ColumnElement[bool]]:
        into = self.change.into
        return [into.c[name].is_distinct_from(applied.c[f"new_{name}"]) for name in names]

    def _values(
        self, numbered: sa.FromClause, defaults: Mapping[str, str | None]
    ) -> dict[str, sa.ColumnElement[Any]]:
        into = self.change.into
        values: dict[str, sa.ColumnElement[Any]] = {
            self.identity: self.change.identifier(self.scope, numbered.c.position)
        }
        for name, expression in defaults.items():
            values[name] = sa.literal_column(expression or "NULL")
        for name, value in self.change.constants(self.scope).items():
            values[name] = sa.cast(sa.literal(value, into.c[name].type), into.c[name].type)
        values |= {
            column.name: column for column in numbered.c if column.name not in ("position", REASON)
        }
        return values

    def _record_unwritten(self, connection: sa.Connection, span: Span) -> None:
        plan, into, mine = self.plan, self.change.into, self.change.into.alias("mine")
        there = sa.exists().where(
            *(into.c[name] == plan.c[f"new_{name}"] for name in self.change.key)
        )
        written = sa.exists().where(mine.c[self.identity] == plan.c[f"new_{self.identity}"])
        unwritten = sa.select(
            sa.literal(self.run_id),
            plan.c.position,
            sa.case((there, "skipped"), else_="conflict"),
        ).where(span.covers(plan.c.position), ~written)
        names = ["run_id", "position", "outcome"]
        connection.execute(ledger.exception.insert().from_select(names, unwritten))


def columns_written(change: Insert, job_scope: Scope, target: TableShape) -> list[str]:
    """The columns that a plan of this job holds, in the target's order, as far as they exist."""
    selected = {c.name for c in change.candidates(job_scope, None).selected_columns} - {REASON}
    given = selected | set(change.constants(job_scope)) | set(change.touched)
    given |= {column.name for column in change.into.primary_key}
    return [name for name in target.columns if name in given]


def left_to_the_database(
    change: Insert, job_scope: Scope, columns: list[str], target: TableShape
) -> dict[str, str | None]:
    """Columns of the plan that the job gives no value for, with the database's own default.

    They are planned so that what somebody does to them later can be told from the default.
    """
    selected = {c.name for c in change.candidates(job_scope, None).selected_columns}
    given = selected | set(change.constants(job_scope))
    given |= {column.name for column in change.into.primary_key}
    return {name: target.columns[name].default for name in columns if name not in given}
