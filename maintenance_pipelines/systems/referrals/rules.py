"""The eight consistency rules.

They hold at any time, whoever writes. Of the running month the counters are judged, of a past
month its snapshots: that is the only difference, and `claims.py` makes it. The rules on splits,
codes and origins are of all rows, whatever the month.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.consistency import ConsistencyRule
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.claims import claims
from maintenance_pipelines.systems.referrals.options import month_asked, options
from maintenance_pipelines.systems.referrals.schema import commission, member

Condition = sa.ColumnElement[bool]

referrer = member.alias("referrer")
namesake = member.alias("namesake")


def sum_differs(scope: Scope) -> sa.Select[Any]:
    """Where the sum is wrong: the members whose count is not that of the records.

    Members that a past month has no snapshot of are warnings: of them nothing is said. Counts
    that are wrong one by one and right together are recalculation's to find.
    """
    month = month_asked(scope)
    counted = claims(scope).subquery("counted")
    claimed = sa.select(sa.func.coalesce(sa.func.sum(counted.c.referrals), 0)).scalar_subquery()
    recorded = truth.referrals(month).scalar_subquery()
    figure = sa.select(claimed.label("claimed"), recorded.label("recorded")).cte("figure")
    # Asked once, before any row is read for the list.
    differs = sa.select(figure.c.claimed != figure.c.recorded).scalar_subquery()

    claim = claims(scope).subquery("claim")
    by_code = truth.referrals_by_code(month).subquery("by_code")
    real = sa.func.coalesce(by_code.c.referrals, 0)
    unclaimed = claim.c.referrals.is_(None)
    wrong = (
        sa.select(
            claim.c.id,
            sa.case(
                (unclaimed, sa.func.format("no snapshot, records %s", real)),
                else_=sa.func.format("counted %s, records %s", claim.c.referrals, real),
            ).label("detail"),
            sa.case((unclaimed, "warning"), else_="error").label("severity"),
        )
        .select_from(claim.outerjoin(by_code, by_code.c.code == claim.c.code))
        .where(differs, sa.func.coalesce(claim.c.referrals, 0) != real)
        .cte("wrong")
    )
    # With two holders of one code, the sum can be wrong and nobody's own count.
    nobody = sa.select(
        sa.literal(str(month)),
        sa.func.format("counted %s, records %s", figure.c.claimed, figure.c.recorded),
        sa.literal("error"),
    ).where(differs, ~sa.exists(sa.select(wrong.c.id)))
    everyone = sa.union_all(sa.select(wrong), nobody).subquery("everyone")
    return sa.select(everyone)


def month_above_total(scope: Scope) -> sa.Select[Any]:
    """Members with more referrals in the month than in all."""
    claim = claims(scope).subquery("claim")
    detail = sa.func.format("%s in the month, %s in all", claim.c.referrals, claim.c.total)
    return sa.select(claim.c.id, detail.label("detail")).where(claim.c.referrals > claim.c.total)


def negative(scope: Scope) -> sa.Select[Any]:
    """Members with a negative number; a warning where the records themselves come to less than 0.

    That can only be earnings: a refund of what was earned in an earlier month.
    """
    claim = claims(scope).subquery("claim")
    owes = sa.func.round(claim.c.earnings * 100) < 0  # not by the noise of adding doubles up
    counts = sa.or_(claim.c.referrals < 0, claim.c.total < 0)
    found = sa.select(claim, counts.label("counts")).where(sa.or_(counts, owes)).cte("negative")
    chosen = options(scope)
    records = truth.members(
        month_asked(scope), ignore_refunds=chosen.ignore_refunds, among=found
    ).subquery("records")
    in_order = sa.and_(sa.func.coalesce(found.c.counts, sa.false()).is_(False), records.c.cents < 0)
    return sa.select(
        found.c.id,
        sa.func.format(
            "%s referrals in the month, %s in all; earnings %s, records %s",
            found.c.referrals,
            found.c.total,
            _to_the_cent(found.c.earnings),
            _to_the_cent(truth.amount(records.c.cents)),
        ).label("detail"),
        sa.case((in_order, "warning"), else_="error").label("severity"),
    ).select_from(found.join(records, records.c.id == found.c.id))


def split_differs(scope: Scope) -> sa.Select[Any]:
    """Commissions whose three shares do not add up to the sale.

    Adding up whole cents in doubles errs by far less than half a cent (below ten thousand million),
    so the difference rounded to the cent is exact. What is no number is never in order.
    """
    c = commission.c
    missing = sa.func.round((c.memberShare + c.creatorShare + c.platformShare - c.saleAmount) * 100)
    # Of an inequality the planner expects every row, of this one few, and then it reads the table
    # with several processes.
    some = sa.func.least(sa.func.abs(missing), 1) == 1
    shares = [_to_the_cent(c[name]) for name in ("memberShare", "creatorShare", "platformShare")]
    detail = sa.func.format("%s + %s + %s, not %s", *shares, _to_the_cent(c.saleAmount))
    return sa.select(c.id, detail.label("detail")).where(some)


def earnings_differ(scope: Scope) -> sa.Select[Any]:
    """Members whose earnings of the month are more than a cent from those of the records."""
    claim = claims(scope).subquery("claim")
    earned = truth.earnings(month_asked(scope), options(scope).ignore_refunds).subquery("earned")
    real = sa.func.coalesce(earned.c.cents, 0)
    detail = sa.func.format(
        "%s, records %s",
        sa.func.coalesce(sa.cast(_to_the_cent(claim.c.earnings), sa.Text), "no snapshot"),
        _to_the_cent(truth.amount(real)),
    )
    apart = sa.func.abs(sa.func.coalesce(claim.c.earnings, 0) * 100 - real)
    return (
        sa.select(claim.c.id, detail.label("detail"))
        .select_from(claim.outerjoin(earned, earned.c.id == claim.c.id))
        .where(apart > A_CENT)
    )


def code_shared(scope: Scope) -> sa.Select[Any]:
    """Members whose code somebody else has too; a warning where only capitals set them apart."""
    folded = sa.func.lower(member.c.referralCode)
    shared = (
        sa.select(folded.label("code"))
        .group_by(folded)
        .having(sa.func.count() > 1)
        .subquery("shared")
    )
    others = namesake.c.id != member.c.id
    same = sa.exists().where(namesake.c.referralCode == member.c.referralCode, others)
    return sa.select(
        member.c.id,
        sa.case(
            (same, "somebody else has the same code"),
            else_="somebody else has this code in other capitals",
        ).label("detail"),
        sa.case((same, "error"), else_="warning").label("severity"),
    ).select_from(member.join(shared, shared.c.code == folded))


def organic_with_referrer(scope: Scope) -> sa.Select[Any]:
    """Members who came by themselves and have a referrer."""
    detail = sa.literal("organic, and referred by somebody").label("detail")
    return sa.select(member.c.id, detail).where(
        member.c.memberOrigin == "organic", member.c.referredBy.is_not(None)
    )


def referred_without_referrer(scope: Scope) -> sa.Select[Any]:
    """Referred members without a code, or whose code nobody has."""
    without = member.c.referredBy.is_(None)
    detail = sa.case((without, "has no referrer"), else_="nobody has its referrer's code")
    return (
        sa.select(member.c.id, detail.label("detail"))
        .select_from(member.outerjoin(referrer, referrer.c.referralCode == member.c.referredBy))
        .where(member.c.memberOrigin == "referred", referrer.c.id.is_(None))
    )


A_CENT = 1.0 + 1e-6
"""What earnings may be off, in cents: a cent, and the noise of a double."""

RULES = (
    ConsistencyRule(
        "monthly_sum_equals_referrals",
        "The members' referrals of the month add up to those who were referred in it",
        sum_differs,
    ),
    ConsistencyRule(
        "no_month_above_total",
        "Nobody has more referrals in the month than in all",
        month_above_total,
    ),
    ConsistencyRule(
        "no_negative_values",
        "No referrals or earnings are negative, unless refunds made the records so",
        negative,
    ),
    ConsistencyRule(
        "splits_add_up",
        "The three shares of every commission add up to the sale, to the cent",
        split_differs,
    ),
    ConsistencyRule(
        "earnings_equal_records",
        "Every member's earnings of the month are those of the records, within a cent",
        earnings_differ,
        "warning",
    ),
    ConsistencyRule(
        "referral_codes_unique",
        "No two members have the same code, nor one that differs in capitals only",
        code_shared,
    ),
    ConsistencyRule(
        "organic_without_referrer",
        "Nobody who came by themselves has a referrer",
        organic_with_referrer,
    ),
    ConsistencyRule(
        "referred_with_referrer",
        "Everybody who was referred has a referrer, and that code exists",
        referred_without_referrer,
        "warning",
    ),
)


def _to_the_cent(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.round(sa.cast(value, sa.Numeric), 2)
