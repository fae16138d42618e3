"""install, prune, up, demo, test: the verbs about the house itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.looking import known_system
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.pruning import prune as prune_database
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.ledgers import configured, ledgers
from maintenance_pipelines.settings import PROJECT, Settings

ADDRESS = "127.0.0.1"
"""Where the UI listens: it has no authentication of its own, so nowhere else."""


def install(system: options.SystemName, json: options.Json = False) -> int:
    """Creates or upgrades the ledger of that system, in each database that has one."""
    name = known_system(system)
    with ledgers(Settings.load(), [name]) as found:
        (revision, *_) = [ledger.install(each.database) for each in found]
    if json:
        print_json({"system": name, "revision": revision})
    else:
        terminal.say(f"The ledger of {name} is at revision {revision}.")
    return 0


def prune(
    days: Annotated[
        int | None, typer.Option(min=0, help="Keep plans for so long. Default: the settings'.")
    ] = None,
    json: options.Json = False,
) -> int:
    """Drops old plans, in every configured system; a pruned run can't be rolled back."""
    settings = Settings.load()
    keep = settings.retention_days if days is None else days
    pruned: dict[str, list[str]] = {}
    with ledgers(settings, configured(settings)) as found:
        for each in found:
            pruned.setdefault(each.system, []).extend(prune_database(each.database, keep))
    if json:
        print_json({"days": keep, "pruned": pruned})
    for system, ids in pruned.items() if not json else ():
        terminal.say(f"{system}: {len(ids)} plans older than {keep} days dropped.")
    return 0


GRACE_S = 45
"""Seconds that Dagster's processes have to end by themselves."""


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help=f"On {ADDRESS} only.")] = 3000,
) -> int:
    """Dagster's UI and daemon, with the embedded PostgreSQL where no URL is set."""
    _demand_free(port)
    environment = {
        **os.environ,
        **Settings.load().dagster_environment(),
        # `telemetry: enabled: false` sends nothing and still makes folders for it in the project.
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dagster",
        "dev",
        "-w",
        str(PROJECT / "workspace.yaml"),
    ]
    terminal.say(f"The UI will be at http://{ADDRESS}:{port}; Ctrl-C stops it.")
    # Without a group of its own, Ctrl-C would reach Dagster twice: from the terminal and from here.
    child = subprocess.Popen(
        [*command, "-h", ADDRESS, "-p", str(port)],
        cwd=PROJECT,
        env=environment,
        start_new_session=True,
    )

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    def stop(number: int, frame: FrameType | None) -> None:
        child.send_signal(signal.SIGINT)
        # What a run was doing then is finished by the next one, as after any other kill.
        last_resort = threading.Timer(GRACE_S, kill)
        last_resort.daemon = True
        last_resort.start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return 0 if child.wait() in (0, -signal.SIGINT, 130) else 1


def _demand_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            raise BadInput(f"Port {port} is in use; give another one with --port.") from None


def demo(
    job: Annotated[
        str, typer.Argument(metavar="[JOB]", help="A job that has demo data.")
    ] = "benefit_status_backfill",
    partition: Annotated[
        str | None, typer.Option(metavar="P", help="Default: the one the demo data is about.")
    ] = None,
    scale: Annotated[int, typer.Option(min=1, help="Multiplies the made-up users.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 2025,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the embedded server. Default: .maintenance/"),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """An embedded PostgreSQL, realistic data, and a job on it from plan to proof."""
    from maintenance_pipelines.demonstration import demonstrate

    return demonstrate(job, partition, scale, seed, data, as_json=json, verbose=verbose)


def test(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[PYTEST ARGUMENTS]")] = None,
) -> int:
    """The test suite, installing what it needs; `--long` adds hundreds of kills."""
    launcher = str(PROJECT / "maintenance")
    os.execv(launcher, [launcher, "test", *(arguments or [])])
