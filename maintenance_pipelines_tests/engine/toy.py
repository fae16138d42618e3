"""A system small enough to hold in the head: every garden should have a bed in each slot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import applying, planning, undoing, verifying
from maintenance_pipelines.engine.database import Database, Limits
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import AssetNames, Insert, Job, NoOptions, Scope
from maintenance_pipelines.engine.months import Months
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Verification

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
    slot: sa.ColumnElement[int]
    if among is None:
        series = sa.func.generate_series(1, garden.c.slots).table_valued("slot").render_derived()
        slot, places = series.c.slot.cast(sa.Integer), garden.join(series, sa.true())
    else:
        slot = among.c.slot
        here = (among.c.gardenId == garden.c.id) & slot.between(1, garden.c.slots)
        places = garden.join(among, here)
    there = sa.exists().where(bed.c.gardenId == garden.c.id, bed.c.slot == slot)
    return sa.select(
        garden.c.id.label("gardenId"),
        slot.label("slot"),
        sa.case(
            (garden.c.openedAt > scope.naive_as_of, "not_open"),
            (there, "already_present"),
        ).label("reason"),
    ).select_from(places)


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

SMALL = Limits(lock_timeout_ms=100, batch_rows=20, granule_rows=5, workers=1, attempts=3)
"""One batch at a time, of four granules with five rows each, and little patience."""


def plan(database: Database, operator: str = "ann", **request: Any) -> Run:
    """Plans the job as that operator."""
    return planning.plan(job, database, scope, Request(operator, **request))


def apply(database: Database, run: Run, **order: Any) -> Run:
    """Applies a run of the job."""
    return applying.apply(job, database, run, Order(**order))[0]


def finish(database: Database, run: Run) -> Verification:
    """What remains to be done of a run, as a new start of the job does it."""
    if run.planned and run.state != "applied":
        run = apply(database, run)
    return verifying.verify(job, database, run)


def backfill(database: Database) -> Verification:
    """The whole job: plan, or the interrupted run of the partition; apply; verify."""
    return finish(database, plan(database))


def undo(database: Database, run: Run) -> Verification:
    """Rolls a run of the job back."""
    return undoing.rollback(job, database, run, someone, now)


def plant(database: Database, gardens: int, slots: int, beds: int = 0) -> None:
    """Creates the app's tables with so many gardens; the first `beds` of them have all beds."""
    with database.transaction() as connection:
        metadata.create_all(connection)
        path = sa.text("SELECT set_config('search_path', quote_ident(:schema), true)")
        connection.execute(path, {"schema": database.schema})
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


def contents(database: Database) -> list[tuple[Any, ...]]:
    """Every bed, all of it but its id."""
    columns = '"gardenId", slot, watered, "updatedAt", notes'
    return rows(database, f'SELECT {columns} FROM "Bed" ORDER BY 1, 2')


def snapshot(database: Database) -> list[tuple[Any, ...]]:
    """Every bed, ids and PostgreSQL's own row versions included: equal only where untouched."""
    return rows(database, 'SELECT xmin::text, ctid::text, * FROM "Bed" ORDER BY id')


def checks(verification: Verification) -> dict[str, bool]:
    """Whether each blocking check held."""
    return {check.name: check.passed for check in verification.checks if not check.warning}


def numbers(verification: Verification) -> dict[str, int]:
    """The figure of each check that is a number and no failure."""
    return {check.name: check.count for check in verification.checks if check.warning}
