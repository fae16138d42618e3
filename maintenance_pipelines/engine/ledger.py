"""The ledger: what was planned, how far it is, what became of it. Lives beside the app's tables.

Three tables in the schema `maintenance`, and one plan table for each run. A plan table is the
manifest of its run: every key, every value written. Only exceptions have a row of their own;
all other rows of a granule that is done were applied.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib import resources
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.faults import describe, sqlstate
from maintenance_pipelines.engine.refusals import Misconfigured

SCHEMA = "maintenance"

metadata = sa.MetaData(schema=SCHEMA)
Moment = sa.DateTime(timezone=True)

run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, nullable=False),
    # Empty for a job without partitions: NULLs would not exclude each other below.
    sa.Column("partition", sa.Text, nullable=False),
    sa.Column("reverts", sa.Text, sa.ForeignKey("maintenance.run.id"), comment="the run undone"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("as_of", Moment, nullable=False),
    sa.Column("options", JSONB, nullable=False),
    sa.Column("created_at", Moment, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("planned_by", sa.Text, nullable=False),
    sa.Column("by_person", sa.Boolean, nullable=False, server_default=sa.true()),
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
    sa.Column("heartbeat_at", Moment),
    sa.Column("seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("finished_at", Moment),
    sa.Column("pruned_at", Moment),
    # Two runs can never both apply one job and partition.
    sa.Index(
        "one_applying",
        "job",
        "partition",
        unique=True,
        postgresql_where=sa.text("state='applying'"),
    ),
    sa.Index("run_by_partition", "job", "partition", "created_at"),
)

granule = sa.Table(
    "granule",
    metadata,
    sa.Column("run_id", sa.ForeignKey("maintenance.run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True, comment="first position, inclusive"),
    sa.Column("last", sa.BigInteger, nullable=False, comment="last position, inclusive"),
    sa.Column("done_at", Moment),
    # Verification asks of every row whether its granule is open: mostly none is.
    sa.Index("granule_open", "run_id", "first", postgresql_where=sa.text("done_at IS NULL")),
)

batch = sa.Table(
    "batch",
    metadata,
    sa.Column("run_id", sa.ForeignKey("maintenance.run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("applied", sa.BigInteger, nullable=False),
    sa.Column("inserted", sa.BigInteger, nullable=False, comment="as PostgreSQL counted them"),
    sa.Column("updated", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.BigInteger, nullable=False),
)

exception = sa.Table(
    "exception",
    metadata,
    sa.Column("run_id", sa.ForeignKey("maintenance.run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("outcome", sa.Text, nullable=False, comment="skipped, conflict or failed"),
    sa.Column("sqlstate", sa.Text),
    sa.Column("error", sa.Text),
)


# Mails that jobs have decided on. Ids only: addresses are read when a mail is sent.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.UUID, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, comment="whom it is about, by id"),
    sa.Column("deadline", Moment, nullable=False, comment="the moment that it is about"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", Moment, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False, comment="the run that put it here"),
    sa.Column("message_id", sa.Text),
    sa.Column("error", sa.Text, comment="the last answer, without addresses"),
    sa.Column("created_at", Moment, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("handed_over_at", Moment),
    sa.Column("settled_at", Moment),
    # Nobody is told the same twice.
    sa.Index("outbox_once", "kind", "stage", "subject", "deadline", unique=True),
    sa.Index("outbox_pending", "next_attempt_at", postgresql_where=sa.text("state='pending'")),
    sa.Index("outbox_sending", "handed_over_at", postgresql_where=sa.text("state='sending'")),
)


def applied_rows(run_id: str, plan: sa.TableClause) -> sa.Select[Any]:
    """The rows of a plan that were applied: those in granules that are done, but exceptions."""
    exceptional = sa.exists().where(
        exception.c.run_id == run_id, exception.c.position == plan.c.position
    )
    pending = sa.exists().where(
        granule.c.run_id == run_id,
        granule.c.done_at.is_(None),
        plan.c.position.between(granule.c.first, granule.c.last),
    )
    # A rollback's plan also lists what it leaves alone, without a granule over it.
    return sa.select(plan).where(plan.c.reason.is_(None), ~exceptional, ~pending)


# Whoever comes first creates the ledger; a transaction-level lock, so that poolers work.
PATIENCE = sa.text("SELECT set_config('lock_timeout', '60s', true)")
ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('maintenance_pipelines.ledger'))")


def ensure(database: Database) -> None:
    """Creates or upgrades the ledger where it is not current; refuses where the role may not."""
    with database.transaction() as connection:
        if _revision(connection) == _head():
            return
        if connection.execute(sa.text("SHOW transaction_read_only")).scalar_one() == "on":
            raise Misconfigured("The database is read-only; connect to its primary server.")
    try:
        install(database)
    except DBAPIError as error:
        if sqlstate(error) == "42501":
            raise Misconfigured(
                "The ledger is not in this database and this role may not create it: "
                f"{describe(error)}. Run `./maintenance install` once with a stronger role."
            ) from None
        raise


def install(database: Database) -> str:
    """Creates or upgrades the schema `maintenance`; returns the revision it then has."""
    with database.transaction() as connection:
        connection.execute(PATIENCE)
        connection.execute(ONE_AT_A_TIME)
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        config = _config()
        config.attributes["connection"] = connection
        # Alembic announces itself at INFO on every start; nobody asked for it here.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise Misconfigured(
                "The ledger in this database was made by a newer version of this project; "
                "update the project."
            ) from None
    return _head()


def is_current(connection: sa.Connection) -> bool:
    """Whether the ledger exists at the revision that this version works with."""
    return _revision(connection) == _head()


def _revision(connection: sa.Connection) -> str | None:
    exists = sa.text("SELECT to_regclass('maintenance.alembic_version') IS NOT NULL")
    if not connection.execute(exists).scalar_one():
        return None
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    return context.get_current_revision()


@lru_cache(maxsize=1)
def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package carries at least one revision"
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files(__package__) / "migrations"))
    return config
