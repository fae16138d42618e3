"""Units small enough to hold in the head: purses that are filled up to a hundred each month.

A purse has lots of coins: filling it up closes its old lots, opens a new one and writes a log.
Notes that have expired are deleted, whole rows with whatever columns they have.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from maintenance_pipelines.engine import applying, planning, undoing, verifying
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.identifiers import cuid_of, uuid_of
from maintenance_pipelines.engine.job import (
    PLACE,
    AssetNames,
    Job,
    NoOptions,
    Rule,
    Scope,
    Summary,
)
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.verifying import Verification
from maintenance_pipelines.engine.writes import (
    DeleteRows,
    InsertRows,
    UpdateRows,
    place,
    seen_at,
    whole_row,
)

AS_OF = datetime(2025, 9, 1, tzinfo=UTC)
NOW = AS_OF.replace(tzinfo=None)
FULL = 100

metadata = sa.MetaData()
purse = sa.Table(
    "Purse",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("coins", sa.Integer, nullable=False),
    sa.Column("spent", sa.Integer, nullable=False, server_default="0"),
    sa.Column("filledAt", sa.TIMESTAMP()),
    sa.Column("updatedAt", sa.TIMESTAMP(), nullable=False),
    sa.CheckConstraint("coins >= 0", name="no_debt"),
)
lot = sa.Table(
    "Lot",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("purseId", sa.Text, sa.ForeignKey("Purse.id", ondelete="CASCADE"), nullable=False),
    sa.Column("left", sa.Integer, nullable=False),
    sa.Column("openedAt", sa.TIMESTAMP()),
)
log = sa.Table(
    "Log",
    metadata,
    sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
    sa.Column("purseId", sa.Text, nullable=False),
    sa.Column("before", sa.Integer, nullable=False),
    sa.Column("after", sa.Integer, nullable=False),
)
note = sa.Table(
    "Note",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("purseId", sa.Text, sa.ForeignKey("Purse.id")),
    sa.Column("value", sa.JSON),
    sa.Column("expiresAt", sa.TIMESTAMP(timezone=True), nullable=False),
)


def unfilled(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Purses that have not been filled since `as_of`."""
    lots = (
        sa.select(
            sa.func.array_agg(lot.c.id, type_=ARRAY(sa.Text)).label("lots"),
            sa.func.array_agg(lot.c.left, type_=ARRAY(sa.Integer)).label("lefts"),
        )
        .where(lot.c.purseId == purse.c.id, lot.c.left > 0)
        .correlate(purse)
        .lateral("lots")
    )
    due = sa.select(
        purse.c.id,
        purse.c.coins,
        purse.c.filledAt.label("filled_at"),
        purse.c.updatedAt.label("updated_at"),
        lots.c.lots,
        lots.c.lefts,
        sa.case(
            (purse.c.filledAt >= scope.naive_as_of, "filled"),
            (purse.c.id.like("closed%"), "closed"),
        ).label("reason"),
    ).select_from(purse.join(lots, sa.true()))
    return due if among is None else due.where(purse.c.id.in_(sa.select(among.c.id)))


def filled(work: Work) -> sa.Select[Any]:
    units = work.units
    return sa.select(
        units.c.position,
        units.c.id,
        units.c.coins.label("old_coins"),
        sa.literal(FULL).label("new_coins"),
        units.c.filled_at.label("old_filledAt"),
        sa.literal(work.scope.naive_as_of, sa.TIMESTAMP()).label("new_filledAt"),
        units.c.updated_at.label("old_updatedAt"),
        sa.literal(work.scope.naive_as_of, sa.TIMESTAMP()).label("new_updatedAt"),
    )


def closed_lots(work: Work) -> sa.Select[Any]:
    old = (
        sa.func.unnest(work.units.c.lots, work.units.c.lefts)
        .table_valued(sa.column("id", sa.Text), sa.column("left", sa.Integer), name="old")
        .render_derived()
        .lateral("old")
    )
    return sa.select(
        work.units.c.position,
        old.c.id,
        old.c.left.label("old_left"),
        sa.literal(0).label("new_left"),
    ).select_from(work.units.join(old, sa.true()))


def new_lot(work: Work) -> sa.Select[Any]:
    return sa.select(
        work.units.c.position,
        cuid_of(work, "lot").label("new_id"),
        work.units.c.id.label("new_purseId"),
        sa.literal(FULL).label("new_left"),
    )


def logged(work: Work) -> sa.Select[Any]:
    return sa.select(
        work.units.c.position,
        uuid_of(work, "log").label("new_id"),
        work.units.c.id.label("new_purseId"),
        work.units.c.coins.label("new_before"),
        sa.literal(FULL).label("new_after"),
    ).where(work.units.c.coins != FULL)


def logged_back(work: Work) -> sa.Select[Any]:
    change = FULL - work.units.c.coins
    return (
        sa.select(
            work.units.c.position,
            uuid_of(work, "log back").label("new_id"),
            work.units.c.id.label("new_purseId"),
            purse.c.coins.label("new_before"),
            (purse.c.coins - change).label("new_after"),
        )
        .select_from(work.units.join(purse, purse.c.id == work.units.c.id))
        .where(work.units.c.coins != FULL)
    )


