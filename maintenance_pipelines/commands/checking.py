"""check: whether an application's data is consistent, by the rules of its system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import options
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine.consistency import Consistency, Finding, judge
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.moments import as_of as read_moment
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.orchestration.resources import connect
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.registry import Checks


def check(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="A system with rules, like referrals.")
    ],
    month: Annotated[
        str | None,
        typer.Option(metavar="M", help="Diagnose this month, like 2025-08. Default: rules alone."),
    ] = None,
    as_of: options.AsOf = None,
    json: options.Json = False,
) -> int:
    """Whether the data is consistent, or the diagnosis of a month; nothing is written."""
    checks = registry.checks_of(system)
    if month is not None and checks.diagnose is None:
        raise BadInput(f"The rules of {system} know no months; leave --month out.")
    found = _judge if month is None else _diagnose
    with _looking(system, checks, month, as_of) as (database, scope):
        return 0 if found(checks, database, scope, json).valid else 1


def view(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="A system with views, like referrals.")
    ],
    name: Annotated[str, typer.Argument(metavar="VIEW", help="Like top_referrers.")],
    month: Annotated[str | None, typer.Option(metavar="M", help="A month, like 2025-08.")] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="ID", help="One member or creator, by id.")
    ] = None,
    as_of: options.AsOf = None,
) -> int:
    """Something that people look at, as a table; nothing is written."""
    views = {each.name: each for each in registry.VIEWS.get(system, ())}
    if name not in views:
        having = [f"{s} {v.name}" for s, vs in registry.VIEWS.items() for v in vs]
        raise BadInput(f"{system} has no view {name!r}; there are: {', '.join(having)}.")
    with _looking(system, registry.checks_of(system), month, as_of) as (database, scope):
        terminal.show_report(views[name].shown(database, scope, subject))
    return 0


@contextmanager
def _looking(
    system: str, checks: Checks, month: str | None, as_of: str | None
) -> Iterator[tuple[Database, Scope]]:
    """A system's database, and what is asked about it."""
    moment = read_moment(as_of, utc_now())
    asked = None if month is None else str(Month.parse(month))
    settings = Settings.load()
    chosen = settings.options_of(system, checks.options)
    database = connect(settings, system)
    try:
        yield database, checks.scope(database, moment, asked, chosen)
    finally:
        database.dispose()


def _judge(checks: Checks, database: Database, scope: Scope, as_json: bool) -> Consistency:
    found = judge(database, scope, checks.rules)
    if as_json:
        print_json(found.json())
        return found
    columns = ("rule", "", "offenders", "first")
    terminal.show_table(columns, [_line(finding) for finding in found.findings])
    terminal.say(f"The data is {'valid' if found.valid else 'NOT valid'}.")
    return found


def _diagnose(checks: Checks, database: Database, scope: Scope, as_json: bool) -> Consistency:
    assert checks.diagnose is not None, "asked for only where there is one"
    found = checks.diagnose(database, scope)
    if as_json:
        print_json(found.json())
    else:
        terminal.show_report(found.markdown())
    return found.consistency


def _line(finding: Finding) -> tuple[object, ...]:
    state = "holds" if finding.passed else finding.severity
    first = f"{finding.first[0].id}: {finding.first[0].detail}" if finding.first else ""
    return finding.rule.name, state, finding.count, finding.failure or first
