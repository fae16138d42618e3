"""Small tables for the reports, and what they say about the source's own numbers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope, Summary
from maintenance_pipelines.systems.benefits import cycles
from maintenance_pipelines.systems.benefits.candidates import (
    FREQUENCIES,
    MOST_OCCURRENCES,
    options,
)
from maintenance_pipelines.systems.benefits.schema import (
    benefit,
    benefit_status,
    credit_card,
    user,
)

REQUESTED_MONTH = "2025-08"


def by_frequency(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """New statuses for each frequency."""
    frequency = cycles.frequency().label("frequency")
    columns: tuple[sa.ColumnElement[Any], ...] = (frequency, sa.func.count().label("statuses"))
    return (
        sa.select(*columns)
        .select_from(plan.join(benefit, benefit.c.id == plan.c.new_benefitId))
        .group_by(frequency)
        .order_by(sa.desc("statuses"), frequency)
    )


def by_issuer(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """New statuses for each card issuer."""
    cards = plan.join(benefit, benefit.c.id == plan.c.new_benefitId).join(
        credit_card, credit_card.c.id == benefit.c.creditCardId
    )
    return (
        sa.select(credit_card.c.issuer, sa.func.count().label("statuses"))
        .select_from(cards)
        .group_by(credit_card.c.issuer)
        .order_by(sa.desc("statuses"), credit_card.c.issuer)
    )


def affected(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """How many users and benefits get a status."""
    columns: tuple[sa.ColumnElement[Any], ...] = (
        sa.func.count(plan.c.new_userId.distinct()).label("users"),
        sa.func.count(plan.c.new_benefitId.distinct()).label("benefits"),
        sa.func.count().label("statuses"),
    )
    return sa.select(*columns).select_from(plan)


def beside_the_old_counting(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """This plan beside the source request's way of counting.

    It took every cycle that overlaps the month, but looked for statuses only among those that
    start in it: quarters and years that began earlier always seemed to be missing.
    """
    month = scope.month
    began_before = (
        sa.select(sa.func.coalesce(sa.func.sum(benefit.c.occurrencesInCycle), 0))
        .join(credit_card, credit_card.c.id == benefit.c.creditCardId)
        .where(
            cycles.frequency().in_(FREQUENCIES),
            benefit.c.occurrencesInCycle.between(1, MOST_OCCURRENCES),
            cycles.began_before(month, options(scope).fixed_cycles),
        )
        .scalar_subquery()
    )
    planned = sa.select(sa.func.count()).select_from(plan).scalar_subquery()
    number = sa.select(planned.label("planned"), began_before.label("began_before")).cte("number")
    lines = (
        (f"start in {month} and are missing: this plan", number.c.planned),
        (f"began before {month} and only reach into it: not missing", number.c.began_before),
        ("together: announced by the request's counting", number.c.planned + number.c.began_before),
    )
    rows = sa.union_all(
        *(
            sa.select(
                sa.literal(place).label("place"),
                sa.literal(says).label("cycles that"),
                sa.cast(count, sa.BigInteger).label("statuses"),
            )
            for place, (says, count) in enumerate(lines)
        )
    ).subquery("line")
    return sa.select(rows.c["cycles that"], rows.c.statuses).order_by(rows.c.place)


def notes(scope: Scope) -> str:
    """Why the request's estimate for August 2025 differs from the plan; empty otherwise."""
    if scope.partition != REQUESTED_MONTH:
        return ""
    return (
        "The request estimated 1,500 to 3,200 missing statuses for August 2025. It counted every"
        " cycle that overlaps August, also the quarters and years that had begun earlier, but"
        " looked for existing statuses only among those that start in August; so every running"
        " quarter and year was announced as missing. This plan holds the cycles that start in"
        " August and are really absent. Both numbers stand in the table *Beside the request's"
        " counting*."
    )


def statuses_of(scope: Scope, who: str) -> sa.Select[Any]:
    """One user's statuses that touch the month; `who` is an e-mail address or a user's id."""
    person = (
        sa.func.lower(user.c.email) == who.strip().lower()
        if "@" in who
        else user.c.id == who.strip()
    )
    columns = (
        credit_card.c.name.label("card"),
        benefit.c.description.label("benefit"),
        cycles.frequency().label("frequency"),
        benefit_status.c.cycleStartDate.label("cycle start"),
        benefit_status.c.cycleEndDate.label("cycle end"),
        benefit_status.c.occurrenceIndex.label("occurrence"),
        benefit_status.c.isCompleted.label("completed"),
        benefit_status.c.isNotUsable.label("not usable"),
        benefit_status.c.createdAt.label("created"),
    )
    return (
        sa.select(*columns)
        .select_from(benefit_status)
        .join(user, user.c.id == benefit_status.c.userId)
        .join(benefit, benefit.c.id == benefit_status.c.benefitId)
        .outerjoin(credit_card, credit_card.c.id == benefit.c.creditCardId)
        .where(
            person,
            benefit_status.c.cycleStartDate < cycles.moment(scope.month.end),
            benefit_status.c.cycleEndDate >= cycles.start(scope.month),
        )
        .order_by(
            credit_card.c.name,
            benefit.c.description,
            benefit.c.id,
            benefit_status.c.cycleStartDate,
            benefit_status.c.occurrenceIndex,
        )
    )


SUMMARIES = (
    Summary("New statuses by frequency", by_frequency),
    Summary("New statuses by card issuer", by_issuer),
    Summary("Users and benefits affected", affected),
    Summary("Beside the request's counting", beside_the_old_counting),
)
