"""What this system puts into the outbox: whom a mail is to, by id, and what it is about.

A warning lists several purchases, and each of them is listed once. So beside the mail itself, to
the professional, there is a row for each transaction that it lists, which is never sent.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.engine.units import Work

EXPIRY_WARNING, EXPIRY_LISTED, RESET_NOTE = (
    "credit_expiry_warning",
    "credit_listed",
    "credits_reset",
)
WITHIN_A_WEEK = "seven_days"
PENDING, LISTED = "pending", "listed"

Element = sa.ColumnElement[Any]


def put(
    work: Work,
    id_: Element,
    kind: str,
    stage: str,
    subject: Element,
    deadline: Element,
    state: str = PENDING,
) -> tuple[Element, ...]:
    """The columns of an outbox row."""
    now = sa.literal(work.scope.as_of, sa.TIMESTAMP(timezone=True))
    return (
        id_.label("new_id"),
        sa.literal(kind).label("new_kind"),
        sa.literal(stage).label("new_stage"),
        subject.label("new_subject"),
        deadline.label("new_deadline"),
        sa.literal(state).label("new_state"),
        sa.literal(0).label("new_attempts"),
        now.label("new_next_attempt_at"),
        sa.literal(work.run_id).label("new_run_id"),
    )


def is_in_outbox(kind: str, subject: Element, stage: str | None = None) -> sa.ColumnElement[bool]:
    """Whether the outbox has it already, whatever has become of it."""
    here = [outbox.c.kind == kind, outbox.c.subject == subject]
    return sa.exists().where(*here, *([] if stage is None else [outbox.c.stage == stage]))
