"""The demo: a job from plan to proof, on realistic data in the embedded PostgreSQL."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from maintenance_pipelines import embedded, terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.execution import Work, carry_out
from maintenance_pipelines.commands.outcomes import COMMAND, Outcome, conclude
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings, url_variable
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.benefits import demo as benefits


@dataclass(frozen=True)
class Demo:
    """Demo data of a system, and the partition that it is about.

    `build` fills an empty schema: (connection, schema, seed, scale), in one transaction.
    """

    partition: str | None
    build: Callable[[sa.Connection, str, int, int], None]


DEMOS = {"benefit_status_backfill": Demo("2025-08", benefits.build)}
"""The demo of each job that has one, by the job's name."""


def demonstrate(
    name: str,
    partition: str | None,
    scale: int,
    seed: int,
    data: Path | None,
    *,
    as_json: bool,
    verbose: bool,
) -> int:
    """Builds clean data, runs the job on it as `run` does, and shows both reports.

    `data` is the folder of the embedded server, made where absent. Returns the exit code.
    """
    job = registry.find(name)
    demo = DEMOS.get(job.name)
    if demo is None:
        raise BadInput(f"{job.name} has no demo; these have: {', '.join(sorted(DEMOS))}.")
    chosen = options.partitions(job, partition or demo.partition, utc_now())
    settings = _settings(job, data)
    _build(settings, job, demo, seed, scale)
    stages: dict[str, dict[str, object]] = {
        "detection": {},
        "materialization": {},
        "verification": {},
    }
    finished = carry_out(settings, Work(job, stages, verbose=verbose), chosen)
    several = partition == options.ALL
    for report in finished[0].reports if not (as_json or several) else ():
        terminal.show_report(report)
    code = conclude(
        [each.outcome for each in finished], as_json=as_json, several=several, hint=False
    )
    if not as_json and code == 0:
        _show_next(settings, job, finished[0].outcome, data)
    return code


def _settings(job: Job, data: Path | None) -> Settings:
    """The settings, but for this job's system: its database is the demo's and nothing is guarded.

    Dagster's storage is the embedded server's too, so that the demo leaves no trace elsewhere.
    """
    settings = Settings.load()
    own = f"{job.system.upper()}_"
    others = {name: text for name, text in settings.variables.items() if not name.startswith(own)}
    url = SecretStr(f"{embedded.PREFIX}{_database(job)}")
    changed = {"variables": {**others, url_variable(job.system): url}, "dagster_storage": None}
    home = settings.home if data is None else data.expanduser().absolute()
    return settings.model_copy(update={**changed, "home": home})


def _build(settings: Settings, job: Job, demo: Demo, seed: int, scale: int) -> None:
    """Drops the demo's database, should there be one, and builds it anew."""
    terminal.complain(f"Making the demo data of {job.system} in {settings.home}")
    with embedded.server(settings.home, settings.postgres_version) as server:
        server.drop(_database(job))
        database = connect(settings, job.system)
        try:
            with database.transaction(timeout_s=3600) as connection:
                demo.build(connection, database.schema, seed, scale)
        finally:
            database.dispose()


def _show_next(settings: Settings, job: Job, outcome: Outcome, data: Path | None) -> None:
    """The commands that a person would try now, on the same data."""
    assert outcome.run is not None
    given = f"{url_variable(job.system)}={embedded.PREFIX}{_database(job)}"
    if data is not None:
        given = f"MAINTENANCE_HOME={shlex.quote(str(settings.home))} {given}"
    run, partition = outcome.run.id[:8], outcome.run.partition
    again = f"run {job.name}" + (f" --partition {partition}" if partition else "")
    terminal.say("\nOn the same data you could now type:")
    for verb in (f"rollback {run} --plan", f"rollback {run}", again, "runs"):
        terminal.say(f"  {given} {COMMAND} {verb}")
    terminal.say(f"  {given} {COMMAND} up      (then look at http://127.0.0.1:3000)")


def _database(job: Job) -> str:
    return f"{job.system}_demo"
