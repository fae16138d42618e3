"""Unit undo: takes units back, each wholly or not at all, where nobody has touched them since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger, plans
from maintenance_pipelines.engine.catalog import TableShape
from maintenance_pipelines.engine.changes import Written
from maintenance_pipelines.engine.database import count
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.plans import Piece, Plan, Span
from maintenance_pipelines.engine.proof import Counts
from maintenance_pipelines.engine.unit_statements import (
    fill_in_turn,
    holds,
    keys_at,
    lock,
    perform,
)
from maintenance_pipelines.engine.units import Work
from maintenance_pipelines.engine.writes import GONE, InsertRows

if TYPE_CHECKING:
    from maintenance_pipelines.engine.unit_change import PartChange, UnitChange


@dataclass(frozen=True)
class PartUndo:
    """The rollback of one part: `undoes` in its plan is a unit's position in the run undone."""

    undone: PartChange
    run_id: str
    shapes: Mapping[str, TableShape]

    @cached_property
    def plan(self) -> Plan:
        """The part's own plan table."""
        key = self.undone.part.key
        columns = {"undoes": sa.BigInteger(), key: self.undone.facts[key]}
        return plans.fact_table(f"plan_{self.run_id}_{self.undone.part.name}", columns)

    def fill(self, connection: sa.Connection, after: int) -> dict[str | None, int]:
        """Plans the way back of every applied unit; counts them by reason.

        Under None are those that are taken back, at positions beyond `after`; the others are
        listed at negative positions, with the reason why they stay.
        """
        key = self.undone.part.key
        applied = self.undone.applied().subquery("applied")
        judged = self._judged(applied).subquery("judged")
        free = judged.c.stays.is_(None)
        number = sa.func.row_number().over(partition_by=free, order_by=judged.c.position)
        rows = sa.select(
            sa.case((free, number + after), else_=-number),
            judged.c.stays,
            judged.c.position,
            judged.c[key],
        )
        plans.create_facts(
            connection,
            str(self.plan.name),
            sa.select(judged.c.position.label("undoes"), judged.c[key]),
        )
        names = ["position", "reason", "undoes", key]
        connection.execute(self.plan.insert().from_select(names, rows))
        counts = sa.select(self.plan.c.reason, sa.func.count()).group_by(self.plan.c.reason)
        return {row[0]: row[1] for row in connection.execute(counts)}

    def piece(self, connection: sa.Connection) -> Piece:
        """Its plan table and how many of its positions are to be applied."""
        position = self.plan.c.position
        found = sa.select(sa.func.coalesce(sa.func.min(position), 1), sa.func.count())
        first, rows = connection.execute(found.where(position > 0)).one()
        return Piece(self.plan, first, rows)

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Locks the span's units, then takes back those that are still untouched."""
        part = self.undone.part
        own = [each for each in part.locks if each.by is None]
        lock(connection, own, self.plan, part.key, span)
        asked = (
            sa.select(self.plan.c.position.label("asked"), self.plan.c.undoes)
            .where(span.covers(self.plan.c.position))
            .cte("_asked")
        )
        applied = self.undone.applied().subquery("applied")
        found = (
            sa.select(applied, asked.c.asked)
            .select_from(applied.join(asked, asked.c.undoes == applied.c.position))
            .cte("_found")
        )
        judged = self._judged(found).cte("_judged")
        units = sa.select(judged).where(judged.c.stays.is_(None)).cte("_units")
        work = self.undone.work(units)
        effects = [
            write.backward(work, f"{i}", self.shapes[write.table.name])
            for i, write in enumerate(part.writes)
        ]
        left = sa.select(
            sa.literal(self.run_id),
            judged.c.asked,
            sa.case((judged.c.stays == GONE, "skipped"), else_="conflict"),
        ).where(judged.c.stays.is_not(None))
        names = ["run_id", "position", "outcome"]
        recorded = ledger.exception.insert().from_select(names, left).cte("_recorded")
        return perform(connection, units, effects, [recorded])

    def taken_back(self) -> Work:
        """The units that were taken back, by what was written for them."""
        done = ledger.applied_rows(self.run_id, self.plan).subquery("done")
        applied = self.undone.applied().subquery("applied")
        units = sa.select(applied).join(done, done.c.undoes == applied.c.position)
        return self.undone.work(units.subquery("units"))

    def _judged(self, units: sa.FromClause) -> sa.Select[Any]:
        """The units and, as `stays`, why one cannot be taken back."""
        blocked = self._blocked(units).subquery("blocked")
        # Full, for the reason that the change's own look has.
        both = units.outerjoin(blocked, blocked.c.position == units.c.position, full=True)
        return sa.select(units, blocked.c.reason.label("stays")).select_from(both)

    def _blocked(self, units: sa.FromClause) -> sa.Select[Any]:
        """By position, why a unit cannot be taken back; the others are absent."""
        work = self.undone.work(units)
        found = [
            rows
            for write in self.undone.part.writes
            if (rows := write.obstacles(work, self.shapes[write.table.name])) is not None
        ]
        if self.undone.part.stays is not None:
            found.append(self.undone.part.stays(work))
        if not found:
            nothing = sa.select(units.c.position, sa.literal("").label("reason"))
            return nothing.where(sa.false())
        every = sa.union_all(*found).subquery("every")
        # Touched says more than gone, where both are true of one unit.
        reason = sa.func.max(every.c.reason).label("reason")
        return sa.select(every.c.position, reason).group_by(every.c.position)


