"""What the records say of a month: referrals, earnings and revenue, as SQL.

The rules are in docs/referrals.md ("The truth of a month"). A month is [start, next start) in
UTC. Amounts become whole cents row by row, and only cents are added up. All times are naive UTC,
as the app stores them: no expression here depends on the session's time zone.

Every statement has two forms that say the same. Over everybody it reads each table once; of a few
it looks each one up by index. With `among`, a relation with a column `id`, the server takes the
form that costs less. Neither form turns into something worse where the planner's statistics are
older than the rows of the running month.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals.schema import (
    MOMENT,
    commission,
    creator,
    member,
    refund,
)

Cents = sa.ColumnElement[int]
Within = Callable[[Month, sa.ColumnElement[Any]], sa.ColumnElement[bool]]

MANY = 20
"""One in so many: for fewer, looking them up takes fewer pages than reading the month."""

referral = member.alias("referral")
"""A member as somebody's referral."""
referrer = member.alias("referrer")
"""A member as the one whose code was used."""


def moment(when: datetime) -> sa.ColumnElement[Any]:
    """A naive UTC time as SQL, of the type that the app's columns have."""
    return sa.cast(sa.literal(when, MOMENT), MOMENT)


def within(month: Month, created: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether something was created in the month."""
    return sa.and_(created >= moment(month.start), created < moment(month.end))


def within_unforeseen(month: Month, created: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """As `within`, with bounds that the planner does not see.

    For lookups by somebody's id. The planner must not take a month for empty because it began
    after the statistics were made, and read all of it for each one.
    """
    start, end = (sa.select(moment(when)).scalar_subquery() for when in (month.start, month.end))
    return sa.and_(created >= start, created < end)


def cents(amount: sa.ColumnElement[float]) -> Cents:
    """An amount as whole cents, exactly; a fraction of a cent goes to the nearest.

    The double that stands for an amount of whole cents is the nearest there is, so rounding the
    product finds them, at a quarter of the price of NUMERIC. What is no number is refused.
    """
    return sa.cast(_whole(amount), sa.BigInteger)


def amount(of_cents: sa.ColumnElement[int]) -> sa.ColumnElement[float]:
    """Cents as the app's columns store money: the double next to the decimal amount."""
    hundred: sa.ColumnElement[float] = sa.literal_column("100::double precision")
    return sa.cast(sa.cast(of_cents, DOUBLE_PRECISION) / hundred, DOUBLE_PRECISION)


def members(
    month: Month, *, ignore_refunds: bool = False, among: sa.FromClause | None = None
) -> sa.Select[Any]:
    """Each member's `id`, and its `referrals` and earned `cents` of the month (both bigint)."""
    referred = referrals_by_code(month).subquery("referred")
    earned = earnings(month, ignore_refunds).subquery("earned")
    everybody = sa.select(
        member.c.id,
        _or_zero(referred.c.referrals).label("referrals"),
        _or_zero(earned.c.cents).label("cents"),
    ).select_from(
        member.outerjoin(referred, referred.c.code == member.c.referralCode).outerjoin(
            earned, earned.c.id == member.c.id
        )
    )
    if among is None:
        return everybody
    return _of_some(member, everybody, _members_looked_up(month, ignore_refunds, among), among)


def creators(
    month: Month, *, ignore_refunds: bool = False, among: sa.FromClause | None = None
) -> sa.Select[Any]:
    """Each creator's `id`, and its `referrals` and revenue in `cents` of the month (bigint)."""
    referred = _referrals_by_community(month).group_by(referral.c.creatorId).subquery("referred")
    revenue = _total(_sales(month, ignore_refunds)).subquery("revenue")
    everybody = sa.select(
        creator.c.id,
        _or_zero(referred.c.referrals).label("referrals"),
        _or_zero(revenue.c.cents).label("cents"),
    ).select_from(
        creator.outerjoin(referred, referred.c.id == creator.c.id).outerjoin(
            revenue, revenue.c.id == creator.c.id
        )
    )
    if among is None:
        return everybody
    return _of_some(creator, everybody, _creators_looked_up(month, ignore_refunds, among), among)


def referrals(month: Month) -> sa.Select[Any]:
    """The number of members created in the month whose `referredBy` is an existing code."""
    return sa.select(sa.func.count()).select_from(referral).where(_was_referred(month))


def referrals_by_code(month: Month) -> sa.Select[Any]:
    """By `code`: the `referrals` that came with it in the month, whatever their origin."""
    code = referral.c.referredBy
    return (
        sa.select(code.label("code"), sa.func.count().label("referrals"))
        .where(code.is_not(None), within(month, referral.c.createdAt))
        .group_by(code)
    )


def earnings(month: Month, ignore_refunds: bool = False) -> sa.Select[Any]:
    """By member's `id`, of those who have any: the `cents` earned less those taken back."""
    return _total(_shares(month, ignore_refunds))


def _of_some(
    table: sa.Table, everybody: sa.Select[Any], looked_up: sa.Select[Any], among: sa.FromClause
) -> sa.Select[Any]:
    """Either form, restricted to some: the condition on their number is evaluated before a row
    is read, and the other form is not carried out.
    """
    asked = sa.select(sa.func.count()).select_from(among.alias()).scalar_subquery()
    a_row: sa.Select[Any] = sa.select(sa.literal_column("tableoid")).select_from(table).limit(1)
    rows = sa.column("reltuples", sa.Float)
    known = sa.select(rows).select_from(sa.table("pg_class", schema="pg_catalog"))
    all_there = known.where(sa.column("oid") == a_row.scalar_subquery()).scalar_subquery()
    many = asked * MANY > all_there
    some = everybody.where(table.c.id.in_(sa.select(among.c.id)), many)
    return sa.select(sa.union_all(some, looked_up.where(~many)).subquery())


def _members_looked_up(month: Month, ignore_refunds: bool, among: sa.FromClause) -> sa.Select[Any]:
    asked = among.alias()
    referred = (
        sa.select(sa.func.count().label("referrals"))
        .where(
            referral.c.referredBy == member.c.referralCode,
            within_unforeseen(month, referral.c.createdAt),
        )
        .correlate(member)
        .lateral("referred")
    )
    earned = _looked_up(_earned(month, within_unforeseen), commission.c.memberId, asked)
    found = (
        asked.join(member, member.c.id == asked.c.id)
        .join(referred, sa.true())
        .join(earned, sa.true())
    )
    cents: Cents = earned.c.cents
    if not ignore_refunds:
        back = _only(_taken_back(month), among).subquery("back")
        found = found.outerjoin(back, back.c.id == asked.c.id)
        cents = cents + _or_zero(back.c.cents)
    return sa.select(asked.c.id, referred.c.referrals, cents.label("cents")).select_from(found)


def _creators_looked_up(month: Month, ignore_refunds: bool, among: sa.FromClause) -> sa.Select[Any]:
    asked = among.alias()
    by_community = _referrals_by_community(month)
    in_theirs = by_community.where(referral.c.creatorId.in_(sa.select(among.c.id)))
    referred = in_theirs.group_by(referral.c.creatorId).subquery("referred")
    revenue = _looked_up(_sold(month, within_unforeseen), commission.c.creatorId, asked)
    found = (
        asked.join(creator, creator.c.id == asked.c.id)
        .join(revenue, sa.true())
        .outerjoin(referred, referred.c.id == asked.c.id)
    )
    cents: Cents = revenue.c.cents
    if not ignore_refunds:
        back = _only(_returned(month), among).subquery("back")
        found = found.outerjoin(back, back.c.id == asked.c.id)
        cents = cents + _or_zero(back.c.cents)
    return sa.select(
        asked.c.id, _or_zero(referred.c.referrals).label("referrals"), cents.label("cents")
    ).select_from(found)


def _referrals_by_community(month: Month) -> sa.Select[Any]:
    """By creator, once grouped: how many came into the community by anybody's code."""
    columns: tuple[sa.ColumnElement[Any], ...] = (
        referral.c.creatorId.label("id"),
        sa.func.count().label("referrals"),
    )
    return sa.select(*columns).where(_was_referred(month))


def _was_referred(month: Month) -> sa.ColumnElement[bool]:
    code_exists = sa.exists().where(referrer.c.referralCode == referral.c.referredBy)
    return sa.and_(within(month, referral.c.createdAt), code_exists)


def _earned(month: Month, when: Within = within) -> sa.Select[Any]:
    """Members' shares of the commissions created in the month, whatever their status."""
    created = when(month, commission.c.createdAt)
    return _amounts(commission.c.memberId, commission.c.memberShare).where(created)


def _taken_back(month: Month) -> sa.Select[Any]:
    """What refunds created in the month took from members, as negative cents."""
    return _of_refunds(commission.c.memberId, refund.c.memberShareReversed, month)


def _sold(month: Month, when: Within = within) -> sa.Select[Any]:
    """The sales of the commissions created in the month."""
    created = when(month, commission.c.createdAt)
    return _amounts(commission.c.creatorId, commission.c.saleAmount).where(created)


def _returned(month: Month) -> sa.Select[Any]:
    """What refunds created in the month took from sales, as negative cents."""
    return _of_refunds(commission.c.creatorId, refund.c.refundAmount, month)


def _shares(month: Month, ignore_refunds: bool) -> tuple[sa.Select[Any], ...]:
    return (_earned(month),) if ignore_refunds else (_earned(month), _taken_back(month))


def _sales(month: Month, ignore_refunds: bool) -> tuple[sa.Select[Any], ...]:
    return (_sold(month),) if ignore_refunds else (_sold(month), _returned(month))


def _amounts(whose: sa.Column[str], value: sa.Column[float]) -> sa.Select[Any]:
    columns: tuple[sa.ColumnElement[Any], ...] = (whose.label("id"), _whole(value).label("cents"))
    return sa.select(*columns)


def _of_refunds(whose: sa.Column[str], value: sa.Column[float], month: Month) -> sa.Select[Any]:
    # One look at the primary key for each; for a join the planner would read all commissions.
    owner = sa.select(whose).where(commission.c.id == refund.c.commissionId).scalar_subquery()
    columns: tuple[sa.ColumnElement[Any], ...] = (
        owner.label("id"),
        (-_whole(value)).label("cents"),
    )
    return sa.select(*columns).where(within(month, refund.c.createdAt))


def _total(amounts: tuple[sa.Select[Any], ...]) -> sa.Select[Any]:
    """Amounts by `id`, added up: each kind for itself, which several processes can share."""
    every = sa.union_all(*map(_by_owner, amounts)).subquery("every")
    return sa.select(every.c.id, _sum(every.c.cents).label("cents")).group_by(every.c.id)


def _by_owner(amounts: sa.Select[Any]) -> sa.Select[Any]:
    each = amounts.subquery("each")
    return sa.select(each.c.id, sa.func.sum(each.c.cents).label("cents")).group_by(each.c.id)


def _looked_up(
    amounts: sa.Select[Any], whose: sa.Column[str], asked: sa.FromClause
) -> sa.FromClause:
    """The total of one owner's; a lateral aggregate can't become a scan of the table."""
    mine = amounts.where(whose == asked.c.id).correlate(asked).subquery("mine")
    return sa.select(_or_zero(_sum(mine.c.cents)).label("cents")).lateral("looked_up")


def _only(amounts: sa.Select[Any], among: sa.FromClause) -> sa.Select[Any]:
    """The totals of those asked for, together.

    Not looked up one by one: the app promises no index on a refund's commission.
    """
    every = amounts.subquery("every")
    mine = sa.select(every).where(every.c.id.in_(sa.select(among.c.id)))
    return _total((mine,))


def _whole(value: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    return sa.func.round(value * 100)


def _sum(whole: sa.ColumnElement[float]) -> Cents:
    # Whole numbers in doubles add up exactly, to ninety million million and in any order. Bigints
    # would too, at half again the price: PostgreSQL adds them up as NUMERIC.
    return sa.cast(sa.func.sum(whole), sa.BigInteger)


def _or_zero(value: sa.ColumnElement[int]) -> Cents:
    return sa.func.coalesce(value, 0)
