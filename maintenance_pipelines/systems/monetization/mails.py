"""What this system puts into the outbox: whom a mail is to, by id, about what, and until when."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.engine.units import Work
from maintenance_pipelines.systems.monetization.schema import instant

TRIAL_REMINDER, TIER_EXPIRED = "trial_reminder", "tier_expired"

Element = sa.ColumnElement[Any]


def told(kind: str, stage: Element | str, subject: Element, deadline: Element) -> Element:
    """Whether the outbox has this mail already, whatever has become of it."""
    return sa.exists().where(
        outbox.c.kind == kind,
        outbox.c.stage == stage,
        outbox.c.subject == subject,
        outbox.c.deadline == deadline,
    )


def mail(
    work: Work, id_: Element, kind: str, stage: Element, subject: Element, deadline: Element
) -> sa.Select[Any]:
    """The outbox's row of each unit."""
    return sa.select(
        work.units.c.position,
        id_.label("new_id"),
        sa.literal(kind).label("new_kind"),
        stage.label("new_stage"),
        subject.label("new_subject"),
        deadline.label("new_deadline"),
        sa.literal("pending").label("new_state"),
        sa.literal(0).label("new_attempts"),
        instant(work.scope.as_of).label("new_next_attempt_at"),
        sa.literal(work.run_id).label("new_run_id"),
    )
