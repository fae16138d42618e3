"""Writes: inserted, updated and deleted rows of a unit, and how each of them is taken back.

Every write is a pure function of its units' facts. Each statement here is a part of one larger
statement that writes a batch, so all of them see the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.compiler import IdentifierPreparer
from sqlalchemy.sql.selectable import NamedFromClause

from maintenance_pipelines.engine.catalog import TableShape
from maintenance_pipelines.engine.job import PLACE
from maintenance_pipelines.engine.proof import Counts
from maintenance_pipelines.engine.units import Rows, Work

Element = sa.ColumnElement[Any]
Additive = Callable[[Element, Element, Element], Element]
"""The value after undoing a change that others may have added to: of (current, before, after)."""

GONE, TOUCHED, TAKEN, ORPHANED = "gone", "touched", "taken", "parent_gone"


@dataclass(frozen=True)
class Effect:
    """A write within a batch: the rows it is about, and those that were written as intended.

    `counts` are what the database should count for each row.
    """

    table: sa.Table
    rows: sa.CTE
    written: sa.CTE
    counts: Counts


@dataclass(frozen=True)
class InsertRows:
    """New rows. `rows` selects `new_<column>` for each column given, the primary key included.

    `stamps` are columns set at the moment of writing, which are not planned and never compared;
    `kept` columns may change without meaning anything. Taken back by deleting the row where
    nobody has changed it since; or, where there is a `reversal`, by inserting the rows that it
    selects for the units, beside the old ones.
    """

    table: sa.Table
    rows: Rows
    stamps: Mapping[str, Element] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    reversal: Rows | None = None

    right = "INSERT"

    @property
    def undo_right(self) -> str:
        """The privilege that taking it back needs."""
        return "INSERT" if self.reversal else "DELETE"

    def columns(self, work: Work) -> list[str]:
        """The columns that are written."""
        return [*_named(self.rows(work), "new_"), *self.stamps]

    def forward(self, work: Work, name: str) -> Effect:
        """Inserts the rows."""
        return self._insert(self.rows(work), name)

    def backward(self, work: Work, name: str, shape: TableShape) -> Effect:
        """Deletes the rows, or inserts the reversing ones."""
        if self.reversal is not None:
            return self._insert(self.reversal(work), name)
        rows = self.rows(work).cte(f"rows_{name}")
        touchable = [n for n in _named(rows, "new_") if n not in self.kept]
        same = [_same(self.table.c[n], rows.c[f"new_{n}"]) for n in touchable]
        here = [self.table.c[n] == rows.c[f"new_{n}"] for n in _key(self.table)]
        gone = self.table.delete().where(*here, *same).returning(rows.c.position)
        return Effect(self.table, rows, gone.cte(f"written_{name}"), (0, 0, 1))

    def obstacles(self, work: Work, shape: TableShape) -> sa.Select[Any] | None:
        """What stands in the way of taking it back: the same changes."""
        return self.changes(work)

    def changes(self, work: Work) -> sa.Select[Any] | None:
        """Positions of units whose inserted rows are gone or were touched."""
        if self.reversal is not None:
            return None
        rows = self.rows(work).subquery()
        here = sa.and_(*(self.table.c[n] == rows.c[f"new_{n}"] for n in _key(self.table)))
        touchable = [n for n in _named(rows, "new_") if n not in self.kept]
        same = sa.and_(*(_same(self.table.c[n], rows.c[f"new_{n}"]) for n in touchable))
        return _obstacles(rows, self.table, here, same)

    def _insert(self, select: sa.Select[Any], name: str) -> Effect:
        rows = select.cte(f"rows_{name}")
        names = _named(rows, "new_")
        values = [rows.c[f"new_{n}"] for n in names]
        stamped = [value.label(n) for n, value in self.stamps.items()]
        inserted = (
            self.table.insert()
            .from_select(
                [*names, *self.stamps],
                sa.select(*values, *stamped).order_by(rows.c.position),
                include_defaults=False,
            )
            .returning(*(self.table.c[n].label(f"is_{n}") for n in names))
            .cte(f"inserted_{name}")
        )
        there = [inserted.c[f"is_{n}"] for n in names]
        return Effect(self.table, rows, _in_both(there, values, name), (1, 0, 0))


@dataclass(frozen=True)
class UpdateRows:
    """Changed rows. `rows` selects the primary key, and `old_<column>` and `new_<column>` of each
    column set; with the place it was `seen_at`, a row is found there, not looked up again.

    `stamps` are set at the moment of writing, not planned and never compared. Taken back by
    restoring the old values where the new ones are still there. `additive` columns are counters
    and balances that others add to: there the difference is taken back. `kept` columns are
    restored only where they are still as written, and never stand in the way.
    """

    table: sa.Table
    rows: Rows
    stamps: Mapping[str, Element] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    additive: Mapping[str, Additive] = field(default_factory=dict)

    right = undo_right = "UPDATE"

    def columns(self, work: Work) -> list[str]:
        """The columns that are written."""
        return [*_named(self.rows(work), "new_"), *self.stamps]

    def forward(self, work: Work, name: str) -> Effect:
        """Sets the new values where the old ones are still there."""
        rows = self.rows(work).cte(f"rows_{name}")
        names = _named(rows, "new_")
        values = {n: rows.c[f"new_{n}"] for n in names} | dict(self.stamps)
        unchanged = [_same(self.table.c[n], rows.c[f"old_{n}"]) for n in names]
        right = [_same(self.table.c[n], rows.c[f"new_{n}"]) for n in names]
        return self._update(rows, name, values, unchanged, right)

    def backward(self, work: Work, name: str, shape: TableShape) -> Effect:
        """Sets the old values again where the new ones are still there."""
        rows = self.rows(work).cte(f"rows_{name}")
        values: dict[str, Element] = {}
        for n in _named(rows, "new_"):
            current, before, after = self.table.c[n], rows.c[f"old_{n}"], rows.c[f"new_{n}"]
            if n in self.additive:
                values[n] = self.additive[n](current, before, after)
            elif n in self.kept:
                values[n] = sa.case((_same(current, after), before), else_=current)
            else:
                values[n] = before
        exact = self._exact(rows)
        unchanged = [_same(self.table.c[n], rows.c[f"new_{n}"]) for n in exact]
        right = [_same(self.table.c[n], rows.c[f"old_{n}"]) for n in exact]
        return self._update(rows, name, values, unchanged, right)

    def obstacles(self, work: Work, shape: TableShape) -> sa.Select[Any] | None:
        """What stands in the way of taking it back: the same changes."""
        return self.changes(work)

    def changes(self, work: Work) -> sa.Select[Any] | None:
        """Positions of units whose changed rows are gone or were touched."""
        rows = self.rows(work).subquery()
        here = sa.and_(*_here(self.table, rows))
        same = sa.and_(
            sa.true(), *(_same(self.table.c[n], rows.c[f"new_{n}"]) for n in self._exact(rows))
        )
        return _obstacles(rows, self.table, here, same)

    def _exact(self, rows: sa.FromClause) -> list[str]:
        free = {*self.additive, *self.kept}
        return [n for n in _named(rows, "new_") if n not in free]

    def _update(
        self,
        rows: sa.CTE,
        name: str,
        values: Mapping[str, Element],
        unchanged: list[sa.ColumnElement[bool]],
        right: list[sa.ColumnElement[bool]],
    ) -> Effect:
        here = _here(self.table, rows)
        if PLACE in rows.c:
            here.append(place(self.table) == rows.c[PLACE])
        # BEFORE triggers of the app may have made something else of the values.
        as_intended = sa.and_(sa.true(), *right).label("as_intended")
        updated = (
            self.table.update()
            .values(dict(values))
            .where(*here, *unchanged)
            .returning(rows.c.position, as_intended)
            .cte(f"updated_{name}")
        )
        written = sa.select(updated.c.position).where(updated.c.as_intended)
        return Effect(self.table, rows, written.cte(f"written_{name}"), (0, 1, 0))


@dataclass(frozen=True)
class DeleteRows:
    """Rows that are deleted. `rows` selects the primary key, `row`, the `whole_row` as it was, and
    the place it was `seen_at`.

    Taken back by inserting the whole row again, where nothing has its key and its parents exist.
    """

    table: sa.Table
    rows: Rows

    right = "DELETE"
    undo_right = "INSERT"

    def columns(self, work: Work) -> list[str]:
        """No column of its own."""
        return []

    def forward(self, work: Work, name: str) -> Effect:
        """Deletes the rows that are still as they were."""
        rows = self.rows(work).cte(f"rows_{name}")
        here = _here(self.table, rows)
        # The facts were compared with the row in this very statement; what has been written to
        # it since has put it in another place.
        unmoved = place(self.table) == rows.c[PLACE]
        deleted = self.table.delete().where(*here, unmoved).returning(rows.c.position)
        return Effect(self.table, rows, deleted.cte(f"written_{name}"), (0, 0, 1))

    def backward(self, work: Work, name: str, shape: TableShape) -> Effect:
        """Inserts the rows again, column by column as they were."""
        rows = self.rows(work).cte(f"rows_{name}")
        names = [column.name for column in shape.columns.values() if not column.computed]
        old = self.restored(rows, names)
        target = _with_columns(self.table, names)
        inserted = (
            sa.insert(target)
            .from_select(
                names, sa.select(*(old.c[n] for n in names)).select_from(rows.join(old, sa.true()))
            )
            .returning(*(target.c[n].label(f"is_{n}") for n in _key(self.table)))
            .cte(f"inserted_{name}")
        )
        there = [inserted.c[f"is_{n}"] for n in _key(self.table)]
        wanted = [rows.c[n] for n in _key(self.table)]
        return Effect(self.table, rows, _in_both(there, wanted, name), (1, 0, 0))

    def obstacles(self, work: Work, shape: TableShape) -> sa.Select[Any] | None:
        """Positions of units whose key has been taken, or a parent of whose row has gone."""
        rows = self.rows(work).subquery()
        here = sa.and_(*_here(self.table, rows))
        taken = sa.exists().where(here)
        old = self.restored(rows, [c.name for c in shape.columns.values() if not c.computed])
        orphaned = sa.or_(sa.false(), *(_orphaned(old, parent) for parent in shape.parents))
        reason = sa.case((taken, TAKEN), (orphaned, ORPHANED)).label("reason")
        judged = sa.select(rows.c.position, reason).select_from(rows.join(old, sa.true()))
        found = judged.subquery()
        return sa.select(found.c.position, found.c.reason).where(found.c.reason.is_not(None))

    def changes(self, work: Work) -> sa.Select[Any] | None:
        """Positions of units whose key is there again."""
        rows = self.rows(work).subquery()
        here = sa.and_(*_here(self.table, rows))
        taken = sa.literal(TAKEN).label("reason")
        return sa.select(rows.c.position, taken).select_from(rows.join(self.table, here))

    def restored(self, rows: sa.FromClause, names: list[str]) -> sa.FromClause:
        """The old rows as rows of the table's own type, beside those that hold them as JSON."""
        nothing = sa.select(self.table.table_valued()).where(sa.false()).scalar_subquery()
        populated = sa.func.json_populate_record(nothing, rows.c.row)
        return populated.table_valued(*names).lateral()


