"""Exports: rows of tables that are about to be dropped, as CSV, on disk before they are gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.systems.cashback import disk

ROWS = 1_000


def export(
    connection: sa.Connection, schema: str | None, tables: Iterable[str], folder: Path
) -> list[Path]:
    """Writes each table's rows into a file of its own in a new folder under `folder`.

    In the caller's transaction, so that these are just the rows that it then destroys. An absent
    value is nothing at all between two commas, an empty text is `""`.
    """
    mine = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}"
    quote = connection.dialect.identifier_preparer.quote
    prefix = f"{quote(schema)}." if schema else ""
    try:
        mine.mkdir(mode=0o700, parents=True)
        written = []
        for table in tables:
            statement = sa.text(f"SELECT * FROM {prefix}{quote(table)} ORDER BY id")
            written.append(_write(connection, statement, mine / f"{table}.csv"))
        disk.to_disk(mine)
    except OSError as error:
        raise Misconfigured(
            f"The rows cannot be exported to {mine} ({error.strerror}). Nothing was dropped."
        ) from None
    return written


def _write(connection: sa.Connection, statement: sa.TextClause, path: Path) -> Path:
    rows = connection.execute(statement.execution_options(yield_per=ROWS))
    names = list(rows.keys())
    with path.open("x", encoding="utf-8", newline="") as file:
        path.chmod(0o600)
        file.write(",".join(_field(name) for name in names) + "\r\n")
        for row in rows:
            file.write(",".join(map(_field, row)) + "\r\n")
    disk.to_disk(path)
    return path


def _field(value: object) -> str:
    """One value; texts are quoted, so that they can be told from numbers and from nothing."""
    if value is None:
        return ""
    if isinstance(value, bytes | memoryview):
        return f"\\x{bytes(value).hex()}"
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return str(value)
