"""What the assets get from outside: settings, databases, the operator, the clock, a watcher.

Nothing is read and nothing is connected before an asset asks for it, so that definitions load
without any database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration import instances
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.settings import Settings, url_variable
from maintenance_pipelines.systems.cashback.declaration import Migration

OPERATOR_TAGS = ("maintenance/operator", "user")
"""Launch tags that name who launched a Dagster run; the first that is there counts."""


class Watcher(Protocol):
    """Who follows a run while it happens, beside Dagster: a terminal, or a test."""

    def says(self, line: str) -> None:
        """A log line."""

    def progress(self, done: int, total: int) -> None:
        """So many of the plan's rows are done."""

    def run(self, run: Run) -> None:
        """The ledger's row as it is now."""

    def report(self, markdown: str) -> None:
        """A report, as it is stored with the asset."""

    def rows(self, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows that a person has to know one by one: `failures`, or `left_alone`."""


class Nobody:
    """No watcher: Dagster's own log is enough."""

    def says(self, line: str) -> None:
        """Ignored."""

    def progress(self, done: int, total: int) -> None:
        """Ignored."""

    def run(self, run: Run) -> None:
        """Ignored."""

    def report(self, markdown: str) -> None:
        """Ignored."""

    def rows(self, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Ignored."""


@dataclass(frozen=True)
class Maintenance:
    """The resource `maintenance` of every asset and op.

    `subject` is the user to show in the reports. The terminal hands it over here and not in the
    config, since Dagster keeps and shows the config of each run.
    """

    settings: Callable[[], Settings] = Settings.load
    clock: Callable[[], datetime] = utc_now
    watcher: Watcher = field(default_factory=Nobody)
    subject: str | None = None

    @contextmanager
    def database(self, system: str, **limits: Any) -> Iterator[Database]:
        """A system's database while it is needed; `limits` that are None keep the settings'."""
        database = connect(self.settings(), system)
        given = {name: value for name, value in limits.items() if value is not None}
        try:
            yield replace(database, limits=replace(database.limits, **given))
        finally:
            database.dispose()

    @contextmanager
    def instance(self, job: Migration, name: str) -> Iterator[instances.Opened]:
        """An instance of a migration, and the database with its ledger, while they are needed."""
        with instances.opened(self.settings(), job, name) as found:
            yield found

    def operator(self, tags: Mapping[str, str]) -> str:
        """Who asks: `MAINTENANCE_OPERATOR`, else the launch tag, else the system's user."""
        settings = self.settings()
        if "operator" in settings.model_fields_set:
            return settings.operator
        return next((tags[tag] for tag in OPERATOR_TAGS if tags.get(tag)), settings.operator)


def connect(settings: Settings, system: str) -> Database:
    """A system's database, as the settings give it; nothing is sent to the server yet.

    Starts the embedded server where the URL names a database of it.
    """
    url = embedded.resolve(settings.url(system), settings.home, settings.postgres_version)
    return Database.connect(url, url_variable(system), settings.limits)
