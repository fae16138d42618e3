"""Progress of a run: to whoever watches after every batch, to Dagster every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from maintenance_pipelines.orchestration.resources import Watcher

EVERY_S = 5.0
"""Least time between two events in Dagster's log."""


def telling(
    watcher: Watcher, record: Callable[[str, Mapping[str, float]], None]
) -> Callable[[int, int], None]:
    """What the engine calls with the rows done and planned; `record` writes to Dagster."""
    told = time.monotonic()
    first: tuple[float, int] | None = None

    def tell(done: int, total: int) -> None:
        nonlocal told, first
        watcher.progress(done, total)
        now = time.monotonic()
        # A resumed run begins with rows done that say nothing about today's rate.
        began, done_then = first = first or (now, done)
        if now - told < EVERY_S:
            return
        told = now
        rate = (done - done_then) / (now - began) if now > began else 0.0
        numbers = {
            "rows_done": done,
            "rows_planned": total,
            "rows_per_second": round(rate, 1),
            "seconds_left": round((total - done) / rate, 1) if rate else 0.0,
        }
        record(f"{done:,} of {total:,} rows", numbers)

    return tell
