"""The arguments and options that several verbs share, and how their texts are read."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import typer

from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration import instances
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems.cashback.declaration import Migration
from maintenance_pipelines.systems.registry import AnyJob

ALL = "all"

JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job, as `jobs` lists them.")]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, or any unique beginning of it.")
]
SystemName = Annotated[str, typer.Argument(metavar="SYSTEM", help="A system, like benefits.")]
Partition = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        help="A month like 2025-08, an instance like prod, or `all`. Default: the month that the "
        "job's schedule would ask for; an instance has to be named.",
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(metavar="T", help="The job's now, in ISO 8601; UTC unless it says otherwise."),
]
ExpectedRows = Annotated[
    str | None,
    typer.Option(
        metavar="MIN..MAX", help="Refuse a plan of fewer or more rows; one end may be open."
    ),
]
User = Annotated[
    str | None,
    typer.Option(metavar="E-MAIL|ID", help="A user whose rows the report shows; never printed."),
]
AllowTrigger = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A trigger of the app's that may fire; repeatable."),
]
Digest = Annotated[
    str | None, typer.Option(metavar="D", help="Refuse a plan with another digest than this one.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Dagster's own log, and tracebacks of the unexpected.")
]


def expected_rows(text: str | None) -> tuple[int | None, int | None]:
    """`MIN..MAX` as inclusive bounds; either may be left out, and a bare number means just it."""
    if text is None:
        return None, None
    found = re.fullmatch(r"(\d*)(\.\.)?(\d*)", text.replace(",", "").replace("_", "").strip())
    if found is None or not (found[1] or found[3]):
        raise BadInput(f"--expected-rows {text!r} is not MIN..MAX; write it like 1500..3200.")
    low = int(found[1]) if found[1] else None
    high = int(found[3]) if found[3] else None
    if found[2] is None:
        high = low
    if low is not None and high is not None and low > high:
        raise BadInput(f"--expected-rows {text!r} has its ends the wrong way round.")
    return low, high


def partitions(
    job: AnyJob, settings: Settings, text: str | None, now: datetime
) -> list[str | None]:
    """The partitions that are meant: one, all, or the month that the schedule would ask for;
    [None] for a job without any. All of a migration's are the instances that have an address.
    """
    if isinstance(job, Migration):
        return list(_instances(job, settings, text))
    if job.partitions is None:
        if text is not None:
            raise BadInput(f"{job.name} has no partitions; leave --partition out.")
        return [None]
    if text == ALL:
        return [str(month) for month in job.partitions.until(now)]
    usual = Month.of(now).plus(-job.schedule_lag)
    return [str(job.partitions.check(text or str(usual), now))]


def _instances(job: Migration, settings: Settings, text: str | None) -> list[str]:
    if text is None:
        raise BadInput(
            f"{job.name} only touches an instance that is named: add --partition with one of "
            f"{', '.join(job.partitions)}, or all."
        )
    if text == ALL:
        return instances.demand_configured(settings, job)
    instances.demand_address(settings, job, text)
    return [text]
