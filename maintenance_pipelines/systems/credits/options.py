"""The settings that shape a plan of this system."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope


class CreditsOptions(BaseModel):
    """Environment: `CREDITS_NOTIFY_RESET`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notify_reset: bool = Field(
        default=False,
        description="Also send every professional a note when their free credits were reset",
    )


def options(scope: Scope) -> CreditsOptions:
    """The scope's options as this system's."""
    return CreditsOptions.model_validate(scope.options.model_dump())


def scope_on(
    database: Database,
    as_of: datetime,
    partition: str | None = None,
    chosen: CreditsOptions | None = None,
) -> Scope:
    """What is asked of a database at a moment (aware, UTC); `partition` is a month or None."""
    return Scope(as_of, partition, chosen or CreditsOptions())
