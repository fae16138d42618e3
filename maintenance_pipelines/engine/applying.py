"""Apply: carries out the plan of a run, and only that."""

from __future__ import annotations

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order, execute
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.kinds import change_of
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.engine.runs import Run


def apply(
    job: Job,
    database: Database,
    run: Run,
    order: Order,
    allowed_triggers: frozenset[str] = frozenset(),
) -> tuple[Run, dict[int, str]]:
    """Applies the plan of `run`; returns the run as it is then, and the rows that failed.

    The state it is left in: `applied`; `partial` where rows failed or a lock could not be had;
    `paused` or `cancelled` where a person asked for it. Refuses with `Guarded` what must not be
    applied, with `Misconfigured` a database that has become unfit.
    """
    found = preflight(job, database, allowed_triggers)
    return execute(database, change_of(job, run), run, found, order)