Write = InsertRows | UpdateRows | DeleteRows


def whole_row(table: sa.Table) -> sa.ColumnElement[Any]:
    """A row with all the columns that the database has, as JSON that gives each back exactly."""
    return sa.func.row_to_json(table.table_valued(), type_=JSON)


def place(table: NamedFromClause) -> sa.ColumnElement[Any]:
    """Where in its table a row lies; it moves whenever it is updated."""
    quote = IdentifierPreparer(PGDialect()).quote  # type: ignore[no-untyped-call]
    return sa.literal_column(f"{quote(table.name)}.ctid")


def seen_at(work: Work) -> list[Element]:
    """The place at which a statement has seen each unit's row; nothing where it has not."""
    return [work.units.c[PLACE]] if PLACE in work.units.c else []


def _in_both(there: Sequence[Element], wanted: Sequence[Element], name: str) -> sa.CTE:
    """The rows that are there as they were wanted, column by column.

    No join: where the statistics expect no such row, that would be a loop within a loop.
    """
    found = sa.select(*(comparable(c).label(f"c{i}") for i, c in enumerate(there)))
    meant = sa.select(*(comparable(c).label(f"c{i}") for i, c in enumerate(wanted)))
    return found.intersect_all(meant).cte(f"written_{name}")


def _obstacles(
    rows: sa.FromClause,
    table: sa.Table,
    here: sa.ColumnElement[bool],
    same: sa.ColumnElement[bool],
) -> sa.Select[Any]:
    absent = table.c[_key(table)[0]].is_(None)
    reason = sa.case((absent, GONE), else_=TOUCHED).label("reason")
    judged = sa.select(rows.c.position, reason).select_from(rows.outerjoin(table, here))
    return judged.where(sa.or_(absent, sa.not_(same)))


