"""The settings that shape a plan of this system, beside the month."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class BenefitsOptions(BaseModel):
    """Environment: `BENEFITS_FIXED_CYCLES` and `BENEFITS_INCLUDE_CREATED_AFTER_CYCLE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed_cycles: Literal["yearly-window", "quarterly-repeating"] = Field(
        default="yearly-window",
        description="Which windows a CALENDAR_FIXED benefit has: one a year (the app of August"
        " 2025), or every three months where it is QUARTERLY and three months long (its successor)",
    )
    include_created_after_cycle: bool = Field(
        default=False,
        description="Also create cycles that ended before the benefit or the card was created",
    )
