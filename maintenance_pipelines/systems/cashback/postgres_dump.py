"""The backup of a PostgreSQL database: `pg_dump` in custom format, read back by `pg_restore`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.systems.cashback import disk
from maintenance_pipelines.systems.cashback.detection import count_rows
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance

VERSION = sa.text("SELECT current_setting('server_version_num')::integer / 10000")
LOCK_WAIT = "--lock-wait-timeout=30s"


def dump(instance: PostgresInstance, into: Path) -> Mapping[str, int]:
    """Dumps an instance's whole database into an empty file; returns its rows by table.

    The rows are those of a moment just before; with an application at work the dump has its own.
    Refuses where a table is not in the dump, or the dump cannot be read to its end.
    """
    version, size, rows = instance.read(
        lambda connection: (
            int(connection.execute(VERSION).scalar_one()),
            instance.size(connection),
            dict(count_rows(connection, instance.schema)),
        )
    )
    disk.demand_room(into.parent, size, "the backup")
    programs = programs_for(version)
    where, password = address(instance)
    options = ("--format=custom", LOCK_WAIT, f"--file={into}", f"--dbname={where}")
    run(programs / "pg_dump", *options, secret=password)
    demand_whole(programs, into, instance.schema, rows)
    return rows


def version_of(instance: PostgresInstance) -> int:
    """The major version of the instance's server."""
    with instance.database.transaction() as connection:
        return int(connection.execute(VERSION).scalar_one())


def demand_whole(programs: Path, dump: Path, schema: str, tables: Mapping[str, int]) -> None:
    """Refuses a dump that lacks a table or cannot be read to its end."""
    listed = run(programs / "pg_restore", "--list", str(dump))
    absent = [name for name in tables if f" TABLE {schema} {name} " not in listed]
    if absent:
        raise Misconfigured(f"The dump lacks {', '.join(absent)}, so it is no backup.")
    run(programs / "pg_restore", "--file=/dev/null", str(dump))


def programs_for(version: int) -> Path:
    """A folder with a `pg_dump` that is not older than the server: of the PATH, or embedded."""
    found = shutil.which("pg_dump")
    if found and shutil.which("pg_restore") and _version(Path(found)) >= version:
        return Path(found).parent
    for mine in sorted(embedded.VERSIONS):
        if mine >= version:
            return embedded.binaries(mine)
    raise Misconfigured(
        f"No pg_dump for PostgreSQL {version} was found; put its programs into the PATH."
    )


def address(instance: PostgresInstance, database: str | None = None) -> tuple[str, str | None]:
    """How libpq finds the instance's database, or another on its server, and the password."""
    url = instance.database.engine.url
    named: dict[str, Any] = {
        **url.translate_connect_args(username="user", database="dbname"),
        **url.query,
    }
    password = named.pop("password", None)
    if database is not None:
        named["dbname"] = database
    return make_conninfo(**named), password


def run(program: Path, *arguments: str, secret: str | None = None) -> str:
    """What a program of PostgreSQL's says; refuses where it fails, with its last line.

    The password goes through the environment, which other users cannot see.
    """
    environment = {**os.environ, "LC_ALL": "C"} | ({"PGPASSWORD": secret} if secret else {})
    done = subprocess.run(
        [program, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Misconfigured(f"{program.name} failed: {said[0]}")
    return done.stdout


def _version(program: Path) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0
