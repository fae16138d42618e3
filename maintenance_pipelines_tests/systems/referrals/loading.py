"""Puts the reference's worlds into the app's tables, and heals or breaks data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.schema import (
    commission,
    creator,
    member,
    monthly_snapshot,
    refund,
)
from maintenance_pipelines_tests.systems.referrals.reference import (
    Commission,
    Member,
    Refund,
    Snapshot,
    World,
)
from maintenance_pipelines_tests.systems.referrals.situations import CREATORS

LONG_AGO = datetime(2020, 1, 1)


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


def write(database: Database, *statements: str) -> None:
    """Carries out the statements in one transaction."""
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def scope_of(as_of: datetime, month: str | None = None, **options: bool) -> Scope:
    """What is asked at a moment (naive UTC) about a month, or about the running one."""
    return Scope(as_of.replace(tzinfo=UTC), month, ReferralsOptions.model_validate(options))


def load(connection: sa.Connection, world: World, with_refunds: bool = True) -> None:
    """Insert the world and its creators."""
    _insert(connection, creator, map(_creator, CREATORS))
    _insert(connection, member, map(_member, world.members))
    for row in world.members:  # once all codes are there
        found = member.update().where(member.c.id == row.id)
        connection.execute(found.values(referredBy=row.referred_by))
    _insert(connection, commission, map(_commission, world.commissions))
    if with_refunds:
        _insert(connection, refund, map(_refund, world.refunds))
    _insert(connection, monthly_snapshot, map(_snapshot, world.snapshots))


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterable[dict[str, object]]) -> None:
    content = list(rows)
    if content:
        connection.execute(table.insert(), content)


def _creator(id: str) -> dict[str, object]:
    known = {"companyId": id, "companyName": f"Company {id}", "productId": "p"}
    return {"id": id, "createdAt": LONG_AGO, "updatedAt": LONG_AGO, **known}


def _member(row: Member) -> dict[str, object]:
    return {
        "id": row.id,
        "userId": row.id,
        "membershipId": row.id,
        "referralCode": row.code,
        "email": f"{row.id}@example.com",
        "username": row.id,
        "memberOrigin": row.origin,
        "creatorId": row.creator,
        "lifetimeEarnings": row.earned / 100,
        "monthlyEarnings": row.earned / 100,
        "totalReferred": row.total,
        "monthlyReferred": row.month,
        "createdAt": row.created,
        "updatedAt": LONG_AGO,
    }


def _commission(row: Commission) -> dict[str, object]:
    return {
        "id": row.id,
        "whopPaymentId": row.id,
        "whopMembershipId": "mem",
        "saleAmount": row.sale / 100,
        "memberShare": row.shares[0] / 100,
        "creatorShare": row.shares[1] / 100,
        "platformShare": row.shares[2] / 100,
        "paymentType": row.kind,
        "status": "failed" if row.id == "k0" else "paid",
        "memberId": row.member,
        "creatorId": row.creator,
        "createdAt": row.created,
    }


def _refund(row: Refund) -> dict[str, object]:
    return {
        "id": row.id,
        "commissionId": row.commission,
        "refundAmount": row.amount / 100,
        "memberShareReversed": row.member_share / 100,
        "creatorShareReversed": 0.0,
        "platformShareReversed": 0.0,
        "createdAt": row.created,
    }


def _snapshot(row: Snapshot) -> dict[str, object]:
    return {
        "id": f"s {row.member} {row.month}",
        "month": row.month,
        "creatorId": CREATORS[0],
        "memberId": row.member,
        "monthlyReferrals": row.referrals,
        "monthlyEarnings": row.earned / 100,
    }
