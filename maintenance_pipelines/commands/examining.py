"""doctor: whether the settings and the databases are such that the jobs can work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.looking import known_system
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.preflight import preflight
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.orchestration import instances
from maintenance_pipelines.orchestration.ledgers import configured
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.orchestration.sentences import refusal_of
from maintenance_pipelines.settings import Settings, url_variable
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback import backup
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.cashback.detection import demand_fit, detect


def doctor(
    system: Annotated[
        str | None, typer.Argument(metavar="[SYSTEM]", help="Default: every configured one.")
    ] = None,
    json: options.Json = False,
) -> int:
    """Settings and preflight of each job, one line each; nothing is written."""
    settings = Settings.load()
    names = [known_system(system)] if system else configured(settings)
    findings = [finding for name in names for finding in _examine(settings, name)]
    code = max((finding.exit_code for finding in findings), default=0)
    if json:
        print_json({"findings": [finding.json() for finding in findings], "exit_code": code})
        return code
    for finding in findings:
        terminal.say(
            f"{'ok   ' if finding.exit_code == 0 else 'WRONG'} {finding.what}: {finding.says}"
        )
    return code


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` has looked at."""

    what: str
    says: str
    exit_code: int = 0

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {"what": self.what, "ok": self.exit_code == 0, "says": self.says}


def _examine(settings: Settings, system: str) -> Iterator[Finding]:
    migrations = [each for each in registry.MIGRATIONS.values() if each.system == system]
    for job in migrations:
        for name in instances.demand_configured(settings, job):
            variable = url_variable(f"{system}_{name}")
            yield from _or_refusal(variable, _instance(settings, job, name))
    if not migrations:
        yield from _or_refusal(url_variable(system), _database(settings, system))


def _or_refusal(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """What was found, up to a refusal, which is a finding too."""
    try:
        yield from findings
    except Refusal as refusal:
        yield Finding(what, str(refusal), refusal.exit_code)
    except DBAPIError as error:
        retold = refusal_of(error)
        yield Finding(what, str(retold), retold.exit_code)


def _database(settings: Settings, system: str) -> Iterator[Finding]:
    database = connect(settings, system)
    try:
        yield _ledger("ledger", database)
        for job in registry.JOBS.values():
            if job.system == system:
                yield _fitness(settings, job, database)
        yield from _absent(system, database)
    finally:
        database.dispose()


def _instance(settings: Settings, job: Migration, name: str) -> Iterator[Finding]:
    with instances.opened(settings, job, name) as opened:
        yield _ledger(f"ledger of {name}", opened.ledger)
        settings.approval_above(job.system)
        instance = opened.instance
        found = detect(instance)
        demand_fit(instance, found)
        backup.demand_possible(instance, settings.backups)
        missing = len(found.comparison.missing)
        does = f"would create {missing} tables" if missing else "has nothing to do"
        says = f"{does} in {found.kind} {found.where}, {found.size / (1 << 20):,.1f} MB"
        yield Finding(f"{job.name} {name}", says)


def _ledger(what: str, database: Database) -> Finding:
    with database.transaction() as connection:
        current = ledger.is_current(connection)
    says = (
        "is there and current" if current else "is made on first use, or by `./maintenance install`"
    )
    return Finding(what, says)


def _absent(system: str, database: Database) -> Iterator[Finding]:
    """What is optional and not there, with the statement that makes it: no fault."""
    look = registry.ABSENT.get(system)
    if look is not None:
        with database.transaction() as connection:
            for each in look(connection, database.schema):
                yield Finding(f"{each.what} is absent", each.ddl)


def _fitness(settings: Settings, job: Job, database: Database) -> Finding:
    try:
        settings.options(job)
        settings.approval_above(job.system)
        fit = preflight(job, database, settings.allowed_triggers(job.system))
    except Refusal as refusal:
        return Finding(job.name, str(refusal), refusal.exit_code)
    triggers = f"; allowed triggers fire: {', '.join(fit.triggers)}" if fit.triggers else ""
    return Finding(
        job.name, f"can work on this database, PostgreSQL {fit.server_version}{triggers}"
    )
