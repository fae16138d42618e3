"""The settings that shape what counts as true, and the month that is asked about."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.referrals.schema import refund

FIRST_MONTH = "2020-01"
"""The first partition of the jobs: earlier than any record of the app."""


class ReferralsOptions(BaseModel):
    """Environment: `REFERRALS_IGNORE_REFUNDS`, `REFERRALS_SETTLE_SECONDS`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ignore_refunds: bool = Field(
        default=False,
        description="Take no refund off a month's earnings and revenue",
    )
    settle_seconds: int = Field(
        default=120,
        ge=0,
        le=3600,
        description="Put off whoever the webhook wrote of within these seconds; 0 puts off nobody",
    )

    def on(self, connection: sa.Connection, schema: str) -> ReferralsOptions:
        """These options for a database: without a table of refunds there are none to count."""
        there = sa.inspect(connection).has_table(refund.name, schema=schema)
        return self if there else self.model_copy(update={"ignore_refunds": True})


def scope_on(
    database: Database,
    as_of: datetime,
    partition: str | None = None,
    chosen: ReferralsOptions | None = None,
) -> Scope:
    """What is asked of a database at a moment (aware, UTC), with the options that fit it.

    `partition` is a month; without one the running month is meant.
    """
    with database.transaction() as connection:
        fitting = (chosen or ReferralsOptions()).on(connection, database.schema)
    return Scope(as_of, partition, fitting)


def options(scope: Scope) -> ReferralsOptions:
    """The scope's options as this system's."""
    return ReferralsOptions.model_validate(scope.options.model_dump())


def running_month(scope: Scope) -> Month:
    """The month that the counters are of."""
    return Month.of(scope.naive_as_of)


def month_asked(scope: Scope) -> Month:
    """The month that a question is about: the partition, or the running month without one.

    Refuses a month that has not begun.
    """
    running = running_month(scope)
    asked = running if scope.partition is None else scope.month
    if asked > running:
        raise BadInput(f"Month {asked} is in the future; the running month is {running}.")
    return asked


def adapted(connection: sa.Connection, schema: str, chosen: BaseModel) -> BaseModel:
    """The options of a job, fitted to a database."""
    return ReferralsOptions.model_validate(chosen.model_dump()).on(connection, schema)
