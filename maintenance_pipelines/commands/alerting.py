"""alerts, watch, health: what is off, looking once, and the figures of the jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alert_book import Cause
from maintenance_pipelines.operations.alert_delivery import Pending, pending, try_out
from maintenance_pipelines.operations.alert_routes import Routes
from maintenance_pipelines.orchestration.ledgers import systems
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.settings import Settings


def alerts(
    test: Annotated[
        bool, typer.Option("--test", help="Send every channel a message now; exit 1 if one fails.")
    ] = False,
    json: options.Json = False,
) -> int:
    """What is off at present, and what could not be told; or a test of the channels."""
    settings = Settings.load()
    if test:
        return _try(settings, json)
    with _book(settings) as storage:
        with storage.transaction() as connection:
            causes = alert_book.open_causes(connection)
        waiting = pending(storage)
    if json:
        untold = [_untold(each) for each in waiting]
        print_json({"alerts": [_entry(each) for each in causes], "undelivered": untold})
        return 0
    if not causes:
        terminal.say("Nothing is off.")
    else:
        columns = ("since (UTC)", "severity", "system", "what", "next")
        terminal.show_table(columns, [tuple(_entry(each).values())[1:] for each in causes])
    if waiting:
        terminal.say("\nNot delivered yet:")
        columns = ("channel", "message", "attempts", "again at (UTC)", "why")
        terminal.show_table(columns, [tuple(_untold(each).values()) for each in waiting])
    return 0


def watch(json: options.Json = False) -> int:
    """Looks at everything once and tells of it, as the sensors do; for a crontab without Dagster's
    daemon. Requests no runs.
    """
    # Importing Dagster takes a second or two, which verbs that do without it should not cost.
    from maintenance_pipelines.orchestration import health_assets
    from maintenance_pipelines.orchestration import watch as watching
    from maintenance_pipelines.orchestration.launching import instance_of

    settings = Settings.load()
    with instance_of(settings) as instance, watching.book(settings) as storage:
        now = utc_now()
        failed = watching.look(settings, instance, storage, now)
        health_assets.write(settings, storage, health_assets.measure(settings, instance, now), now)
        came = watching.tell(settings, storage, utc_now)
        with storage.transaction() as connection:
            causes = alert_book.open_causes(connection)
    figures: dict[str, Any] = {
        "open": len(causes),
        "delivered": came.told,
        "undelivered": came.failed,
        "without_channel": came.nowhere,
        "failed_watches": failed,
    }
    if json:
        print_json(figures)
    else:
        terminal.say(
            f"{len(causes)} alerts are open; {came.told} messages delivered, {came.failed} not, "
            f"{came.nowhere} have no channel."
        )
    return 1 if failed or came.failed else 0


def health(json: options.Json = False) -> int:
    """How each job is doing: its last run, success over 24 hours and 30 days, and the trend."""
    from maintenance_pipelines.orchestration.health_assets import measure
    from maintenance_pipelines.orchestration.launching import instance_of

    settings = Settings.load()
    with instance_of(settings) as instance:
        found = measure(settings, instance, utc_now())
    if json:
        print_json({"jobs": [{"job": h.job, "system": h.system} | h.numbers() for h in found]})
        return 0
    columns = ("job", "last run (UTC)", "seconds", "24 h", "30 days", "trend", "slower by")
    terminal.show_table(
        columns,
        [
            (
                each.job,
                f"{each.last.at:%Y-%m-%d %H:%M}" if each.last else "never",
                f"{each.last.seconds:.1f}" if each.last else "",
                _percent(each.day.success),
                _percent(each.month.success),
                "" if each.success_trend is None else f"{each.success_trend:+.0%}",
                "" if each.seconds_trend is None else f"{each.seconds_trend - 1:+.0%}",
            )
            for each in found
        ],
    )
    return 0


@contextmanager
def _book(settings: Settings) -> Iterator[Database]:
    from maintenance_pipelines.orchestration.watch import book

    with book(settings) as storage:
        yield storage


def _try(settings: Settings, as_json: bool) -> int:
    routes = Routes.load(settings, systems())
    if not routes.all():
        raise Misconfigured(
            "No channel is set: put addresses as Apprise has them into MAINTENANCE_ALERTS; "
            "docs/unattended.md says how."
        )
    came = [(channel.service, problem) for channel, problem in try_out(routes).items()]
    if as_json:
        print_json({"channels": [{"service": s, "delivered": not p, "error": p} for s, p in came]})
    else:
        terminal.show_table(("channel", "came"), [(s, p or "delivered") for s, p in came])
    return 1 if any(problem for _, problem in came) else 0


def _entry(cause: Cause) -> dict[str, str]:
    return {
        "cause": cause.key,
        "since": f"{cause.since:%Y-%m-%d %H:%M}",
        "severity": cause.severity.value,
        "system": cause.system,
        "title": cause.title,
        "next": cause.next_step,
    }


def _untold(message: Pending) -> dict[str, Any]:
    return {
        "service": message.service,
        "subject": message.subject,
        "attempts": message.attempts,
        "next_attempt_at": f"{message.next_attempt_at:%Y-%m-%d %H:%M}",
        "error": message.error,
    }


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"