def expired(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    due = sa.select(
        note.c.id,
        whole_row(note).label("row"),
        sa.null().cast(sa.Text).label("reason"),
        place(note).label(PLACE),
    ).where(note.c.expiresAt < scope.as_of)
    return due if among is None else due.where(note.c.id.in_(sa.select(among.c.id)))


def expired_rows(work: Work) -> sa.Select[Any]:
    unit = work.units.c
    return sa.select(unit.position, unit.id, unit.row, *seen_at(work))


def half_filled(scope: Scope, applied: sa.FromClause) -> sa.Select[Any]:
    filled_now = purse.c.filledAt == scope.naive_as_of
    lots = sa.select(sa.func.sum(lot.c.left)).where(lot.c.purseId == purse.c.id).scalar_subquery()
    return sa.select(purse.c.id).where(filled_now, lots != purse.c.coins)


def purses_part(recomputed: bool) -> Part:
    return Part(
        name="purse",
        says="purses",
        key="id",
        due=unfilled,
        writes=(
            UpdateRows(
                purse,
                filled,
                kept=("updatedAt",),
                additive={"coins": lambda current, before, after: current + before - after},
            ),
            UpdateRows(lot, closed_lots),
            InsertRows(lot, new_lot, stamps={"openedAt": sa.func.localtimestamp()}),
            InsertRows(log, logged, reversal=logged_back),
        ),
        locks=(Lock(purse, "id", "update"),),
        recomputed=recomputed,
        done=frozenset({"filled"}),
        rules=(Rule("lots_add_up", "The lots of a purse add up to its coins", half_filled),),
        summaries=(
            Summary("Coins", lambda scope, plan: sa.select(sa.func.sum(plan.c.coins).label("old"))),
        ),
    )


notes_part = Part(
    name="note",
    says="expired notes",
    key="id",
    due=expired,
    writes=(DeleteRows(note, expired_rows),),
    locks=(Lock(note, "id", "update"),),
)


def job_of(recomputed: bool) -> Job:
    return Job(
        name="purse_filling",
        system="purses",
        says="Every purse holds a hundred coins",
        assets=AssetNames("unfilled_purses", "filled_purses", "verified_purses"),
        change=Units((purses_part(recomputed), notes_part)),
        relies_on=(purse, lot, log, note),
    )


job = job_of(recomputed=True)
strict = job_of(recomputed=False)
scope = Scope(AS_OF, None, NoOptions())
someone = Request(operator="ann")
SMALL = Limits(lock_timeout_ms=100, batch_rows=8, granule_rows=4, workers=1, attempts=3)


def plan(database: Database, of: Job = job) -> Run:
    return planning.plan(of, database, scope, someone)


def apply(database: Database, run: Run, of: Job = job) -> Run:
    return applying.apply(of, database, run, Order())[0]


def fill(database: Database, of: Job = job) -> Verification:
    """Plan, or what was interrupted; apply; verify."""
    run = plan(database, of)
    if run.planned and run.state != "applied":
        run = apply(database, run, of)
    return verifying.verify(of, database, run)


def undo(database: Database, run: Run, of: Job = job) -> Verification:
    return undoing.rollback(of, database, run, someone, Order())


def sew(database: Database, purses: int, notes: int = 0) -> None:
    """Creates the app's tables: purse `i` has `i` coins in two lots."""
    with database.transaction() as connection:
        metadata.create_all(connection)
        path = sa.text("SELECT set_config('search_path', quote_ident(:schema), true)")
        connection.execute(path, {"schema": database.schema})
        for statement in (
            'INSERT INTO "Purse" (id, coins, "updatedAt")'
            " SELECT 'p' || lpad(i::text, 6, '0'), i, '2025-08-01' FROM generate_series(1, :n) i",
            "INSERT INTO \"Lot\" SELECT 'l' || i || 'a', 'p' || lpad(i::text, 6, '0'), i / 2"
            " FROM generate_series(1, :n) i",
            "INSERT INTO \"Lot\" SELECT 'l' || i || 'b', 'p' || lpad(i::text, 6, '0'),"
            " i - i / 2 FROM generate_series(1, :n) i",
        ):
            connection.execute(sa.text(statement), {"n": purses})
        connection.execute(
            sa.text(
                "INSERT INTO \"Note\" SELECT 'n' || i, 'p000001',"
                """ '{"b": 1.50,  "a": [1, null]}', '2025-08-31 23:59:59.123456+00'"""
                " FROM generate_series(1, :n) i"
            ),
            {"n": notes},
        )


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def write(database: Database, statement: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text(statement))


def contents(database: Database) -> list[list[tuple[Any, ...]]]:
    """Everything but the log, which only ever grows."""
    return [
        rows(database, f'SELECT t::text FROM "{name}" t ORDER BY 1')
        for name in ("Purse", "Lot", "Note")
    ]
