"""One look at everything: what the sensors do every half minute, and `./maintenance watch` once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import dagster as dg
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alert_delivery import Delivered, deliver
from maintenance_pipelines.operations.alert_routes import Routes
from maintenance_pipelines.operations.alerts import HOUSE, Alert, Severity
from maintenance_pipelines.orchestration import (
    instances,
    killed,
    pace,
    unclosed,
    watch_ends,
    watch_ledgers,
)
from maintenance_pipelines.orchestration.ledgers import systems
from maintenance_pipelines.settings import Settings

MY_TURN = sa.text("SELECT pg_try_advisory_xact_lock(hashtext('maintenance_pipelines.watch'))")
"""True for one of those that want to look at the same time."""


@contextmanager
def book(settings: Settings) -> Iterator[Database]:
    """The database that holds the book of alerts, its tables made where they are absent."""
    with instances.storage(settings) as storage:
        alert_book.prepare(storage)
        yield storage


def look(
    settings: Settings, instance: dg.DagsterInstance, storage: Database, now: datetime
) -> list[str]:
    """Looks at what has happened and enters it into the book.

    A watch that fails is an alert, and does not keep the others from looking. Returns the names
    of those that failed. While somebody else looks there is nothing to do.
    """
    watches: dict[str, Callable[[], object]] = {
        "killed": lambda: killed.bury(settings, instance),
        "ends": lambda: watch_ends.watch(settings, instance, storage, now),
        "ledgers": lambda: watch_ledgers.watch(settings, storage, now),
        "unclosed": lambda: unclosed.watch(settings, storage, now),
        "pace": lambda: pace.watch(settings, instance, storage, now),
    }
    with storage.transaction() as turn:
        if not turn.execute(MY_TURN).scalar_one():
            return []
        failed = [name for name, watch in watches.items() if not guarded(storage, name, watch, now)]
        alert_book.prune(turn, now)
    return failed


def guarded(storage: Database, name: str, watch: Callable[[], object], now: datetime) -> bool:
    """Carries a watch out; where it fails, that is an alert. True where it came to its end."""
    try:
        watch()
    except Exception as error:
        with storage.transaction() as connection:
            alert_book.raise_(connection, blind(name, error), now)
        return False
    with storage.transaction() as connection:
        alert_book.recover(connection, f"watch/{name}", now, "it looks again")
    return True


def tell(settings: Settings, storage: Database, clock: Callable[[], datetime]) -> Delivered:
    """Delivers what is in the book to the channels of the settings."""
    return deliver(storage, Routes.load(settings, systems()), clock)


def blind(name: str, error: Exception) -> Alert:
    """A watch that failed: what it would have seen is not known."""
    return Alert(
        cause=f"watch/{name}",
        severity=Severity.ERROR,
        system=HOUSE,
        title=f"the watch over {name} has failed",
        # Its text may hold anything.
        happened=f"Unexpected {type(error).__name__}; until it works again nobody is told what it "
        "would have seen.",
        written="Jobs are not affected.",
        next_step="./maintenance watch, and the ticks of the sensor watch_runs in the UI",
        changes=type(error).__name__,
    )