def _orphaned(
    old: sa.FromClause, parent: tuple[str, str, tuple[str, ...], tuple[str, ...]]
) -> sa.ColumnElement[bool]:
    schema, name, mine, theirs = parent
    table = sa.table(name, *map(sa.column, theirs), schema=schema).alias()
    named = [old.c[n].is_not(None) for n in mine]
    pairs = zip(mine, theirs, strict=True)
    there = sa.exists().where(*(table.c[their] == old.c[n] for n, their in pairs))
    return sa.and_(*named, ~there)


def _with_columns(table: sa.Table, names: list[str]) -> sa.TableClause:
    return sa.table(table.name, *map(sa.column, names), schema=table.schema)


def _same(one: Element, other: Element) -> sa.ColumnElement[bool]:
    return comparable(one).is_not_distinct_from(comparable(other))


def comparable(value: Element) -> Element:
    """The value itself; a `json` as its text, since it knows no equality."""
    return sa.cast(value, sa.Text) if isinstance(value.type, sa.JSON) else value


def _named(rows: sa.Select[Any] | sa.FromClause, prefix: str) -> list[str]:
    columns = rows.selected_columns if isinstance(rows, sa.Select) else rows.c
    return [c.name.removeprefix(prefix) for c in columns if c.name.startswith(prefix)]


def _here(table: sa.Table, rows: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    return [table.c[n] == rows.c[n] for n in _key(table)]


def _key(table: sa.Table) -> list[str]:
    return [column.name for column in table.primary_key]
