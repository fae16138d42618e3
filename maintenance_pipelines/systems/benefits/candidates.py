"""Every status that should exist for a month, compared with what is there: one statement.

`cycles.py` says which cycle of a benefit starts in the month, `_pairs` here why a pair of
benefit and user gets no status, `overlaps.py` what stands in the way of one that it should get.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.benefits import cycles, overlaps
from maintenance_pipelines.systems.benefits.options import BenefitsOptions
from maintenance_pipelines.systems.benefits.overlaps import Columns
from maintenance_pipelines.systems.benefits.schema import benefit, benefit_status, credit_card

KEY = ("benefitId", "userId", "cycleStartDate", "occurrenceIndex")
SUBJECT = ("benefitId", "userId", "occurrenceIndex")
"""What statuses are held against each other within."""

FREQUENCIES = ("MONTHLY", "QUARTERLY", "YEARLY")
MOST_OCCURRENCES = 366
NOTHING: sa.ColumnElement[int] = sa.literal_column("0")
"""As a subquery's offset it keeps the planner from repeating expressions wherever a column of
the subquery is used."""


def candidates(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """The key, `cycleEndDate` and `reason` of every candidate; `reason` is NULL where it is due.

    The first eight reasons have one row for each pair of benefit and user, the others one for
    each status. With `among`, a relation with the key's columns, only its keys are looked at,
    and those left out that are no cycle's of this month.
    """
    return _everywhere(scope) if among is None else _among(scope, among)


def options(scope: Scope) -> BenefitsOptions:
    """The scope's options as this system's."""
    return BenefitsOptions.model_validate(scope.options.model_dump())


def _everywhere(scope: Scope) -> sa.Select[Any]:
    """By one scan of each table, and hash joins."""
    pair = _pairs(scope).subquery("pair")
    last = sa.case((pair.c.reason.is_(None), pair.c.occurrencesInCycle - 1), else_=0)
    occurrence = sa.func.generate_series(0, last).label("occurrenceIndex")
    every = sa.select(pair, occurrence).subquery("every")
    # Always so; without it the planner expects a thousand occurrences of each.
    possible = every.c.occurrenceIndex.between(0, MOST_OCCURRENCES)
    new = sa.select(every).where(possible).subquery("new")
    subject = [benefit_status.c[name] for name in SUBJECT]
    existing = overlaps.existing(scope.month).add_columns(*subject).group_by(*subject)
    there = existing.subquery("there")
    return sa.select(
        new.c.benefitId,
        new.c.userId,
        cycles.start(scope.month).label("cycleStartDate"),
        new.c.occurrenceIndex,
        new.c.cycleEndDate,
        _reason(scope, new.c, new.c, there.c).label("reason"),
    ).select_from(new.outerjoin(there, _same_subject(new.c, there.c)))


def _among(scope: Scope, among: sa.FromClause) -> sa.Select[Any]:
    """By the tables' indexes: a lateral subquery with a limit or an aggregate can't be a scan."""
    asked = among.alias("asked")
    pair = _pairs(scope, asked).limit(1).lateral("pair")
    same_subject = _same_subject(asked.c, benefit_status.c)
    there = overlaps.existing(scope.month).where(same_subject).lateral("there")
    return (
        sa.select(
            *(asked.c[name] for name in KEY),
            pair.c.cycleEndDate,
            _reason(scope, pair.c, asked.c, there.c).label("reason"),
        )
        .select_from(asked.join(pair, sa.true()).join(there, sa.true()))
        .where(
            pair.c.userId == asked.c.userId,
            asked.c.cycleStartDate == cycles.start(scope.month),
            asked.c.occurrenceIndex >= 0,
            asked.c.occurrenceIndex < pair.c.occurrencesInCycle,
        )
    )


def _pairs(scope: Scope, asked: sa.FromClause | None = None) -> sa.Select[Any]:
    """Each benefit with its card's user, its cycle's end, and why it has no status, or NULL."""
    month, chosen = scope.month, options(scope)
    cycle = _cycles(month, chosen.fixed_cycles, asked).subquery("cycle")
    start, end = cycles.start(month), cycle.c.cycleEndDate
    created_after = cycle.c.createdAt > end
    reason = sa.case(
        (sa.or_(~cycle.c.in_scope, cycle.c.userId.is_(None)), "out_of_scope"),
        (cycle.c.has_no_anniversary, "no_opened_date"),
        (end.is_(None), "no_cycle_starts"),
        (cycle.c.endDate < start, "expired"),
        (cycle.c.startDate > end, "not_started"),
        (
            sa.false() if chosen.include_created_after_cycle else created_after,
            "created_after_cycle",
        ),
        (cycle.c.openedDate > end, "card_not_open"),
        (~cycle.c.occurrencesInCycle.between(1, MOST_OCCURRENCES), "invalid_occurrences"),
        else_=sa.null(),
    )
    return sa.select(
        cycle.c.benefitId,
        cycle.c.userId,
        cycle.c.occurrencesInCycle,
        end,
        sa.cast(reason, sa.Text).label("reason"),
    ).offset(NOTHING)


def _cycles(month: Month, fixed_cycles: str, asked: sa.FromClause | None) -> sa.Select[Any]:
    """Each benefit with the end of its cycle, and all that says whether the cycle is due."""
    found = sa.select(
        benefit.c.id.label("benefitId"),
        credit_card.c.userId,
        credit_card.c.openedDate,
        benefit.c.startDate,
        benefit.c.endDate,
        benefit.c.occurrencesInCycle,
        sa.func.greatest(benefit.c.createdAt, credit_card.c.createdAt).label("createdAt"),
        cycles.frequency().in_(FREQUENCIES).label("in_scope"),
        cycles.has_no_anniversary().label("has_no_anniversary"),
        cycles.end(month, fixed_cycles).label("cycleEndDate"),
    ).select_from(benefit.outerjoin(credit_card, credit_card.c.id == benefit.c.creditCardId))
    if asked is not None:
        found = found.where(benefit.c.id == asked.c.benefitId).correlate(asked)
    return found.offset(NOTHING)


def _reason(scope: Scope, pair: Columns, subject: Columns, there: Columns) -> sa.ColumnElement[str]:
    same_subject = _same_subject(subject, benefit_status.c)
    start, end = cycles.start(scope.month), pair.cycleEndDate
    existing = overlaps.reason(there, start, end, same_subject)
    return sa.case((pair.reason.is_not(None), pair.reason), else_=existing)


def _same_subject(left: Columns, right: Columns) -> sa.ColumnElement[bool]:
    return sa.and_(*(left[name] == right[name] for name in SUBJECT))
