"""The settings that shape a plan of this system."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.refusals import BadInput


class MonetizationOptions(BaseModel):
    """Environment: `MONETIZATION_RETENTION_DAYS`, `MONETIZATION_RETENTION_ONLY`,
    `MONETIZATION_LEAVE_OUT_DELETED` and `MONETIZATION_MAIL_EXPIRED_TIERS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    retention_days: int = Field(
        default=365,
        ge=1,
        le=36_500,
        description="Days that a redemption is kept: days of 24 hours, before the job's now",
    )
    retention_only: bool = Field(
        default=False,
        description="Delete redemptions by age alone, even where that re-arms a code",
    )
    leave_out_deleted: bool = Field(
        default=False,
        description="Do not count soft-deleted shots, aims and targets",
    )
    mail_expired_tiers: bool = Field(
        default=False,
        description="Put a mail into the outbox for every tier that has expired",
    )


def scope_on(
    database: Database, as_of: datetime, partition: str | None, chosen: MonetizationOptions
) -> Scope:
    """What is asked of a database at a moment (aware, UTC). This system knows no months."""
    if partition is not None:
        raise BadInput("Monetization is judged as it is now; leave the month out.")
    return Scope(as_of, None, chosen)


def options(scope: Scope) -> MonetizationOptions:
    """The scope's options as this system's."""
    return MonetizationOptions.model_validate(scope.options.model_dump())
