"""Unit change: the statements that plan a change of units, write it and look at it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, plans
from maintenance_pipelines.engine.catalog import TableShape, read_shapes
from maintenance_pipelines.engine.changes import Busy, Written
from maintenance_pipelines.engine.database import Database, count
from maintenance_pipelines.engine.job import PLACE, REASON, Job, Rule, Scope, Summary
from maintenance_pipelines.engine.plans import Piece, Plan, Span
from maintenance_pipelines.engine.proof import Counts
from maintenance_pipelines.engine.unit_statements import (
    fill_in_turn,
    holds,
    keys_at,
    lock,
    perform,
)
from maintenance_pipelines.engine.unit_undo import UnitUndo
from maintenance_pipelines.engine.units import Part, Units, Work
from maintenance_pipelines.engine.writes import comparable


@dataclass(frozen=True)
class PartChange:
    """One part of a run's change."""

    part: Part
    scope: Scope
    run_id: str
    by_person: bool
    empty: bool

    @cached_property
    def facts(self) -> dict[str, sa.types.TypeEngine[Any]]:
        """The facts of a unit, the key among them, by their names."""
        selected = self.part.due(self.scope, None).selected_columns
        return {c.name: c.type for c in selected if c.name not in (REASON, PLACE)}

    @cached_property
    def plan(self) -> Plan:
        """The part's plan table."""
        return plans.fact_table(f"plan_{self.run_id}_{self.part.name}", self.facts)

    @cached_property
    def images(self) -> Plan:
        """The facts by which units were written that had changed since the plan."""
        return plans.fact_table(f"image_{self.run_id}_{self.part.name}", self.facts)

    def fill(self, connection: sa.Connection, after: int) -> dict[str | None, int]:
        """Creates and fills the plan table from positions beyond `after`; counts by reason."""
        facts = self.part.due(self.scope, None).subquery("facts")
        shape = sa.select(*(facts.c[name] for name in self.facts))
        plans.create_facts(connection, str(self.plan.name), shape)
        if self.part.recomputed:
            plans.create_facts(connection, str(self.images.name), shape)
        candidate = self.part.due(self.scope, None).cte("_candidate")
        order = candidate.c[PLACE if PLACE in candidate.c else self.part.key]
        position = sa.func.row_number().over(order_by=order) + after
        rows = sa.select(position, *(candidate.c[name] for name in self.facts))
        due = rows.where(candidate.c[REASON].is_(None))
        planned = self.plan.insert().from_select(["position", *self.facts], due).cte("_planned")
        counts = sa.select(candidate.c[REASON], sa.func.count()).group_by(candidate.c[REASON])
        return {row[0]: row[1] for row in connection.execute(counts.add_cte(planned))}

    def piece(self, connection: sa.Connection) -> Piece:
        """Its plan table and how many positions it has."""
        found = sa.select(sa.func.coalesce(sa.func.min(self.plan.c.position), 1), sa.func.count())
        first, rows = connection.execute(found.select_from(self.plan)).one()
        return Piece(self.plan, first, rows)

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Locks the span's units, then writes those that are still due, in one statement."""
        lock(connection, self.part.locks, self.plan, self.part.key, span)
        self._demand_idle(connection, span)
        now = self._now(span)
        due = now.c.is_due & (sa.true() if self.part.recomputed else ~now.c.altered)
        known = (c for c in now.c if c.name not in ("is_due", REASON))
        units = sa.select(*known).where(due).cte("_units")
        work = self.work(units)
        effects = [w.forward(work, f"{i}") for i, w in enumerate(self.part.writes)]
        left = sa.select(
            sa.literal(self.run_id),
            now.c.position,
            sa.case((now.c[REASON].in_(self.part.done), "skipped"), else_="conflict"),
        ).where(~due)
        names = ["run_id", "position", "outcome"]
        recorded = [ledger.exception.insert().from_select(names, left).cte("_recorded")]
        if self.part.recomputed:
            kept = sa.select(units.c.position, *(units.c[name] for name in self.facts))
            images = self.images.insert().from_select(
                ["position", *self.facts], kept.where(units.c.altered)
            )
            recorded.append(images.cte("_kept"))
        return perform(connection, units, effects, recorded)

    def work(self, units: sa.FromClause) -> Work:
        """What the part's writes are derived from."""
        return Work(self.scope, self.run_id, units, self.by_person)

    def applied(self) -> sa.Select[Any]:
        """`position` and facts of the applied units, as they were when they were written."""
        if self.empty:
            nothing = [sa.cast(sa.null(), type_).label(name) for name, type_ in self.facts.items()]
            position = sa.cast(sa.null(), sa.BigInteger).label("position")
            return sa.select(position, *nothing).where(sa.false())
        planned = ledger.applied_rows(self.run_id, self.plan).subquery("planned")
        columns = ["position", *self.facts]
        rows = sa.select(*(planned.c[name] for name in columns))
        if not self.part.recomputed:
            return rows
        images = self.images
        as_planned = ~sa.exists().where(images.c.position == planned.c.position)
        altered = sa.select(*(images.c[name] for name in columns))
        both = sa.union_all(rows.where(as_planned), altered).subquery("both")
        return sa.select(*(both.c[name] for name in columns))

    def due_now(self, connection: sa.Connection) -> int:
        """Counts the units that detection finds now."""
        return _count_due(connection, self.part.due(self.scope, None))

    def failed_and_due(self, connection: sa.Connection) -> int:
        """Counts the units that failed and are still due."""
        key, exception = self.part.key, ledger.exception
        failed = (
            sa.select(self.plan.c[key])
            .join_from(self.plan, exception, exception.c.position == self.plan.c.position)
            .where(exception.c.run_id == self.run_id, exception.c.outcome == "failed")
            .subquery("failed")
        )
        return _count_due(connection, self.part.due(self.scope, failed))

    def _now(self, span: Span) -> sa.CTE:
        """The span's units beside what their facts are now."""
        key, position = self.part.key, self.plan.c.position
        # With the facts a job can look again at just what may have changed, where that is clear.
        known = (self.plan.c[name] for name in self.facts)
        among = sa.select(*known).where(span.covers(position)).subquery("among")
        now = self.part.due(self.scope, among).cte("_now")
        plan = sa.select(self.plan).where(span.covers(position)).subquery("planned")
        differences = [
            comparable(now.c[name]).is_distinct_from(comparable(plan.c[name]))
            for name in self.facts
        ]
        found = now.c[key].is_not(None)
        return (
            sa.select(
                plan.c.position,
                (found & now.c[REASON].is_(None)).label("is_due"),
                sa.or_(sa.false(), *differences).label("altered"),
                *now.c,
            )
            # Full, although each unit now is one of the plan: the statistics may expect none of
            # them, and a left join would then be a loop within a loop.
            .select_from(plan.outerjoin(now, now.c[key] == plan.c[key], full=True))
            .cte("_seen")
        )

    def _demand_idle(self, connection: sa.Connection, span: Span) -> None:
        if self.part.busy is None:
            return
        plan, key = self.plan, self.part.key
        among = sa.select(plan.c[key]).where(span.covers(plan.c.position)).subquery("among")
        busy = self.part.busy(self.scope, among).subquery("busy")
        positions = sa.select(plan.c.position).where(
            span.covers(plan.c.position), plan.c[key].in_(sa.select(busy.c[key]))
        )
        if found := connection.scalars(positions.order_by(plan.c.position)).all():
            raise Busy(found)


