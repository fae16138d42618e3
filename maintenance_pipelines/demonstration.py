"""The demo: a job from plan to proof, on realistic data in the embedded PostgreSQL or in a file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from maintenance_pipelines import embedded, terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.execution import Finished, Work, carry_out
from maintenance_pipelines.commands.outcomes import COMMAND, Outcome, conclude
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import STORAGE, Settings, url_variable
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.benefits import demo as benefits
from maintenance_pipelines.systems.cashback import demo as cashback
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.credits import demo as credits
from maintenance_pipelines.systems.monetization import demo as monetization
from maintenance_pipelines.systems.referrals import demo as referrals
from maintenance_pipelines.systems.referrals.demo import Chapter


@dataclass(frozen=True)
class Demo:
    """Demo data of a system, and the partition that it is about.

    `build` fills an empty schema: (connection, schema, seed, scale), in one transaction. A story
    is told chapter by chapter, each a job or a diagnosis at its own moment.
    """

    partition: str | None
    build: Callable[[sa.Connection, str, int, int], None]
    story: tuple[Chapter, ...] = ()


@dataclass(frozen=True)
class FileDemo:
    """Demo data of an instance that is an SQLite file: `build` makes (file, seed, scale)."""

    partition: str
    build: Callable[[Path, int, int], None]


DEMOS: Mapping[str, Demo] = {
    "benefit_status_backfill": Demo("2025-08", benefits.build),
    "monthly_stats_reset": Demo(None, referrals.build, story=referrals.CHAPTERS),
    "tier_expiration": Demo(None, monetization.build),
    "global_override_check": Demo(None, monetization.build),
    "promo_cleanup": Demo(None, monetization.build),
    "discipline_stats_rollup": Demo(None, monetization.build),
    "trial_reminder": Demo(None, monetization.build),
    "monthly_credits_reset": Demo(None, credits.build),
    "credit_expiry": Demo(None, credits.build),
    "credit_expiry_warning": Demo(None, credits.build),
}
"""The demo of each job that has one, by the job's name."""

FILE_DEMOS: Mapping[str, FileDemo] = {"cashback_migration": FileDemo("prod", cashback.build_file)}
"""The demo of each migration, by its name."""


@dataclass(frozen=True)
class Stage:
    """Where a demo takes place: settings of its own, and the variables that lead there again."""

    settings: Settings
    given: Mapping[str, str]


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
    home = None if data is None else data.expanduser().absolute()
    if isinstance(job, Migration):
        file_demo = FILE_DEMOS[job.name]
        partition = partition or file_demo.partition
        stage = _files(job, file_demo, partition, home, seed, scale)
        chosen = options.partitions(job, stage.settings, partition, utc_now())
    else:
        demo = _demo_of(job)
        stage = _database(job, home)
        usual = partition or demo.partition
        chosen = options.partitions(job, stage.settings, usual, utc_now())
        _build(stage.settings, job, demo, seed, scale)
        if demo.story:
            return _tell(stage, job, demo.story, as_json=as_json, verbose=verbose)
    finished = carry_out(stage.settings, Work(job, _stages(), verbose=verbose), chosen)
    several = partition == options.ALL
    for report in finished[0].reports if not (as_json or several) else ():
        terminal.show_report(report)
    code = conclude(
        [each.outcome for each in finished], as_json=as_json, several=several, hint=False
    )
    if not as_json and code == 0:
        _show_next(stage, finished[0].outcome)
    return code


def _stages(as_of: datetime | None = None) -> dict[str, dict[str, object]]:
    return {
        "detection": {} if as_of is None else {"as_of": as_of.isoformat()},
        "backup": {},
        "materialization": {},
        "verification": {},
    }


def _tell(stage: Stage, job: Job, story: Sequence[Chapter], *, as_json: bool, verbose: bool) -> int:
    """Carries out a story's chapters and shows what each has to report."""
    finished: list[Finished] = []
    for number, chapter in enumerate(story, 1):
        terminal.complain(f"\n{number}. {chapter.says}.")
        if chapter.job is None:
            reports = [_diagnosis(stage.settings, job.system, chapter)]
        else:
            stages = _stages(chapter.as_of)
            work = Work(registry.find(chapter.job), stages, verbose=verbose)
            finished += carry_out(stage.settings, work, [chapter.partition])
            reports = finished[-1].reports
        for report in () if as_json else reports:
            terminal.show_report(report)
    outcomes = [each.outcome for each in finished]
    code = conclude(outcomes, as_json=as_json, several=True, hint=False)
    if not as_json and code == 0:
        _show_next(stage, finished[-1].outcome)
    return code


