"""Runs the ledger's revisions on the connection it is given, inside that transaction."""

from alembic import context

from maintenance_pipelines.engine.ledger import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
)
context.run_migrations()
