"""The app at work: users, codes, redemptions, targets and shots, made as a test needs them.

Every function inserts one row and returns its id; what is not said is as the app has it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.monetization import schema
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.override import OVERRIDE

NOW = datetime(2025, 11, 2, 9, 0, 0, 123000, tzinfo=UTC)
LONG_AGO = datetime(2023, 1, 5, 12, tzinfo=UTC)

Row = dict[str, Any]


def scope_of(as_of: datetime = NOW, **options: object) -> Scope:
    """The scope of a plan at that moment."""
    return Scope(as_of, None, MonetizationOptions.model_validate(options))


@contextmanager
def session(database: Database, time_zone: str = "UTC") -> Iterator[sa.Connection]:
    """A connection under a session time zone, whose work is rolled back at the end."""
    with database.engine.connect() as connection:
        connection.execute(
            sa.text("SELECT set_config('TimeZone', :zone, true)"), {"zone": time_zone}
        )
        try:
            yield connection
        finally:
            connection.rollback()


def rows(database: Database, table: sa.Table) -> list[Row]:
    """Every row of a table, in the order of its key."""
    with database.transaction() as connection:
        key = next(iter(table.primary_key))
        found = connection.execute(sa.select(table).order_by(key)).mappings()
        return [dict(row) for row in found]


def row(database: Database, table: sa.Table, id_: Any) -> Row:
    """One row of a table, by its key."""
    key = next(iter(table.primary_key)).name
    return next(found for found in rows(database, table) if found[key] == id_)


def write(database: Database, statement: str | sa.Executable, **values: Any) -> None:
    """Changes the app's tables, as the app would."""
    with database.transaction() as connection:
        what = sa.text(statement) if isinstance(statement, str) else statement
        connection.execute(what, values)


def change(database: Database, table: sa.Table, id_: Any, **values: Any) -> None:
    """The app changes one row."""
    key = next(iter(table.primary_key))
    write(database, table.update().where(key == id_).values(values))


def user(database: Database, **values: Any) -> uuid.UUID:
    """A user of the free tier."""
    id_ = uuid.uuid4()
    name = id_.hex[:8]
    given = {
        "id": id_,
        "email": f"{name}@example.com",
        "name": f"Person {name}",
        "authentik_sub": name,
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
    }
    return _insert(database, schema.users, given | values)


def paying(database: Database, expires_at: datetime | None, **values: Any) -> uuid.UUID:
    """A user with a subscription to premium until then."""
    given = {"tier": "premium", "tier_source": "subscription", "tier_expires_at": expires_at}
    return user(database, **given | values)


def on_trial(database: Database, ends_at: datetime | None, **values: Any) -> uuid.UUID:
    """A user whose trial ends then."""
    given = {"tier": "premium", "tier_source": "trial", "tier_expires_at": ends_at}
    return user(database, **given | {"trial_ends_at": ends_at} | values)


def code(database: Database, **values: Any) -> uuid.UUID:
    """An active code without an end."""
    id_ = uuid.uuid4()
    given = {"id": id_, "code": id_.hex[:12].upper(), "type": "tier_grant"}
    return _insert(database, schema.promo_codes, given | values)


def redemption(
    database: Database, of: uuid.UUID, by: uuid.UUID, redeemed_at: datetime, **values: Any
) -> uuid.UUID:
    """A redemption that grants nothing any more."""
    given = {"id": uuid.uuid4(), "promo_code_id": of, "user_id": by, "redeemed_at": redeemed_at}
    return _insert(database, schema.promo_redemptions, given | values)


def target(database: Database, of: uuid.UUID, **values: Any) -> uuid.UUID:
    """A target of a user's."""
    given = {"id": uuid.uuid4(), "user_id": of, "thesis": "It will rise."}
    return _insert(database, schema.targets, given | values)


def aim(database: Database, of: uuid.UUID, **values: Any) -> uuid.UUID:
    """An aim at a target."""
    given = {"id": uuid.uuid4(), "target_id": of, "symbol": "ACME"}
    return _insert(database, schema.aims, given | values)


def shot(database: Database, of: uuid.UUID | None, **values: Any) -> uuid.UUID:
    """A shot at an aim, or at none."""
    return _insert(database, schema.shots, {"id": uuid.uuid4(), "aim_id": of} | values)


def override(database: Database, value: str) -> None:
    """The global override, with a value in its own spelling."""
    statement = (
        "INSERT INTO global_config (key, value, updated_at)"
        " VALUES (:key, CAST(:value AS json), :updated)"
    )
    write(database, statement, key=OVERRIDE, value=value, updated=LONG_AGO)


def _insert(database: Database, table: sa.Table, values: Row) -> uuid.UUID:
    write(database, table.insert().values(values))
    id_ = values["id"]
    assert isinstance(id_, uuid.UUID)
    return id_
