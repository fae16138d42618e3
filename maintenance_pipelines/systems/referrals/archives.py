"""Reports on what has been archived and changed: `"MonthlySnapshot"` and `"AuditLog"`.

Each is a select, so that it can be read as a table, and `markdown` makes it one for people.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.tables import table
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.schema import (
    audit_log,
    creator,
    member,
    monthly_snapshot,
)

MOST = 500
"""Rows of a table for people."""

snapshot = monthly_snapshot.c


def of_member(member_id: str) -> sa.Select[Any]:
    """A member's archived months, the latest first."""
    return (
        sa.select(
            snapshot.month,
            snapshot.monthlyReferrals.label("referrals"),
            _money(snapshot.monthlyEarnings).label("earnings"),
            snapshot.createdAt.label("archived at"),
        )
        .where(snapshot.memberId == member_id)
        .order_by(snapshot.month.desc())
    )


def of_creator(creator_id: str) -> sa.Select[Any]:
    """A creator's archived months, the latest first, beside the sums of its members'."""
    members = (
        sa.select(
            snapshot.month,
            sa.func.count().label("members"),
            sa.func.sum(snapshot.monthlyReferrals).label("referrals"),
            sa.func.sum(truth.cents(snapshot.monthlyEarnings)).label("cents"),
        )
        .where(snapshot.creatorId == creator_id, snapshot.memberId.is_not(None))
        .group_by(snapshot.month)
        .subquery("members")
    )
    return (
        sa.select(
            snapshot.month,
            snapshot.monthlyReferrals.label("referrals"),
            _money(snapshot.monthlyRevenue).label("revenue"),
            members.c.members.label("members archived"),
            members.c.referrals.label("their referrals"),
            _money(members.c.cents / 100).label("their earnings"),
            snapshot.createdAt.label("archived at"),
        )
        .select_from(monthly_snapshot.outerjoin(members, members.c.month == snapshot.month))
        .where(snapshot.creatorId == creator_id, snapshot.memberId.is_(None))
        .order_by(snapshot.month.desc())
    )


def of_month(month: Month) -> sa.Select[Any]:
    """A month's archive by community: its own snapshot, and those of its members."""
    of_creators = snapshot.memberId.is_(None)
    earned = sa.func.sum(truth.cents(snapshot.monthlyEarnings)).filter(~of_creators)
    return (
        sa.select(
            creator.c.companyName.label("community"),
            sa.func.count().filter(of_creators).label("snapshots"),
            sa.func.sum(snapshot.monthlyReferrals).filter(of_creators).label("referrals"),
            _money(sa.func.sum(snapshot.monthlyRevenue).filter(of_creators)).label("revenue"),
            sa.func.count().filter(~of_creators).label("members archived"),
            sa.func.sum(snapshot.monthlyReferrals).filter(~of_creators).label("their referrals"),
            _money(earned / 100).label("their earnings"),
        )
        .select_from(monthly_snapshot.join(creator, creator.c.id == snapshot.creatorId))
        .where(snapshot.month == str(month))
        .group_by(creator.c.id, creator.c.companyName)
        .order_by(creator.c.companyName, creator.c.id)
    )


def coverage(month: Month) -> sa.Select[Any]:
    """One row: `due`, the members there before the month ended, and `archived` of these.

    A month that was never reset has nobody archived.
    """
    archived = sa.exists().where(
        snapshot.month == str(month),
        snapshot.memberId == member.c.id,
        snapshot.creatorId == member.c.creatorId,
    )
    columns: tuple[sa.ColumnElement[Any], ...] = (
        sa.func.count().label("due"),
        sa.func.count().filter(archived).label("archived"),
    )
    return (
        sa.select(*columns).select_from(member).where(member.c.createdAt < truth.moment(month.end))
    )


def changes(month: Month | None) -> sa.Select[Any]:
    """The audit log counted by entity, field, cause and month of the change, or of one month."""
    log = audit_log.c
    in_month = sa.func.to_char(log.createdAt, "YYYY-MM")
    wanted = [] if month is None else [truth.within(month, log.createdAt)]
    return (
        sa.select(
            in_month.label("month"),
            log.entity,
            log.field,
            log.triggeredBy.label("cause"),
            sa.func.count().label("changes"),
            sa.func.count(log.entityId.distinct()).label("entities"),
            sa.func.min(log.createdAt).label("first"),
            sa.func.max(log.createdAt).label("last"),
        )
        .where(*wanted)
        .group_by(in_month, log.entity, log.field, log.triggeredBy)
        .order_by(in_month.desc(), log.entity, log.field, log.triggeredBy)
    )


def changes_of(subject: str) -> sa.Select[Any]:
    """Every change of one member or creator, the latest first."""
    log = audit_log.c
    return (
        sa.select(
            log.createdAt.label("at"),
            log.field,
            log.oldValue.label("from"),
            log.newValue.label("to"),
            log.triggeredBy.label("cause"),
        )
        .where(log.entityId == subject)
        .order_by(log.createdAt.desc(), log.id.desc())
    )


def markdown(connection: sa.Connection, title: str, report: sa.Select[Any]) -> str:
    """A report as a table for people, its first rows where it is long."""
    rows = connection.execute(report.limit(MOST))
    return table(title, list(rows.keys()), rows)


def _money(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.round(sa.cast(value, sa.Numeric), 2)
