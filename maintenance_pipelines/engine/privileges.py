"""Privileges: what a role needs for a job and no more, and what it lacks."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.catalog import read_references
from maintenance_pipelines.engine.job import Job

TABLE_PRIVILEGE = sa.text(
    "SELECT has_table_privilege("
    "format('%I.%I', CAST(:schema AS text), CAST(:name AS text)), :right)"
)
SCHEMA_PRIVILEGE = sa.text("SELECT has_schema_privilege(:schema, :right)")
REVISION_HIDDEN = sa.text(
    "SELECT coalesce(NOT has_table_privilege("
    f"to_regclass('{ledger.SCHEMA}.alembic_version'), 'SELECT'), false)"
)
SCHEMA_EXISTS = sa.text("SELECT to_regnamespace(:schema) IS NOT NULL")


def needed(job: Job, undo: bool) -> list[tuple[str, str]]:
    """The rights on the app's tables, as (right, table); with `undo`, those of a rollback too."""
    rights = [("SELECT", table.name) for table in job.relies_on]
    rights.append(("INSERT", job.change.into.name))
    if undo:
        rights.append(("DELETE", job.change.into.name))
    return rights


def missing(connection: sa.Connection, job: Job, schema: str, undo: bool) -> list[str]:
    """Every right that the connected role lacks, in words."""
    lacking = []
    if not connection.execute(SCHEMA_PRIVILEGE, {"schema": schema, "right": "USAGE"}).scalar_one():
        return [f"this role lacks USAGE on schema {schema}"]
    for right, table in needed(job, undo):
        asked = {"schema": schema, "name": table, "right": right}
        if not connection.execute(TABLE_PRIVILEGE, asked).scalar_one():
            lacking.append(f"this role lacks {right} on {table}")
    if undo:
        lacking += _missing_on_dependents(connection, schema, job.change.into.name)
    if connection.execute(SCHEMA_EXISTS, {"schema": ledger.SCHEMA}).scalar_one():
        lacking += _missing_on_ledger(connection)
    return lacking


def _missing_on_dependents(connection: sa.Connection, schema: str, table: str) -> list[str]:
    """A rollback looks whether rows of other tables depend on those it would remove."""
    return [
        f"this role lacks SELECT on {reference.child}"
        for reference in read_references(connection, schema, table)
        if not connection.execute(
            TABLE_PRIVILEGE,
            {"schema": reference.child_schema, "name": reference.child, "right": "SELECT"},
        ).scalar_one()
    ]


def _missing_on_ledger(connection: sa.Connection) -> list[str]:
    for right in ("USAGE", "CREATE"):
        asked = {"schema": ledger.SCHEMA, "right": right}
        if not connection.execute(SCHEMA_PRIVILEGE, asked).scalar_one():
            return [f"this role lacks {right} on schema {ledger.SCHEMA}"]
    if connection.execute(REVISION_HIDDEN).scalar_one():
        return [f"this role lacks SELECT on {ledger.SCHEMA}.alembic_version"]
    if not ledger.is_current(connection):
        return []
    return [
        f"this role lacks {right} on {ledger.SCHEMA}.{table.name}"
        for table in ledger.metadata.sorted_tables
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
        if not connection.execute(
            TABLE_PRIVILEGE, {"schema": ledger.SCHEMA, "name": table.name, "right": right}
        ).scalar_one()
    ]