def _diagnosis(settings: Settings, system: str, chapter: Chapter) -> str:
    checks = registry.checks_of(system)
    chosen = settings.options_of(system, checks.options)
    database = connect(settings, system)
    try:
        scope = checks.scope(database, chapter.as_of, chapter.partition, chosen)
        assert checks.diagnose is not None, "a story has chapters of this kind only where it does"
        return checks.diagnose(database, scope).markdown()
    finally:
        database.dispose()


def _demo_of(job: Job) -> Demo:
    demo = DEMOS.get(job.name)
    if demo is None:
        having = ", ".join(sorted({*DEMOS, *FILE_DEMOS}))
        raise BadInput(f"{job.name} has no demo; these have: {having}.")
    return demo


def _database(job: Job, home: Path | None) -> Stage:
    """The settings, but for this job's system: its database is the demo's and nothing is guarded.

    Dagster's storage is the embedded server's too, so that the demo leaves no trace elsewhere.
    """
    settings = Settings.load()
    urls = {url_variable(job.system): f"{embedded.PREFIX}{_name(job)}"}
    moved = {} if home is None else {"MAINTENANCE_HOME": str(home)}
    changed = _changed(settings, job.system, urls) | {"home": home or settings.home}
    return Stage(settings.model_copy(update={**changed, "dagster_storage": None}), moved | urls)


def _files(
    job: Migration, demo: FileDemo, partition: str, home: Path | None, seed: int, scale: int
) -> Stage:
    """Files of the demo's own, made anew, and a home of its own: backups and the ledger of files
    are in there, and are not to be mixed with those of real instances.
    """
    settings = Settings.load()
    home = home or settings.home / _name(job)
    all_of_them = partition == options.ALL
    names = job.partitions if all_of_them else (job.demand_partition(partition),)
    terminal.complain(f"Making the demo data of {job.system} in {home}")
    urls = {}
    for name in names:
        path = home / "instances" / name / "database" / f"lending_app_{name}.db"
        demo.build(path, seed, scale)
        urls[url_variable(f"{job.system}_{name}")] = f"sqlite:///{path}"
    with embedded.server(home, settings.postgres_version) as server:
        server.drop(_name(job))
    storage = f"{embedded.PREFIX}{_name(job)}"
    changed = _changed(settings, job.system, urls) | {"home": home}
    changed |= {"dagster_storage": SecretStr(storage)}
    given = {"MAINTENANCE_HOME": str(home), STORAGE: storage, **urls}
    return Stage(settings.model_copy(update=changed), given)


def _changed(settings: Settings, system: str, urls: Mapping[str, str]) -> dict[str, object]:
    own = f"{system.upper()}_"
    others = {name: text for name, text in settings.variables.items() if not name.startswith(own)}
    return {"variables": {**others, **{name: SecretStr(url) for name, url in urls.items()}}}


def _build(settings: Settings, job: Job, demo: Demo, seed: int, scale: int) -> None:
    """Drops the demo's database, should there be one, and builds it anew."""
    terminal.complain(f"Making the demo data of {job.system} in {settings.home}")
    with embedded.server(settings.home, settings.postgres_version) as server:
        server.drop(_name(job))
        database = connect(settings, job.system)
        try:
            with database.transaction(timeout_s=3600) as connection:
                demo.build(connection, database.schema, seed, scale)
        finally:
            database.dispose()


def _show_next(stage: Stage, outcome: Outcome) -> None:
    """The commands that a person would try now, on the same data."""
    assert outcome.run is not None
    given = " ".join(f"{name}={shlex.quote(text)}" for name, text in stage.given.items())
    run, job, partition = outcome.run.id[:8], outcome.run.job, outcome.run.partition
    again = f"run {job}" + (f" --partition {partition}" if partition else "")
    terminal.say("\nOn the same data you could now type:")
    restores = [
        f"restore {job} --partition {partition} --backup {Path(each['path']).name}"
        for each in outcome.lists.get("backups", ())
    ]
    for verb in (f"rollback {run} --plan", f"rollback {run}", *restores, again, "runs"):
        terminal.say(f"  {given} {COMMAND} {verb}")
    terminal.say(f"  {given} {COMMAND} up      (then look at http://127.0.0.1:3000)")


def _name(job: Job | Migration) -> str:
    return f"{job.system}_demo"
