"""The report of a reset before it is carried out: what counters say beside what records say."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope, Summary
from maintenance_pipelines.systems.referrals.open_months import ARCHIVED, RUNNING, WAS
from maintenance_pipelines.systems.referrals.subjects import Counter, Element, Subject

MOST = 10
"""Rows of a table of the largest differences."""


def summaries(subject: Subject) -> tuple[Summary, ...]:
    """The tables for members, or for creators."""

    def sums(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
        return _together([_sums(scope, plan, counter) for counter in subject.counters])

    def apart(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
        return _together([_apart(plan, counter) for counter in subject.counters])

    return (
        Summary(f"Counters of {subject.says} beside the records", sums),
        Summary(f"Counters of {subject.says} that are furthest from the records", apart),
    )


def _sums(scope: Scope, plan: sa.FromClause, counter: Counter) -> sa.Select[Any]:
    was, archived, running = _numbers(plan, counter)
    differs = counter.differs(plan.c[WAS + counter.column], plan.c[ARCHIVED + counter.fact])
    columns: tuple[Element, ...] = (
        sa.literal(counter.column).label("counter"),
        sa.func.count().label("rows"),
        sa.func.sum(was).label("counters say"),
        sa.func.sum(archived).label(f"records of {scope.month}"),
        sa.func.count().filter(differs).label("rows that differ"),
        sa.func.sum(running).filter(plan.c.renew).label("from now on"),
    )
    return sa.select(*columns).select_from(plan)


def _apart(plan: sa.FromClause, counter: Counter) -> sa.Select[Any]:
    was, archived, running = _numbers(plan, counter)
    differs = counter.differs(plan.c[WAS + counter.column], plan.c[ARCHIVED + counter.fact])
    return (
        sa.select(
            plan.c.id,
            sa.literal(counter.column).label("counter"),
            was.label("says"),
            archived.label("archived"),
            sa.case((plan.c.renew, running)).label("from now on"),
        )
        .where(differs)
        .order_by(sa.func.abs(was - archived).desc().nulls_last(), plan.c.id)
        .limit(MOST)
    )


def _numbers(plan: sa.FromClause, counter: Counter) -> tuple[Element, Element, Element]:
    """What the counter says, what the records of the month say, and those of the running one."""
    facts = (ARCHIVED + counter.fact, RUNNING + counter.fact)
    archived, running = (sa.cast(plan.c[fact], sa.Numeric) for fact in facts)
    was = sa.cast(plan.c[WAS + counter.column], sa.Numeric)
    if not counter.is_money:
        return was, archived, running
    return sa.func.round(was, 2), sa.func.round(archived / 100, 2), sa.func.round(running / 100, 2)


def _together(tables: list[sa.Select[Any]]) -> sa.Select[Any]:
    return sa.select(sa.union_all(*(sa.select(t.subquery()) for t in tables)).subquery())
