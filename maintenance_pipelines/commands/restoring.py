"""restore: a backup takes an instance's place, and what was there is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration import instances
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.cashback import backup as backups
from maintenance_pipelines.systems.cashback import restore as restoring
from maintenance_pipelines.systems.cashback.declaration import Migration


def restore(
    job: options.JobName,
    partition: Annotated[
        str | None, typer.Option(metavar="P", help="The instance, like prod.")
    ] = None,
    backup: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The backup: a path, or a name in the backups' folder."),
    ] = None,
    json: options.Json = False,
) -> int:
    """Puts a backup in an instance's place; what is there now is kept."""
    settings, found = Settings.load(), registry.find(job)
    if not isinstance(found, Migration):
        raise BadInput(f"{found.name} makes no backups; `./maintenance rollback` takes a run back.")
    if partition is None:
        raise BadInput(f"Name the instance to restore: --partition {', '.join(found.partitions)}.")
    with instances.opened(settings, found, partition) as opened:
        chosen = _chosen(settings, partition, backup)
        said = restoring.restore(opened.instance, chosen)
        is_file, where = opened.instance.kind == "SQLite", opened.instance.where
    restored, kept = (where, said) if is_file else (said, where)
    if json:
        named = {"job": found.name, "partition": partition, "backup": str(chosen)}
        print_json({**named, "restored": restored, "kept": kept})
        return 0
    terminal.say(f"{chosen} is restored as {restored}; what was there is kept as {kept}.")
    if not is_file:
        terminal.say("Point the application to the restored database, or rename the two.")
    return 0


def _chosen(settings: Settings, name: str, given: str | None) -> Path:
    """The backup that is meant; refuses to guess."""
    if given is None:
        newest = next(iter(backups.newest_first(settings.backups, name)), None)
        there = f"the newest of {name} is {newest}" if newest else f"there is none of {name}"
        raise BadInput(f"Name the backup to restore with --backup; {there}.")
    mine = settings.backups / name / given
    return mine if mine.is_file() else Path(given).expanduser().absolute()
