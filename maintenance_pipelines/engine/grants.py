"""Grants: the SQL that gives a role just the privileges that a job needs."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.compiler import IdentifierPreparer

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.privileges import needed


def grants(job: Job, schema: str, role: str, undo: bool = False) -> str:
    """SQL that gives a role what the job needs on the app's tables and the ledger, no more.

    With `undo`, what a rollback needs besides. To be run by the owner of the tables, after
    `install` has made the ledger.
    """
    quote = IdentifierPreparer(PGDialect()).quote_identifier  # type: ignore[no-untyped-call]
    to = f"TO {quote(role)};"
    lines = [f"GRANT USAGE ON SCHEMA {quote(schema)} {to}"]
    for right in needed(job, undo):
        columns = f" ({', '.join(map(quote, right.columns))})" if right.columns else ""
        grant = f"GRANT {right.name}{columns} ON {quote(schema)}.{quote(right.table)} {to}"
        lines.append(f"-- where that table exists: {grant}" if right.optional else grant)
    lines.append(f"GRANT USAGE, CREATE ON SCHEMA {ledger.SCHEMA} {to}")
    lines.append(f"GRANT SELECT ON {ledger.SCHEMA}.alembic_version {to}")
    lines += [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {ledger.SCHEMA}.{quote(table.name)} {to}"
        for table in ledger.metadata.sorted_tables
    ]
    return "\n".join(lines) + "\n"
