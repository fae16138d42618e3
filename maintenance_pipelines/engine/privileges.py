"""Privileges: what a role needs for a job and no more, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.catalog import read_references
from maintenance_pipelines.engine.job import Insert, Job
from maintenance_pipelines.engine.targets import targets

TABLE_PRIVILEGE = sa.text(
    "SELECT has_table_privilege("
    "format('%I.%I', CAST(:schema AS text), CAST(:name AS text)), :right)"
)
COLUMN_PRIVILEGE = sa.text(
    "SELECT has_column_privilege("
    "format('%I.%I', CAST(:schema AS text), CAST(:name AS text)), :column, :right)"
)
TABLE_EXISTS = sa.text(
    "SELECT to_regclass(format('%I.%I', CAST(:schema AS text), CAST(:name AS text))) IS NOT NULL"
)
SCHEMA_PRIVILEGE = sa.text("SELECT has_schema_privilege(:schema, :right)")
REVISION_HIDDEN = sa.text(
    "SELECT coalesce(NOT has_table_privilege("
    f"to_regclass('{ledger.SCHEMA}.alembic_version'), 'SELECT'), false)"
)
SCHEMA_EXISTS = sa.text("SELECT to_regnamespace(:schema) IS NOT NULL")


@dataclass(frozen=True)
class Right:
    """A privilege on one of the app's tables; an UPDATE names the columns."""

    name: str
    table: str
    columns: tuple[str, ...] = ()
    optional: bool = False


def needed(job: Job, undo: bool) -> list[Right]:
    """The rights on the app's tables; with `undo`, those of a rollback too."""
    rights = [
        Right("SELECT", table.name, optional=bool(table.info.get("optional")))
        for table in job.relies_on
    ]
    for target in targets(job) + (targets(job, undo=True) if undo else ()):
        columns = (target.columns or ()) if target.right == "UPDATE" else ()
        right = Right(target.right, target.table.name, columns)
        if right not in rights:
            rights.append(right)
    return rights


def missing(connection: sa.Connection, job: Job, schema: str, undo: bool) -> list[str]:
    """Every right that the connected role lacks, in words."""
    lacking = []
    if not connection.execute(SCHEMA_PRIVILEGE, {"schema": schema, "right": "USAGE"}).scalar_one():
        return [f"this role lacks USAGE on schema {schema}"]
    for right in needed(job, undo):
        if not _has(connection, schema, right):
            lacking.append(f"this role lacks {right.name} on {right.table}")
    if undo and isinstance(job.change, Insert):
        lacking += _missing_on_dependents(connection, schema, job.change.into.name)
    if connection.execute(SCHEMA_EXISTS, {"schema": ledger.SCHEMA}).scalar_one():
        lacking += _missing_on_ledger(connection)
    return lacking


def _has(connection: sa.Connection, schema: str, right: Right) -> bool:
    asked = {"schema": schema, "name": right.table}
    if right.optional and not connection.execute(TABLE_EXISTS, asked).scalar_one():
        return True
    asked["right"] = right.name
    if not right.columns:
        return bool(connection.execute(TABLE_PRIVILEGE, asked).scalar_one())
    return all(
        connection.execute(COLUMN_PRIVILEGE, asked | {"column": column}).scalar_one()
        for column in right.columns
    )


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
