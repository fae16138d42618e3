"""export: the rows that a run has written, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.engine.exporting import export as rows_of
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.ledgers import find_run
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry

ROWS_AT_ONCE = 50_000


def export(
    run: options.RunId,
    to: Annotated[Path, typer.Option(metavar="FILE", help="A new .csv or .parquet file.")],
    part: Annotated[
        str | None, typer.Option(metavar="PART", help="Of a job that has several.")
    ] = None,
) -> int:
    """The rows that a run has written; of deleted rows the rows themselves."""
    if to.suffix not in (".csv", ".parquet"):
        raise BadInput(f"{to.name} should end with .csv or .parquet.")
    if to.exists() or not to.parent.is_dir():
        raise BadInput(f"{to} exists already, or its folder does not; give the path of a new file.")
    with find_run(Settings.load(), run) as found:
        job = registry.find(found.run.job)
        if not isinstance(job, Job):
            raise BadInput(f"{job.name} writes no rows; its backups are files already.")
        with found.database.analysis() as connection:
            rows = rows_of(connection, job, found.database, found.run, part)
            count = _write(connection, rows, to)
    terminal.say(f"{count:,} rows of run {found.run.id} are in {to}.")
    return 0


def _write(connection: sa.Connection, rows: sa.Select[tuple[object, ...]], to: Path) -> int:
    """Writes the file under another name first, so that it is whole or absent."""
    # It takes most of a second to import, which verbs without a file should not cost.
    import pandas as pd

    unfinished = to.with_name(f".{to.name}.part")
    count = 0
    try:
        if to.suffix == ".parquet":
            frame = pd.read_sql(rows, connection)
            frame.to_parquet(unfinished, index=False)
            count = len(frame)
        else:
            streamed = connection.execution_options(stream_results=True)
            for frame in pd.read_sql(rows, streamed, chunksize=ROWS_AT_ONCE):
                frame.to_csv(unfinished, mode="a", index=False, header=not count)
                count += len(frame)
        unfinished.rename(to)
    finally:
        unfinished.unlink(missing_ok=True)
    return count