@dataclass(frozen=True)
class UnitChange:
    """One run's change of units, part by part. An `empty` plan has no tables."""

    job: Job
    scope: Scope
    run_id: str
    by_person: bool
    empty: bool = False

    kind = "units"

    @cached_property
    def parts(self) -> tuple[PartChange, ...]:
        """The change of each part."""
        assert isinstance(self.job.change, Units)
        return tuple(
            PartChange(part, self.scope, self.run_id, self.by_person, self.empty)
            for part in self.job.change.parts
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The facts of every part, as `part.fact`."""
        return tuple(f"{each.part.name}.{name}" for each in self.parts for name in each.facts)

    @property
    def settle_s(self) -> float:
        """The longest time that any part lets the app settle."""
        return max(each.part.settle_s(self.scope) for each in self.parts)

    def fill(
        self, connection: sa.Connection, shapes: Mapping[str, TableShape]
    ) -> dict[str | None, int]:
        """Creates and fills each part's table."""
        return fill_in_turn(connection, [each.fill for each in self.parts])

    def pieces(self, connection: sa.Connection, planned: int) -> tuple[Piece, ...]:
        """Each part's plan table."""
        return () if self.empty else tuple(each.piece(connection) for each in self.parts)

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Writes the units of a span, all of which are of one part."""
        return self._part_at(connection, span).write(connection, span)

    def counted(self, connection: sa.Connection) -> Counts:
        """What every write of the applied units comes to."""
        totals = {"INSERT": 0, "UPDATE": 0, "DELETE": 0}
        for each in self.parts:
            work = each.work(each.applied().subquery("units"))
            for write in each.part.writes:
                if write.table.schema == ledger.SCHEMA:
                    continue
                totals[write.right] += count(connection, write.rows(work))
        return totals["INSERT"], totals["UPDATE"], totals["DELETE"]

    def applied_by_part(self, connection: sa.Connection) -> dict[str, int]:
        """How many units of each part were applied."""
        return {each.part.name: count(connection, each.applied()) for each in self.parts}

    def due_now(self, connection: sa.Connection) -> int:
        """Counts the units that detection finds now."""
        return sum(each.due_now(connection) for each in self.parts)

    def failed_and_due(self, connection: sa.Connection) -> int:
        """Counts the units that failed and are still due."""
        return sum(each.failed_and_due(connection) for each in self.parts)

    def touched(self, connection: sa.Connection) -> int:
        """Counts the applied units of which a row is no longer as it was written."""
        total = 0
        for each in self.parts:
            work = each.work(each.applied().subquery("units"))
            found = [
                rows for write in each.part.writes if (rows := write.changes(work)) is not None
            ]
            if found:
                every = sa.union_all(*found).subquery("every")
                total += count(connection, sa.select(every.c.position).distinct())
        return total

    def rules(self) -> Iterator[tuple[Rule, sa.FromClause]]:
        """The rules of each part with its applied units; the job's own with those of the first."""
        for each in self.parts:
            for rule in each.part.rules:
                yield rule, each.applied().subquery("applied")
        for rule in self.job.rules:
            yield rule, self.parts[0].applied().subquery("applied")

    def summaries(self) -> Iterator[tuple[Summary, sa.FromClause]]:
        """The summaries of each part, with its plan; the job's own with that of the first."""
        for each in self.parts:
            for summary in each.part.summaries:
                yield summary, each.plan
        for summary in self.job.summaries:
            yield summary, self.parts[0].plan

    def samples(self) -> Iterator[tuple[str, sa.Select[Any]]]:
        """The units of each part by their facts."""
        for each in self.parts:
            columns = [each.plan.c[name] for name in each.facts]
            yield each.part.says, sa.select(*columns).order_by(each.plan.c.position)

    def named(self, positions: Sequence[int]) -> Iterator[sa.Select[Any]]:
        """`position` and the key, part by part."""
        for each in self.parts:
            yield keys_at(each.plan, each.part.key, positions)

    def undo(self, connection: sa.Connection, run_id: str, database: Database) -> UnitUndo:
        """The rollback, unit by unit."""
        return UnitUndo(self, run_id, self._shapes(connection, database.schema))

    def _shapes(self, connection: sa.Connection, schema: str) -> dict[str, TableShape]:
        tables = {write.table for each in self.parts for write in each.part.writes}
        own = {table.name for table in tables if table.schema == ledger.SCHEMA}
        theirs = {table.name for table in tables} - own
        shapes = read_shapes(connection, schema, theirs)
        return shapes | read_shapes(connection, ledger.SCHEMA, own)

    def _part_at(self, connection: sa.Connection, span: Span) -> PartChange:
        return next(each for each in self.parts if holds(connection, each.plan, span))


def _count_due(connection: sa.Connection, due: sa.Select[Any]) -> int:
    found = due.subquery("due")
    return count(connection, sa.select(found).where(found.c[REASON].is_(None)))
