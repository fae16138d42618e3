"""What a person may set when an asset is materialized, as the launchpad shows it."""

from __future__ import annotations

import dagster as dg
from pydantic import Field


class DetectionConfig(dg.Config):
    """How a plan is made."""

    as_of: str | None = Field(
        default=None,
        description="The job's now, in ISO 8601; UTC unless it says otherwise, not in the future. "
        "Default: the moment of the run.",
    )
    expected_rows_min: int | None = Field(
        default=None, ge=0, description="Refuse a plan of fewer rows than this."
    )
    expected_rows_max: int | None = Field(
        default=None, ge=0, description="Refuse a plan of more rows than this."
    )
    subject: str | None = Field(
        default=None,
        description="One user, by e-mail or id, whose rows are shown in the report. "
        "Neither is printed.",
    )
    allow_triggers: list[str] = Field(
        default_factory=list,
        description="Triggers of the app's tables that may fire, by name, beside those that the "
        "settings allow.",
    )
    granule_rows: int | None = Field(
        default=None, gt=0, description="Rows that are marked done together. Default: 1,000."
    )


class MaterializationConfig(dg.Config):
    """Which plan is applied, and how."""

    plan: str | None = Field(
        default=None,
        description="The id of the plan to apply, or its beginning. Default: the plan of this "
        "same Dagster run, else the newest unapplied one of the partition.",
    )
    digest: str | None = Field(
        default=None, description="Refuse a plan whose digest is not this one."
    )
    rehearse: bool = Field(
        default=False,
        description="Apply batch by batch and roll each back, to find what the database would "
        "refuse. Nothing is written and nothing is materialized.",
    )
    allow_triggers: list[str] = Field(
        default_factory=list,
        description="Triggers of the app's tables that may fire, by name, beside those that the "
        "settings allow.",
    )
    batch_rows: int | None = Field(
        default=None, gt=0, description="Rows that one transaction writes. Default: 20,000."
    )
    batch_timeout_s: int | None = Field(
        default=None, gt=0, description="Longest statement of a batch, in seconds. Default: 60."
    )


class VerificationConfig(dg.Config):
    """Which run is verified."""

    plan: str | None = Field(
        default=None,
        description="The id of the run to verify, or its beginning. Default: the run that this "
        "same Dagster run applied, else the newest applied one of the partition.",
    )
    subject: str | None = Field(
        default=None,
        description="One user, by e-mail or id, whose rows are shown in the report. "
        "Neither is printed.",
    )


class MissingTablesConfig(dg.Config):
    """How a migration is planned."""

    as_of: str | None = Field(
        default=None,
        description="The moment that the plan is about, in ISO 8601; UTC unless it says "
        "otherwise, not in the future. Default: the moment of the run.",
    )
    expected_rows_min: int | None = Field(
        default=None, ge=0, description="Refuse a plan of fewer tables than this."
    )
    expected_rows_max: int | None = Field(
        default=None, ge=0, description="Refuse a plan of more tables than this."
    )


class BackupConfig(dg.Config):
    """Which plan the backup is made for."""

    plan: str | None = Field(
        default=None,
        description="The id of the plan, or its beginning. Default: the plan of this same Dagster "
        "run, else the newest unapplied one of the instance.",
    )


class NewTablesConfig(dg.Config):
    """Which plan of tables is applied, and how."""

    plan: str | None = Field(
        default=None,
        description="The id of the plan to apply, or its beginning. Default: the plan of this "
        "same Dagster run, else the newest unapplied one of the instance.",
    )
    digest: str | None = Field(
        default=None, description="Refuse a plan whose digest is not this one."
    )
    rehearse: bool = Field(
        default=False,
        description="Create the tables and roll back, to find what the database would refuse. "
        "Nothing is written and nothing is materialized.",
    )


class VerifiedTablesConfig(dg.Config):
    """Which migration is verified."""

    plan: str | None = Field(
        default=None,
        description="The id of the run to verify, or its beginning. Default: the run that this "
        "same Dagster run applied, else the newest applied one of the instance.",
    )