@dataclass(frozen=True)
class UnitUndo:
    """The rollback of one run of units, a run of its own."""

    undone: UnitChange
    run_id: str
    shapes: Mapping[str, TableShape]

    kind = "units back"
    settle_s = 0.0

    @property
    def job(self) -> Job:
        """The job whose run is taken back."""
        return self.undone.job

    @property
    def scope(self) -> Scope:
        """The scope of the run that is taken back."""
        return self.undone.scope

    @cached_property
    def parts(self) -> tuple[PartUndo, ...]:
        """The rollback of each part, the last one first."""
        return tuple(PartUndo(each, self.run_id, self.shapes) for each in self.undone.parts[::-1])

    def fill(self, connection: sa.Connection) -> dict[str | None, int]:
        """Plans every part; see `PartUndo.fill`."""
        return fill_in_turn(connection, [each.fill for each in self.parts])

    def pieces(self, connection: sa.Connection, planned: int) -> tuple[Piece, ...]:
        """Each part's plan table."""
        return tuple(each.piece(connection) for each in self.parts)

    def write(self, connection: sa.Connection, span: Span) -> Written:
        """Takes back the units of a span, all of which are of one part."""
        mine = next(each for each in self.parts if holds(connection, each.plan, span))
        return mine.write(connection, span)

    def counted(self, connection: sa.Connection) -> Counts:
        """What taking back every write of the units comes to."""
        totals = {"INSERT": 0, "UPDATE": 0, "DELETE": 0}
        for each in self.parts:
            work = each.taken_back()
            for write in each.undone.part.writes:
                if write.table.schema == ledger.SCHEMA:
                    continue
                reversal = write.reversal if isinstance(write, InsertRows) else None
                totals[write.undo_right] += count(connection, (reversal or write.rows)(work))
        return totals["INSERT"], totals["UPDATE"], totals["DELETE"]

    def not_undone(self, connection: sa.Connection) -> int:
        """Counts inserted rows that were taken back and are there all the same."""
        total = 0
        for each in self.parts:
            work = each.taken_back()
            for write in each.undone.part.writes:
                if isinstance(write, InsertRows) and write.reversal is None:
                    rows = write.rows(work).subquery()
                    key = [c.name for c in write.table.primary_key]
                    here = sa.and_(*(write.table.c[n] == rows.c[f"new_{n}"] for n in key))
                    there = sa.select(rows.c.position).select_from(rows.join(write.table, here))
                    total += count(connection, there)
        return total

    def left_alone(self, connection: sa.Connection, limit: int) -> list[tuple[str, str]]:
        """The first units that stayed, as (id, reason)."""
        found: list[tuple[str, str]] = []
        for each in self.parts:
            plan, exception = each.plan, ledger.exception
            joined = plan.outerjoin(
                exception,
                (exception.c.run_id == self.run_id) & (exception.c.position == plan.c.position),
            )
            outcome = sa.case(
                (exception.c.outcome == "conflict", "touched"),
                (exception.c.outcome == "skipped", GONE),
                else_=exception.c.outcome,
            )
            reason = sa.func.coalesce(plan.c.reason, outcome)
            key = sa.cast(plan.c[each.undone.part.key], sa.Text)
            rows = sa.select(key, reason).select_from(joined).where(reason.is_not(None))
            for row in connection.execute(rows.order_by(key).limit(limit - len(found))):
                found.append((row[0], row[1]))
        return found

    def named(self, positions: Sequence[int]) -> Iterator[sa.Select[Any]]:
        """`position` and the key, part by part."""
        for each in self.parts:
            yield keys_at(each.plan, each.undone.part.key, positions)
