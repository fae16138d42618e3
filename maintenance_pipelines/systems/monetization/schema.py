"""The app's tables, exactly as they are in its database: as Drizzle makes them.

Ids are `uuid` with a default of the database's, every time is `timestamptz`, and JSON is `json`,
which knows no equality. The tables carry no schema; whoever executes a statement names it
(`schema_translate_map={None: schema}`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON

from maintenance_pipelines.systems.app_tables import add_keys, create_unkeyed

metadata = sa.MetaData(
    naming_convention={
        "uq": "%(table_name)s_%(column_0_name)s_unique",
        "fk": "%(table_name)s_%(column_0_name)s"
        "_%(referred_table_name)s_%(referred_column_0_name)s_fk",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

MOMENT = sa.TIMESTAMP(timezone=True)
NOW = sa.text("now()")

FREE, TRIAL, DEFAULT, GLOBAL_OVERRIDE = "free", "trial", "default", "global_override"
TIERS = (FREE, "premium", "premium_plus")


def _enum(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, metadata=metadata)


user_role = _enum("user_role", "viewer", "user", "power_user", "admin")
user_tier = _enum("user_tier", *TIERS)
tier_source = _enum(
    "tier_source",
    *(DEFAULT, TRIAL, "promo", "admin", GLOBAL_OVERRIDE, "subscription", "affiliate"),
)
promo_type = _enum("promo_type", "tier_grant", "trial_extension")
target_type = _enum("target_type", "growth", "value", "momentum")
target_status = _enum("target_status", "active", "achieved", "abandoned")
shot_direction = _enum("shot_direction", "long", "short")
shot_state = _enum("shot_state", "planned", "open", "closed")


ENUMS = (
    user_role,
    user_tier,
    tier_source,
    promo_type,
    target_type,
    target_status,
    shot_direction,
    shot_state,
)


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.UUID, primary_key=True, server_default=sa.text("gen_random_uuid()"))


def _moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, MOMENT)


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, MOMENT, nullable=False, server_default=NOW)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _owner(name: str, of: str, nullable: bool = False) -> sa.Column[Any]:
    """A foreign key whose rows go with their owner, or lose it where that is allowed."""
    deleted = "SET NULL" if nullable else "CASCADE"
    return sa.Column(name, sa.ForeignKey(f"{of}.id", ondelete=deleted), nullable=nullable)


users = sa.Table(
    "users",
    metadata,
    _id(),
    sa.Column("email", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text),
    sa.Column("authentik_sub", sa.Text, nullable=False, unique=True),
    sa.Column("role", user_role, nullable=False, server_default="user"),
    sa.Column("tier", user_tier, nullable=False, server_default=FREE),
    sa.Column("tier_source", tier_source, nullable=False, server_default=DEFAULT),
    _moment("tier_expires_at"),
    _moment("trial_started_at"),
    _moment("trial_ends_at"),
    sa.Column("referral_code", sa.String(20), unique=True),
    sa.Column("referred_by_user_id", sa.UUID),
    _now("created_at"),
    _now("updated_at"),
    sa.Index(None, "tier"),
    sa.Index(None, "tier_expires_at"),
)

global_config = sa.Table(
    "global_config",
    metadata,
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("value", JSON, nullable=False),
    _now("updated_at"),
    sa.Column("updated_by", sa.ForeignKey("users.id")),
)

promo_codes = sa.Table(
    "promo_codes",
    metadata,
    _id(),
    sa.Column("code", sa.String(50), nullable=False, unique=True),
    sa.Column("type", promo_type, nullable=False),
    sa.Column("tier_to_grant", user_tier),
    sa.Column("days_to_grant", sa.Integer),
    _moment("valid_from"),
    _moment("valid_until"),
    sa.Column("max_uses", sa.Integer),
    sa.Column("max_uses_per_user", sa.Integer, server_default="1"),
    sa.Column("current_uses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("new_users_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("min_tier", user_tier),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    _now("created_at"),
    sa.Column("created_by", sa.ForeignKey("users.id")),
    sa.Index(None, "code"),
    sa.Index(None, "is_active"),
    sa.Index(None, "valid_until"),
)

promo_redemptions = sa.Table(
    "promo_redemptions",
    metadata,
    _id(),
    _owner("promo_code_id", "promo_codes"),
    _owner("user_id", "users"),
    _now("redeemed_at"),
    _moment("applied_until"),
    sa.Column("tier_granted", user_tier),
    sa.Index(None, "user_id"),
    sa.Index(None, "promo_code_id"),
    # Not unique: the app alone sees to it that nobody redeems a code too often.
    sa.Index(None, "user_id", "promo_code_id"),
)

targets = sa.Table(
    "targets",
    metadata,
    _id(),
    _owner("user_id", "users"),
    sa.Column("thesis", sa.Text, nullable=False),
    sa.Column("target_type", target_type, nullable=False, server_default="growth"),
    sa.Column("status", target_status, nullable=False, server_default="active"),
    sa.Column("abort_trigger", sa.Text),
    sa.Column("abort_triggered", sa.Boolean, server_default=sa.false()),
    _moment("abort_triggered_at"),
    _moment("deleted_at"),
)

aims = sa.Table(
    "aims",
    metadata,
    _id(),
    _owner("target_id", "targets"),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("target_price_realistic", sa.Numeric(12, 4)),
    _moment("target_date"),
    _moment("deleted_at"),
)

shots = sa.Table(
    "shots",
    metadata,
    _id(),
    _owner("aim_id", "aims", nullable=True),
    sa.Column("direction", shot_direction, nullable=False, server_default="long"),
    sa.Column("entry_price", sa.Numeric(12, 4)),
    _moment("entry_date"),
    sa.Column("state", shot_state, nullable=False, server_default="planned"),
    sa.Column("stop_loss_honored", sa.Boolean),
    sa.Column("profit_target_honored", sa.Boolean),
    _moment("deleted_at"),
)

user_discipline_stats = sa.Table(
    "user_discipline_stats",
    metadata,
    _id(),
    sa.Column(
        "user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, unique=True
    ),
    _count("total_shots"),
    _count("stop_loss_honored_count"),
    _count("stop_loss_ignored_count"),
    _count("profit_target_honored_count"),
    _count("profit_target_ignored_count"),
    _count("abort_trigger_honored_count"),
    _count("abort_trigger_ignored_count"),
    _now("updated_at"),
)

TABLES = (
    users,
    global_config,
    promo_codes,
    promo_redemptions,
    targets,
    aims,
    shots,
    user_discipline_stats,
)


def instant(when: datetime) -> sa.ColumnElement[Any]:
    """A moment (aware) as SQL, of the type that the app's columns have."""
    return sa.cast(sa.literal(when, MOMENT), MOMENT)


def relied_on(table: sa.Table, *columns: str) -> sa.Table:
    """What a job reads or writes of a table: its other columns may be whatever they are."""
    described = sa.Table(table.name, sa.MetaData())
    for name in columns:
        column = table.c[name]
        described.append_column(sa.Column(name, column.type, primary_key=column.primary_key))
    return described


def create_app_tables(connection: sa.Connection, schema: str) -> None:
    """Create the app's types and tables in `schema`."""
    create_unkeyed_app_tables(connection, schema)
    add_app_keys(connection, schema)


def create_unkeyed_app_tables(connection: sa.Connection, schema: str) -> None:
    """The tables with primary and unique keys only, which load faster; `add_app_keys` adds the
    indexes and foreign keys.
    """
    create_unkeyed(connection, schema, TABLES, ENUMS)


def add_app_keys(connection: sa.Connection, schema: str) -> None:
    """The indexes and foreign keys that `create_unkeyed_app_tables` left out."""
    add_keys(connection, schema, TABLES)
