"""`"MonthlySnapshot"`: the row that archives a month of one member or creator."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

from maintenance_pipelines.engine.identifiers import cuid_of
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.units import Work
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.schema import monthly_snapshot
from maintenance_pipelines.systems.referrals.subjects import Subject


def snapshots_of(subject: Subject, month: Month, among: sa.FromClause | None) -> sa.CTE:
    """The month's snapshots of members, or of creators; with `among`, of those with its ids.

    Of each creator it is one, the first: nothing keeps a creator's from doubling. They are read
    once, before anything is joined to them: the planner, which sees an empty table while batches
    are filling it, would otherwise read the table anew for every row.
    """
    s = monthly_snapshot.c
    whose = s.memberId if subject.is_member else s.creatorId
    found = sa.select(monthly_snapshot).where(s.month == str(month))
    if among is not None:
        found = found.where(whose.in_(sa.select(among.c.id)))
    if subject.is_member:
        found = found.where(s.memberId.is_not(None))
    else:
        first = found.where(s.memberId.is_(None)).ext(distinct_on(s.creatorId))
        found = first.order_by(s.creatorId, s.createdAt, s.id)
    return found.cte().prefix_with("MATERIALIZED")


def new_snapshots(
    subject: Subject, work: Work, prefix: str, when: sa.ColumnElement[bool]
) -> sa.Select[Any]:
    """New snapshots of the scope's month for the units of which `when` holds.

    Their numbers are the facts named with the prefix; what the subject has no number for is 0.
    """
    facts = work.units.c
    numbers = {c.archived: c.value(facts[prefix + c.fact]) for c in subject.archived}
    columns = monthly_snapshot.c
    for name in ("monthlyReferrals", "monthlyEarnings", "monthlyRevenue"):
        numbers.setdefault(name, sa.cast(sa.literal(0), columns[name].type))
    whose = facts.id if subject.is_member else sa.cast(sa.null(), sa.Text)
    return sa.select(
        facts.position,
        cuid_of(work, f"snapshot of {subject.name}").label("new_id"),
        sa.literal(str(work.scope.month), sa.Text).label("new_month"),
        facts.creatorId.label("new_creatorId"),
        whose.label("new_memberId"),
        *(value.label(f"new_{name}") for name, value in numbers.items()),
        truth.moment(work.scope.naive_as_of).label("new_createdAt"),
    ).where(when)
