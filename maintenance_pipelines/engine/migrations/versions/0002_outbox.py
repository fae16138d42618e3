"""The outbox: mails that a job has decided on, and what has become of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "maintenance"
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.UUID, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False, comment="whom it is about, by id"),
        sa.Column("deadline", MOMENT, nullable=False, comment="the moment that it is about"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False, comment="the run that put it here"),
        sa.Column("message_id", sa.Text),
        sa.Column("error", sa.Text, comment="the last answer, without addresses"),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("handed_over_at", MOMENT),
        sa.Column("settled_at", MOMENT),
        schema=SCHEMA,
    )
    op.create_index(
        "outbox_once",
        "outbox",
        ["kind", "stage", "subject", "deadline"],
        unique=True,
        schema=SCHEMA,
    )
    op.create_index(
        "outbox_pending",
        "outbox",
        ["next_attempt_at"],
        postgresql_where=sa.text("state='pending'"),
        schema=SCHEMA,
    )
    op.create_index(
        "outbox_sending",
        "outbox",
        ["handed_over_at"],
        postgresql_where=sa.text("state='sending'"),
        schema=SCHEMA,
    )
