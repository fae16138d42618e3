"""What the three assets of a job have in common while one of them is materialized."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import dagster as dg

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.refusals import BadInput, Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration import names
from maintenance_pipelines.orchestration.progress import telling
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.systems.registry import AnyJob

Declared = TypeVar("Declared", bound=AnyJob)

RUN_ID = "run_id"
"""The metadata entry by which one asset tells the next which run it was about."""


@dataclass(frozen=True)
class Step(Generic[Declared]):
    """One materialization of one asset of a job."""

    job: Declared
    context: dg.AssetExecutionContext
    maintenance: Maintenance

    @property
    def partition(self) -> str | None:
        """The partition that is materialized; None for a job without any."""
        return self.context.partition_key if self.context.has_partition_key else None

    @property
    def label(self) -> str:
        """What is worked on, as log lines have it."""
        return self.partition or self.job.name

    @property
    def operator(self) -> str:
        """Who launched this."""
        return self.maintenance.operator(self.context.run.tags)

    @property
    def by_person(self) -> bool:
        """Whether a person launched this, not a schedule or a sensor."""
        return not set(names.AUTOMATIC_TAGS) & set(self.context.run.tags)

    @property
    def plan_age(self) -> timedelta:
        """How old a plan may be when it is applied."""
        return timedelta(hours=self.maintenance.settings().plan_hours)

    def allowed_triggers(self, named: list[str]) -> frozenset[str]:
        """The app's triggers that may fire: those of the settings and those named here."""
        return self.maintenance.settings().allowed_triggers(self.job.system) | frozenset(named)

    def request(
        self,
        expected: tuple[int | None, int | None],
        allowed_triggers: frozenset[str] = frozenset(),
    ) -> Request:
        """How a plan is asked for: by whom, and how many rows are expected."""
        return Request(
            operator=self.operator,
            expected_rows=expected,
            approval_above=self.maintenance.settings().approval_above(self.job.system),
            by_person=self.by_person,
            dagster_run_id=self.context.run.run_id,
            allowed_triggers=allowed_triggers,
        )

    def says(self, line: str) -> None:
        """Logs a line under the job's name."""
        text = f"[{self.job.hyphenated}] {line}"
        self.context.log.info(text)
        self.maintenance.watcher.says(text)

    def result(self, run: Run, keys: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Logs what has become of the run, for programs that read logs, with the job's own keys."""
        self.says(f"Result: {json.dumps({**run.json(), **keys})}")

    def sees(self, run: Run) -> None:
        """Hands the ledger's row to whoever watches."""
        self.maintenance.watcher.run(run)

    def rehearsed(self, run: Run, metadata: Mapping[str, dg.MetadataValue]) -> None:
        """Records a rehearsal, which has changed nothing; refuses where rows would fail."""
        self.context.log_event(
            dg.AssetObservation(
                asset_key=self.context.asset_key,
                partition=self.partition,
                description="Rehearsed: everything was applied and rolled back.",
                metadata=metadata,
            )
        )
        self.result(run)
        if run.failed:
            raise Guarded(
                f"{run.failed:,} of {run.planned:,} rows would fail; nothing was written."
            )

    def is_followed_by(self, asset: dg.AssetKey) -> bool:
        """Whether this Dagster run also materializes that later asset."""
        chosen = self.context.run.asset_selection
        return chosen is None or asset in chosen

    def run_made_by(self, asset: dg.AssetKey) -> str | None:
        """The id of the run that an earlier asset of this same Dagster run was about."""
        records = self.context.instance.get_records_for_run(
            self.context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        for record in records:
            event = record.asset_materialization
            if event is not None and event.asset_key == asset:
                return str(event.metadata[RUN_ID].value)
        return None

    def run_named(self, database: Database, beginning: str) -> Run:
        """The run that a config names; refuses one of another job or partition."""
        run = runs.find(database, beginning)
        if (run.job, run.partition) != (self.job.name, self.partition):
            raise BadInput(
                f"Run {run.id} is of {run.label}, not of {self.job.name} {self.partition or ''}."
            )
        return run

    def progress(self) -> Callable[[int, int], None]:
        """Tells the watcher of progress, and Dagster by observations of the asset."""

        def observe(description: str, numbers: Mapping[str, float]) -> None:
            self.context.log_event(
                dg.AssetObservation(
                    asset_key=self.context.asset_key,
                    partition=self.partition,
                    description=description,
                    metadata=numbers,
                )
            )

        return telling(self.maintenance.watcher, observe)
