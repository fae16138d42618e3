"""What the cashback migration is called, what it works on, and what may be set about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, PositiveFloat, PositiveInt

from maintenance_pipelines.engine.job import AssetNames
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.cashback import backup
from maintenance_pipelines.systems.cashback.instance import INSTANCES, PATIENCE_S
from maintenance_pipelines.systems.cashback.migration import JOB


class CashbackOptions(BaseModel):
    """Each from the variable `CASHBACK_<OPTION>`."""

    lock_patience_s: PositiveFloat = PATIENCE_S
    """Seconds that a lock of the application's is waited for."""
    backups_kept: PositiveInt = backup.KEPT
    """The newest so many backups of an instance are kept."""


@dataclass(frozen=True)
class Migration:
    """A job that adds tables to several databases, each a partition of its own and each backed up
    before. It is run by people, when they mean to; there is no schedule.
    """

    name: str
    system: str
    says: str
    assets: AssetNames
    backup_asset: str
    partitions: tuple[str, ...]
    options: type[CashbackOptions]
    priority: int = 0
    time_limit: timedelta = timedelta(hours=2)

    @property
    def hyphenated(self) -> str:
        """The job's name as log lines have it."""
        return self.name.replace("_", "-")

    def demand_partition(self, name: str) -> str:
        """The name of an instance; refuses one that there is not."""
        if name not in self.partitions:
            raise BadInput(
                f"There is no instance {name!r} of {self.system}; the instances are: "
                f"{', '.join(self.partitions)}."
            )
        return name


cashback_migration = Migration(
    name=JOB,
    system="cashback",
    says="Every instance of the lending application has the six tables of cashback",
    assets=AssetNames(
        "missing_cashback_tables", "migrated_cashback_tables", "verified_cashback_tables"
    ),
    backup_asset="cashback_backup",
    partitions=INSTANCES,
    options=CashbackOptions,
)
