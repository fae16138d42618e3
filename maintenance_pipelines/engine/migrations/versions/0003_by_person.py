"""Whether a person or a schedule asked for a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    by_person = sa.Column("by_person", sa.Boolean, nullable=False, server_default=sa.true())
    op.add_column("run", by_person, schema="maintenance")


def downgrade() -> None:
    op.drop_column("run", "by_person", schema="maintenance")
