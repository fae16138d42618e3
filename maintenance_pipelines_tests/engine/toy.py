"""A system small enough to hold in the head: every garden should have a bed in each of its slots."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import AssetNames, Insert, Job, NoOptions, Scope
from maintenance_pipelines.engine.months import Months
from maintenance_pipelines.engine.planning import Request

AS_OF = datetime(2025, 9, 1, tzinfo=UTC)
PARTITION = "2025-08"

metadata = sa.MetaData()
garden = sa.Table(
    "Garden",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("openedAt", sa.TIMESTAMP(), nullable=False),
)
bed = sa.Table(
    "Bed",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("gardenId", sa.Text, sa.ForeignKey("Garden.id", ondelete="CASCADE"), nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("watered", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("updatedAt", sa.TIMESTAMP(), nullable=False),
    sa.Column("notes", sa.Text, info={"optional": True}),
    sa.Index("bed_key", "gardenId", "slot", unique=True),
)


def candidates(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Every slot of every garden; closed gardens and slots with a bed are left alone."""
    slot = sa.func.generate_series(1, garden.c.slots).table_valued("slot").render_derived()
    there = sa.exists().where(bed.c.gardenId == garden.c.id, bed.c.slot == slot.c.slot)
    statement = sa.select(
        garden.c.id.label("gardenId"),
        slot.c.slot.cast(sa.Integer).label("slot"),
        sa.case(
            (garden.c.openedAt > scope.naive_as_of, "not_open"),
            (there, "already_present"),
        ).label("reason"),
    ).select_from(garden.join(slot, sa.true()))
    if among is not None:
        key = sa.and_(among.c.gardenId == garden.c.id, among.c.slot == slot.c.slot)
        statement = statement.where(sa.exists().where(key))
    return statement


def constants(scope: Scope) -> Mapping[str, Any]:
    return {"watered": False, "updatedAt": scope.naive_as_of}


def identifier(scope: Scope, position: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.func.concat("b", sa.func.gen_random_uuid().cast(sa.Text))


job = Job(
    name="bed_backfill",
    system="gardens",
    says="Every garden has a bed in each of its slots",
    assets=AssetNames("missing_beds", "backfilled_beds", "verified_beds"),
    change=Insert(
        into=bed,
        key=("gardenId", "slot"),
        candidates=candidates,
        identifier=identifier,
        constants=constants,
        touched=("watered", "notes"),
        bookkeeping=("updatedAt",),
    ),
    relies_on=(garden, bed),
    partitions=Months(since="2025-01"),
)

scope = Scope(AS_OF, PARTITION, NoOptions())
someone = Request(operator="ann")
now = Order()


def plant(database: Database, gardens: int, slots: int, beds: int = 0) -> None:
    """Creates the app's tables with so many gardens; the first `beds` of them have all beds."""
    with database.transaction() as connection:
        metadata.create_all(connection)
        opened = AS_OF.replace(tzinfo=None) - timedelta(days=30)
        connection.execute(
            sa.text(
                "INSERT INTO \"Garden\" SELECT 'g' || lpad(i::text, 6, '0'), :slots, :opened"
                " FROM generate_series(1, :gardens) i"
            ),
            {"slots": slots, "opened": opened, "gardens": gardens},
        )
        connection.execute(
            sa.text(
                'INSERT INTO "Bed" (id, "gardenId", slot, "updatedAt")'
                ' SELECT md5(g.id || s), g.id, s, :opened FROM "Garden" g,'
                " generate_series(1, :slots) s WHERE g.id <= 'g' || lpad(:beds, 6, '0')"
            ),
            {"slots": slots, "opened": opened, "beds": str(beds)},
        )


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """What a query answers."""
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def write(database: Database, statement: str) -> None:
    """Changes the app's tables, as the app would."""
    with database.transaction() as connection:
        connection.execute(sa.text(statement))


def beds(database: Database) -> int:
    """How many beds there are."""
    return int(rows(database, 'SELECT count(*) FROM "Bed"')[0][0])
