"""Whose the new tables are on PostgreSQL, and who may use them.

A table belongs to whoever creates it, and nobody else may use it. So the tables are created as the
owner of the parents, where this role can act as that one, and whoever has a right on every parent
that a table refers to has it on the table too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.systems.cashback.schema import PARENTS, definitions

Rights = Mapping[str, frozenset[tuple[str, str]]]
"""Of each parent, who (quoted, or PUBLIC) has which right."""

# Before PostgreSQL 16, to be a member is to be able to act as the role.
OWNERS = sa.text(
    """
    SELECT DISTINCT r.rolname AS owner,
           CASE WHEN current_setting('server_version_num')::integer >= 160000
                THEN pg_has_role(r.oid, 'SET') ELSE pg_has_role(r.oid, 'MEMBER') END AS ours
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_roles r ON r.oid = c.relowner
     WHERE n.nspname = :schema AND c.relname = ANY(:parents)
    """
)
MAY_CREATE = sa.text("SELECT has_schema_privilege(:role, :schema, 'CREATE')")
MAY_REFER = sa.text(
    """
    SELECT parent FROM unnest(CAST(:parents AS text[])) AS parent
     WHERE NOT has_column_privilege(:role, format('%I.%I', CAST(:schema AS text), parent), 'id',
                                    'REFERENCES')
    """
)
RIGHTS = sa.text(
    """
    SELECT c.relname AS parent, a.privilege_type AS right,
           CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS grantee
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
      LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE n.nspname = :schema AND c.relname = ANY(:parents)
    """
)
# Quoted names are read back as the name of a role, but for PUBLIC, which is not one.
HAS_RIGHT = sa.text(
    """
    SELECT EXISTS (
        SELECT FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
         WHERE n.nspname = :schema AND c.relname = :table AND a.privilege_type = :right
           AND (a.grantee = 0 OR a.grantee = to_regrole(:role))
    )
    """
)
ROLE = sa.text("SELECT current_setting('role')")
ACT_AS = sa.text("SELECT set_config('role', :role, true)")


def creator(connection: sa.Connection, schema: str) -> str:
    """The role that is to create the tables, and so own them; refuses where none can.

    The owner of the parents, where there is one that this role can act as; else this role itself.
    """
    asked = {"schema": schema, "parents": list(PARENTS)}
    owners = connection.execute(OWNERS, asked).all()
    mine = str(connection.execute(sa.text("SELECT current_user")).scalar_one())
    if len(owners) == 1 and owners[0].ours:
        owner = str(owners[0].owner)
        if connection.execute(MAY_CREATE, {"role": owner, "schema": schema}).scalar_one():
            return owner
    if not connection.execute(MAY_CREATE, {"role": mine, "schema": schema}).scalar_one():
        raise Misconfigured(
            f"This role lacks CREATE on schema {schema}, and cannot act as one that owns the "
            "application's tables and has it."
        )
    refused = connection.scalars(MAY_REFER, {"role": mine, **asked}).all()
    if refused:
        raise Misconfigured(f"This role lacks REFERENCES on {', '.join(refused)}.")
    return mine


def rights_of_parents(connection: sa.Connection, schema: str) -> Rights:
    """Who has which right on each of the parents, owners included."""
    rows = connection.execute(RIGHTS, {"schema": schema, "parents": list(PARENTS)}).all()
    return {
        parent: frozenset((row.grantee, row.right) for row in rows if row.parent == parent)
        for parent in PARENTS
    }


def grants(
    connection: sa.Connection, schema: str, table: str, owner: str, rights: Rights
) -> Iterator[str]:
    """The statements by which others can use a new table as they use its parents."""
    quote = connection.dialect.identifier_preparer.quote
    shared = frozenset.intersection(*(rights[parent] for parent in _parents(table)))
    for grantee in sorted({grantee for grantee, _ in shared}):
        if grantee != connection.execute(QUOTED, {"role": owner}).scalar_one():
            allowed = ", ".join(sorted(right for each, right in shared if each == grantee))
            yield f"GRANT {allowed} ON {quote(schema)}.{quote(table)} TO {grantee}"


def lacking(connection: sa.Connection, schema: str, table: str) -> Iterator[str]:
    """Who has a right on every parent of an existing table and not on it, in words."""
    rights = rights_of_parents(connection, schema)
    shared = frozenset.intersection(*(rights[parent] for parent in _parents(table)))
    for grantee, right in sorted(shared):
        asked = {"schema": schema, "table": table, "right": right, "role": grantee}
        if not connection.execute(HAS_RIGHT, asked).scalar_one():
            yield f"{grantee} lacks {right} on {table}"


@contextmanager
def acting_as(connection: sa.Connection, role: str) -> Iterator[None]:
    """In another role, until the end or that of the transaction."""
    before = connection.execute(ROLE).scalar_one()
    connection.execute(ACT_AS, {"role": role})
    yield
    connection.execute(ACT_AS, {"role": before})


QUOTED = sa.text("SELECT quote_ident(:role)")


def _parents(table: str) -> set[str]:
    """The parents that a table refers to, itself or through others of the six."""
    found = set()
    for key in definitions().tables[table].foreign_keys:
        parent = key.column.table.name
        found |= {parent} if parent in PARENTS else _parents(parent)
    return found
