"""The job: whoever's trial is about to end is reminded once, and once more on the last day.

Nothing is sent here: the reminder is put into the outbox, and sent from there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.identifiers import uuid_of
from maintenance_pipelines.engine.job import AssetNames, Job, Scope, Summary
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.engine.units import Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows
from maintenance_pipelines.systems.monetization.mails import TRIAL_REMINDER, mail, told
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.results import stamped
from maintenance_pipelines.systems.monetization.schema import TRIAL, instant, relied_on, users

WITHIN_THREE_DAYS, WITHIN_ONE_DAY = "three_days", "one_day"
FIRST, URGENT = timedelta(days=3), timedelta(days=1)


def reminders(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Every trial that ends within three days, with the one stage that it is in.

    So whoever is first seen within the last day gets the more urgent reminder only. An end is
    within a time when it comes after now and not after that time.
    """
    ends = users.c.trial_ends_at
    stage: sa.ColumnElement[str] = sa.case(
        (ends <= instant(scope.as_of + URGENT), WITHIN_ONE_DAY), else_=WITHIN_THREE_DAYS
    )
    trial = sa.select(
        users.c.id.label("user_id"),
        sa.cast(users.c.id, sa.Text).label("subject"),
        sa.cast(stage, sa.Text).label("stage"),
        ends.label("deadline"),
    ).where(
        users.c.tier_source == TRIAL,
        ends > instant(scope.as_of),
        ends <= instant(scope.as_of + FIRST),
    )
    if among is not None:
        trial = trial.join(among, among.c.user_id == users.c.id)
    found = trial.subquery("trial")
    told_already = told(TRIAL_REMINDER, found.c.stage, found.c.subject, found.c.deadline)
    return sa.select(found, sa.case((told_already, "already_told")).label("reason"))


def queued(work: Work) -> sa.Select[Any]:
    """Each reminder's place in the outbox."""
    unit = work.units.c
    return mail(
        work,
        uuid_of(work, TRIAL_REMINDER),
        TRIAL_REMINDER,
        unit.stage,
        unit.subject,
        unit.deadline,
    )


def no_longer_pending(work: Work) -> sa.Select[Any]:
    """Reminders that cannot be withdrawn: sent, or perhaps sent, or settled otherwise."""
    unit = work.units.c
    return (
        sa.select(unit.position, (sa.literal("was_") + outbox.c.state).label("reason"))
        .join_from(
            work.units,
            outbox,
            sa.and_(
                outbox.c.kind == TRIAL_REMINDER,
                outbox.c.stage == unit.stage,
                outbox.c.subject == unit.subject,
                outbox.c.deadline == unit.deadline,
            ),
        )
        .where(outbox.c.state != "pending")
    )


def by_stage(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """Reminders for each stage."""
    return (
        sa.select(plan.c.stage, sa.func.count().label("reminders"))
        .group_by(plan.c.stage)
        .order_by(plan.c.stage)
    )


trial_reminder = Job(
    name="trial_reminder",
    system="monetization",
    says="Whoever's trial ends within three days, or one, has a reminder in the outbox",
    assets=AssetNames(
        detected="due_trial_reminders",
        materialized="queued_trial_reminders",
        verified="verified_trial_reminders",
    ),
    schedule="0 9 * * *",
    # In the night, hours before the next one, a reminder helps nobody.
    made_up_within=timedelta(hours=12),
    options=MonetizationOptions,
    relies_on=(relied_on(users, "id", "tier_source", "trial_ends_at"),),
    change=Units(
        parts=(
            Part(
                name="reminder",
                says="reminders",
                key="user_id",
                due=reminders,
                writes=(InsertRows(outbox, queued, kept=("attempts", "next_attempt_at")),),
                # Nothing of the app's is written, so nothing is locked; whether the trial is
                # still about to end is asked again before the mail is sent.
                locks=(),
                done=frozenset({"already_told"}),
                stays=no_longer_pending,
                summaries=(Summary("Reminders by stage", by_stage),),
            ),
        )
    ),
    result=lambda outcome: stamped(outcome.scope, processed=outcome.applied["reminder"]),
)
