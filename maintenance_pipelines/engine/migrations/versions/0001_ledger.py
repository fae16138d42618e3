"""The ledger's first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "maintenance"
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("reverts", sa.Text, sa.ForeignKey(f"{SCHEMA}.run.id"), comment="the run undone"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("as_of", MOMENT, nullable=False),
        sa.Column("options", JSONB, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("planned_by", sa.Text, nullable=False),
        sa.Column("dagster_run_id", sa.Text, comment="the last Dagster run that worked on it"),
        sa.Column("columns", JSONB, nullable=False, comment="columns written, in order"),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("schema_digest", sa.Text, nullable=False),
        sa.Column("planned", sa.BigInteger, nullable=False),
        sa.Column("excluded", JSONB, nullable=False),
        sa.Column("expected_min", sa.BigInteger),
        sa.Column("expected_max", sa.BigInteger),
        sa.Column("approval_above", sa.BigInteger),
        sa.Column("approved_by", sa.Text),
        sa.Column("approved_digest", sa.Text),
        sa.Column("appeared_since", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("touched_since", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("checks", JSONB, nullable=False, server_default="{}"),
        sa.Column("error", sa.Text),
        sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("request", sa.Text, comment="pause or cancel, between batches"),
        sa.Column("owner", sa.Text, comment="the process that applies it"),
        sa.Column("heartbeat_at", MOMENT),
        sa.Column("seconds", sa.Float, nullable=False, server_default="0"),
        sa.Column("finished_at", MOMENT),
        sa.Column("pruned_at", MOMENT),
        schema=SCHEMA,
    )
    op.create_index(
        "one_applying",
        "run",
        ["job", "partition"],
        unique=True,
        postgresql_where=sa.text("state='applying'"),
        schema=SCHEMA,
    )
    op.create_index("run_by_partition", "run", ["job", "partition", "created_at"], schema=SCHEMA)
    op.create_table(
        "granule",
        _run_id(),
        sa.Column("first", sa.BigInteger, primary_key=True, comment="first position, inclusive"),
        sa.Column("last", sa.BigInteger, nullable=False, comment="last position, inclusive"),
        sa.Column("done_at", MOMENT),
        schema=SCHEMA,
    )
    op.create_index(
        "granule_open",
        "granule",
        ["run_id", "first"],
        postgresql_where=sa.text("done_at IS NULL"),
        schema=SCHEMA,
    )
    op.create_table(
        "batch",
        _run_id(),
        sa.Column("first", sa.BigInteger, primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("applied", sa.BigInteger, nullable=False),
        sa.Column("inserted", sa.BigInteger, nullable=False, comment="as PostgreSQL counted them"),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.BigInteger, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "exception",
        _run_id(),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False, comment="skipped, conflict or failed"),
        sa.Column("sqlstate", sa.Text),
        sa.Column("error", sa.Text),
        schema=SCHEMA,
    )


def _run_id() -> sa.Column[str]:
    owner = sa.ForeignKey(f"{SCHEMA}.run.id", ondelete="CASCADE")
    return sa.Column("run_id", sa.Text, owner, primary_key=True)
