"""send: the mails of a system's outbox that are due."""

from __future__ import annotations

from typing import Annotated

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.posting import send as send_mails
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.systems import registry


def send(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="A system with mails, like monetization.")
    ],
    json: options.Json = False,
) -> int:
    """Sends the mails that are due, each once; none is sent twice by itself."""
    if system not in registry.LETTERS:
        having = ", ".join(sorted(registry.LETTERS))
        raise BadInput(f"{system} has no mails; these have: {having}.")
    maintenance = Maintenance()
    with maintenance.database(system) as database:
        delivery = send_mails(maintenance, system, database)
    if json:
        print_json(delivery.json())
    else:
        numbers = [(name, count) for name, count in delivery.json().items() if count is not None]
        terminal.show_table(("mails", ""), numbers)
    return 0 if delivery.trouble is None else 1
