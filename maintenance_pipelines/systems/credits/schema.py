"""The app's tables, exactly as they are in its database.

Ids are 24 hexadecimal digits made by the app, times are `timestamptz`, amounts are whole credits.
The tables carry no schema; whoever executes a statement names it
(`schema_translate_map={None: schema}`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.systems.app_tables import add_keys, create_unkeyed

metadata = sa.MetaData()

MOMENT = sa.TIMESTAMP(timezone=True)
NOW = sa.text("now()")

user_role = sa.Enum("guest", "homeowner", "pro", "admin", name="user_role", metadata=metadata)
verification_status = sa.Enum(
    "unverified",
    "pending",
    "basic",
    "comprehensive",
    "rejected",
    name="verification_status",
    metadata=metadata,
)
transaction_type = sa.Enum(
    "purchase",
    "spend",
    "refund",
    "bonus",
    "monthly_reset",
    "expiry",
    name="credit_transaction_type",
    metadata=metadata,
)
credit_type = sa.Enum("free", "paid", name="credit_type", metadata=metadata)
purchase_status = sa.Enum(
    "pending", "completed", "failed", "refunded", name="credit_purchase_status", metadata=metadata
)


def _key() -> sa.Column[str]:
    return sa.Column("id", sa.Text, primary_key=True)


def _created() -> sa.Column[Any]:
    return sa.Column("created_at", MOMENT, nullable=False, server_default=NOW)


def _updated() -> sa.Column[Any]:
    return sa.Column("updated_at", MOMENT, nullable=False, server_default=NOW)


def _professional() -> sa.Column[str]:
    return sa.Column("professional_id", sa.ForeignKey("users.id"), nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _balance(name: str) -> tuple[sa.Column[int], sa.CheckConstraint]:
    return _count(name), sa.CheckConstraint(f"{name} >= 0", name=f"credit_balances_{name}_check")


users = sa.Table(
    "users",
    metadata,
    _key(),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("role", user_role, nullable=False, server_default="homeowner"),
    _created(),
    _updated(),
    sa.Index("users_email_key", "email", unique=True),
)

pro_profiles = sa.Table(
    "pro_profiles",
    metadata,
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("business_name", sa.Text, nullable=False),
    sa.Column(
        "verification_status", verification_status, nullable=False, server_default="unverified"
    ),
    sa.Index("pro_profiles_verification_status_idx", "verification_status"),
)

credit_balances = sa.Table(
    "credit_balances",
    metadata,
    _key(),
    _professional(),
    *_balance("total_balance"),
    *_balance("free_credits"),
    *_balance("paid_credits"),
    _count("lifetime_earned"),
    _count("lifetime_spent"),
    sa.Column("last_purchase_at", MOMENT),
    sa.Column("last_spend_at", MOMENT),
    sa.Column("last_reset_date", MOMENT, server_default=NOW),
    _created(),
    _updated(),
    sa.Index("credit_balances_professional_id_key", "professional_id", unique=True),
)

credit_purchases = sa.Table(
    "credit_purchases",
    metadata,
    _key(),
    _professional(),
    sa.Column("package_id", sa.Text),
    sa.Column("credits", sa.Integer, nullable=False),
    sa.Column("price_aed", sa.Numeric(12, 2)),
    sa.Column("stripe_payment_intent_id", sa.Text),
    sa.Column("stripe_session_id", sa.Text),
    sa.Column("status", purchase_status, nullable=False, server_default="pending"),
    sa.Column("expires_at", MOMENT, nullable=False),
    _created(),
    _updated(),
    sa.Index(
        "credit_purchases_stripe_payment_intent_id_key", "stripe_payment_intent_id", unique=True
    ),
)

credit_transactions = sa.Table(
    "credit_transactions",
    metadata,
    _key(),
    _professional(),
    sa.Column("type", transaction_type, nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("credit_type", credit_type, nullable=False),
    sa.Column("balance_before", sa.Integer, nullable=False),
    sa.Column("balance_after", sa.Integer, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("expires_at", MOMENT),
    _count("remaining_amount"),
    sa.Column("lead_id", sa.Text),
    sa.Column("package_id", sa.Text),
    sa.Column("purchase_id", sa.ForeignKey("credit_purchases.id")),
    sa.Column("stripe_payment_intent_id", sa.Text),
    sa.Column("price_aed", sa.Numeric(12, 2)),
    sa.Column("budget_bracket", sa.Text),
    sa.Column("urgency", sa.Text),
    sa.Column("previous_free_credits", sa.Integer),
    _created(),
    _updated(),
    sa.Index("credit_transactions_professional_id_idx", "professional_id"),
    sa.Index("credit_transactions_type_idx", "type"),
    sa.Index("credit_transactions_credit_type_idx", "credit_type"),
    sa.Index("credit_transactions_expires_at_idx", "expires_at"),
    sa.Index(
        "credit_transactions_professional_id_created_at_idx",
        "professional_id",
        sa.desc("created_at"),
    ),
    sa.Index("credit_transactions_credit_type_expires_at_idx", "credit_type", "expires_at"),
    sa.Index(
        "credit_transactions_professional_id_remaining_amount_idx",
        "professional_id",
        "remaining_amount",
    ),
)

ENUMS = (user_role, verification_status, transaction_type, credit_type, purchase_status)
TABLES = (users, pro_profiles, credit_balances, credit_purchases, credit_transactions)


def create_app_tables(connection: sa.Connection, schema: str) -> None:
    """Create the app's tables in `schema`."""
    create_unkeyed_app_tables(connection, schema)
    add_app_keys(connection, schema)


def create_unkeyed_app_tables(connection: sa.Connection, schema: str) -> None:
    """The tables with primary keys only, which load faster; `add_app_keys` completes them."""
    create_unkeyed(connection, schema, TABLES, ENUMS)


def add_app_keys(connection: sa.Connection, schema: str) -> None:
    """The indexes and foreign keys that `create_unkeyed_app_tables` left out."""
    add_keys(connection, schema, TABLES)
