"""Preflight: whether this database is one the job can work on, before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect

from maintenance_pipelines.engine import privileges
from maintenance_pipelines.engine.catalog import TableShape, read_shapes
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Insert, Job
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.engine.targets import Target, targets

OLDEST_SERVER = 15

# Types that hold the same values for a job's purposes. A time with a zone is not one without.
FAMILIES = {
    "text": "text",
    "character varying": "text",
    "varchar": "text",
    "integer": "integer",
    "bigint": "integer",
    "smallint": "integer",
    "double precision": "number",
    "real": "number",
    "numeric": "number",
    "timestamp without time zone": "timestamp without time zone",
    "timestamp with time zone": "timestamp with time zone",
}
SERVER = sa.text(
    "SELECT current_setting('server_version_num')::integer / 10000 AS version,"
    " current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS read_only,"
    " current_setting('track_counts') = 'on' AS counting"
)


@dataclass(frozen=True)
class Preflight:
    """A database that was found fit: its version, the shapes it was judged by, what to know."""

    server_version: int
    shapes: Mapping[str, TableShape]
    schema_digest: str
    triggers: tuple[str, ...]


def preflight(
    job: Job,
    database: Database,
    allowed_triggers: frozenset[str] = frozenset(),
    undo: bool = False,
) -> Preflight:
    """Compares what a job relies on with the database; refuses, naming every difference.

    Triggers that would fire on the job's writes have to be allowed by name. With `undo`, the
    privileges of a rollback are asked for instead of those of a run.
    """
    with database.transaction() as connection:
        server = connection.execute(SERVER).one()
        if server.version < OLDEST_SERVER:
            raise Misconfigured(
                f"The server is PostgreSQL {server.version}; {OLDEST_SERVER} or newer is needed."
            )
        if server.read_only:
            raise Misconfigured("The database is read-only; connect to its primary server.")
        if not server.counting:
            raise Misconfigured(
                "The server does not count what a transaction writes, which is the job's proof; "
                "set track_counts = on."
            )
        names = [table.name for table in job.relies_on]
        shapes = read_shapes(connection, database.schema, names)
        differences = [*_differences(job, shapes)]
        if not differences:
            differences = privileges.missing(connection, job, database.schema, undo)
    if differences:
        raise Misconfigured(f"{job.name} cannot work on this database: {'; '.join(differences)}.")
    firing = tuple(_firing(job, shapes, undo))
    surprises = [name for name in firing if name not in allowed_triggers]
    if surprises:
        raise Misconfigured(
            f"Triggers of the app would fire on this job's writes: {', '.join(surprises)}; "
            "allow each by name once you know what it does."
        )
    return Preflight(server.version, shapes, schema_digest(job, shapes), firing)


def schema_digest(job: Job, shapes: Mapping[str, TableShape]) -> str:
    """A digest of all that a plan relies on in the schema; it differs when any of it changed."""
    relied_on = {
        table.name: {
            column.name: [shape.type, shape.required]
            for column in table.columns
            if (shape := shapes[table.name].columns.get(column.name)) is not None
        }
        for table in job.relies_on
        if table.name in shapes
    }
    written = {target.table.name: shapes[target.table.name] for target in targets(job)}
    required = {
        name: sorted(column.name for column in shape.columns.values() if column.required)
        for name, shape in written.items()
    }
    triggers = {name: sorted(t.name for t in shape.triggers) for name, shape in written.items()}
    spelled = json.dumps([relied_on, required, triggers], sort_keys=True)
    return hashlib.sha256(spelled.encode()).hexdigest()


def _differences(job: Job, shapes: Mapping[str, TableShape]) -> Iterator[str]:
    for table in job.relies_on:
        shape = shapes.get(table.name)
        if shape is None:
            if not table.info.get("optional"):
                yield f"table {table.name} does not exist"
            continue
        if shape.kind not in ("r", "p"):
            yield f"{table.name} is not a table"
        if shape.rows_hidden:
            yield f"row-level security on {table.name} would hide rows from this role"
        for column in table.columns:
            yield from _column_differences(table.name, column, shape)
    for target in targets(job):
        shape = shapes.get(target.table.name)
        if shape is not None:
            yield from _target_differences(job, target, shape)


def _column_differences(table: str, column: sa.Column[object], shape: TableShape) -> Iterator[str]:
    found = shape.columns.get(column.name)
    if found is None:
        if not column.info.get("optional"):
            yield f"column {table}.{column.name} does not exist"
        return
    if isinstance(column.type, sa.Enum):
        if not found.enum and _family(found.type) != "text":
            yield f"column {table}.{column.name} is {found.type}, not an enum"
        return
    wanted = _spelling(column.type)
    if _family(wanted) != _family(found.type):
        yield f"column {table}.{column.name} is {found.type}, not {wanted}"


def _target_differences(job: Job, target: Target, shape: TableShape) -> Iterator[str]:
    if target.right != "INSERT":
        return
    given = target.columns
    if isinstance(job.change, Insert):
        key = job.change.key
        if frozenset(key) not in shape.unique_keys:
            yield f"{shape.name} has no unique key on ({', '.join(key)})"
        given = tuple(column.name for column in target.table.columns)
    for column in shape.columns.values():
        if column.required and column.name not in (given or ()):
            yield f"column {shape.name}.{column.name} is required and unknown to this job"


def _firing(job: Job, shapes: Mapping[str, TableShape], undo: bool) -> Iterator[str]:
    seen: set[str] = set()
    for target in targets(job, undo):
        for trigger in shapes[target.table.name].triggers:
            fires = {
                "INSERT": trigger.on_insert,
                "UPDATE": trigger.on_update,
                "DELETE": trigger.on_delete,
            }[target.right]
            if fires and not target.only_locked and trigger.name not in seen:
                seen.add(trigger.name)
                yield trigger.name


def _spelling(type_: sa.types.TypeEngine[object]) -> str:
    if isinstance(type_, sa.DateTime):
        return f"timestamp {'with' if type_.timezone else 'without'} time zone"
    spelled = type_.compile(PGDialect()).lower()  # type: ignore[no-untyped-call]
    aliases = {"float": "double precision", "double": "double precision", "varchar": "text"}
    return aliases.get(spelled, spelled)


def _family(spelled: str) -> str:
    # Precision and length do not matter here: timestamp(3) without time zone, varchar(100).
    head, _, rest = spelled.partition("(")
    base = head + rest.partition(")")[2]
    return FAMILIES.get(base.strip(), base.strip())
