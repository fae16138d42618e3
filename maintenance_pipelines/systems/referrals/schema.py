"""The app's tables, exactly as they are in its database: Prisma's names, quoted.

Ids are text made by the client, times are `timestamp(3)` holding UTC, money is double precision,
and neither an id nor `"updatedAt"` has a database default. `"Refund"` exists in some versions of
the app only. The tables carry no schema; whoever executes a statement names it
(`schema_translate_map={None: schema}`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, TIMESTAMP

from maintenance_pipelines.systems.app_tables import add_keys, create_unkeyed

metadata = sa.MetaData()

MOMENT = TIMESTAMP(precision=3)
NOW = sa.text("CURRENT_TIMESTAMP")


def _key() -> sa.Column[str]:
    return sa.Column("id", sa.Text, primary_key=True)


def _created() -> sa.Column[Any]:
    return sa.Column("createdAt", MOMENT, nullable=False, server_default=NOW)


def _updated() -> sa.Column[Any]:
    return sa.Column("updatedAt", MOMENT, nullable=False)


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _money(name: str, default: str | None = None) -> sa.Column[float]:
    return sa.Column(name, DOUBLE_PRECISION, nullable=False, server_default=default)


def _owner(name: str, owner: str, nullable: bool = False) -> sa.Column[str]:
    key = sa.ForeignKey(f"{owner}.id", onupdate="CASCADE", ondelete="CASCADE")
    return sa.Column(name, key, nullable=nullable)


creator = sa.Table(
    "Creator",
    metadata,
    _key(),
    _text("companyId"),
    _text("companyName"),
    _text("productId"),
    _count("totalReferrals"),
    _money("totalRevenue", "0"),
    _money("monthlyRevenue", "0"),
    sa.Column("lastMonthReset", MOMENT),
    sa.Column("isActive", sa.Boolean, nullable=False, server_default=sa.true()),
    _created(),
    _updated(),
    sa.Index("Creator_companyId_key", "companyId", unique=True),
)

member = sa.Table(
    "Member",
    metadata,
    _key(),
    _text("userId"),
    _text("membershipId"),
    _text("referralCode"),
    _text("email"),
    _text("username"),
    _text("memberOrigin", "organic"),
    sa.Column(
        "referredBy",
        sa.ForeignKey("Member.referralCode", onupdate="CASCADE", ondelete="SET NULL"),
    ),
    _owner("creatorId", "Creator"),
    _money("lifetimeEarnings", "0"),
    _money("monthlyEarnings", "0"),
    _count("totalReferred"),
    _count("monthlyReferred"),
    sa.Column("lastMonthReset", MOMENT),
    _text("currentTier", "bronze"),
    _created(),
    _updated(),
    sa.Index("Member_userId_key", "userId", unique=True),
    sa.Index("Member_membershipId_key", "membershipId", unique=True),
    sa.Index("Member_referralCode_key", "referralCode", unique=True),
    sa.Index("Member_referredBy_idx", "referredBy"),
    sa.Index("Member_referredBy_createdAt_idx", "referredBy", "createdAt"),
    sa.Index("Member_creatorId_idx", "creatorId"),
    sa.Index("Member_creatorId_totalReferred_idx", "creatorId", "totalReferred"),
    sa.Index("Member_createdAt_idx", "createdAt"),
)

commission = sa.Table(
    "Commission",
    metadata,
    _key(),
    _text("whopPaymentId"),
    _text("whopMembershipId"),
    _money("saleAmount"),
    _money("memberShare"),
    _money("creatorShare"),
    _money("platformShare"),
    _text("paymentType"),
    _text("status"),
    _owner("memberId", "Member"),
    _owner("creatorId", "Creator"),
    _created(),
    sa.Index("Commission_whopPaymentId_key", "whopPaymentId", unique=True),
    sa.Index("Commission_memberId_status_createdAt_idx", "memberId", "status", "createdAt"),
    sa.Index("Commission_creatorId_createdAt_idx", "creatorId", "createdAt"),
    sa.Index("Commission_createdAt_idx", "createdAt"),
    sa.Index("Commission_createdAt_paymentType_idx", "createdAt", "paymentType"),
)

refund = sa.Table(
    "Refund",
    metadata,
    _key(),
    _owner("commissionId", "Commission"),
    _money("refundAmount"),
    _money("memberShareReversed"),
    _money("creatorShareReversed"),
    _money("platformShareReversed"),
    _created(),
    info={"optional": True},
)

monthly_snapshot = sa.Table(
    "MonthlySnapshot",
    metadata,
    _key(),
    _text("month"),
    _owner("creatorId", "Creator"),
    _owner("memberId", "Member", nullable=True),
    _count("monthlyReferrals"),
    _money("monthlyEarnings", "0"),
    _money("monthlyRevenue", "0"),
    _created(),
    # NULL in `memberId` never conflicts: this alone does not keep a creator's snapshot single.
    sa.Index(
        "MonthlySnapshot_month_creatorId_memberId_key",
        "month",
        "creatorId",
        "memberId",
        unique=True,
    ),
)

audit_log = sa.Table(
    "AuditLog",
    metadata,
    _key(),
    _text("entity"),
    _text("entityId"),
    _text("field"),
    _text("oldValue"),
    _text("newValue"),
    _text("triggeredBy"),
    sa.Column("metadata", JSONB),
    _created(),
)

TABLES = (creator, member, commission, refund, monthly_snapshot, audit_log)


def create_app_tables(connection: sa.Connection, schema: str, with_refunds: bool = True) -> None:
    """Create the app's tables in `schema`; `with_refunds=False` leaves the optional one out."""
    create_unkeyed_app_tables(connection, schema, with_refunds)
    add_app_keys(connection, schema, with_refunds)


def create_unkeyed_app_tables(
    connection: sa.Connection, schema: str, with_refunds: bool = True
) -> None:
    """The tables with primary keys only, which load faster; `add_app_keys` completes them."""
    create_unkeyed(connection, schema, _tables(with_refunds))


def add_app_keys(connection: sa.Connection, schema: str, with_refunds: bool = True) -> None:
    """The indexes and foreign keys that `create_unkeyed_app_tables` left out."""
    add_keys(connection, schema, _tables(with_refunds))


def _tables(with_refunds: bool) -> tuple[sa.Table, ...]:
    return tuple(table for table in TABLES if with_refunds or table is not refund)
