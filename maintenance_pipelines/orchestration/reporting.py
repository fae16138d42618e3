"""A run as Dagster's metadata: numbers that the UI plots, and the report to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg

from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration.steps import RUN_ID

Metadata = dict[str, dg.MetadataValue]


def planned(run: Run, report: str) -> Metadata:
    """The pre-execution report and what is planned and left alone."""
    return {
        "report": dg.MetadataValue.md(report),
        "planned": dg.MetadataValue.int(run.planned),
        **{f"excluded/{why}": dg.MetadataValue.int(n) for why, n in run.excluded.items()},
        **identity(run),
    }


def applied(run: Run, rows_per_second: float) -> Metadata:
    """What became of the plan's rows, and how fast they were applied just now."""
    rate = dg.MetadataValue.float(round(rows_per_second, 1))
    return {**_outcomes(run), "rows_per_second": rate, **identity(run)}


def verified(run: Run, report: str) -> Metadata:
    """The post-execution report and the final counts."""
    return {
        "report": dg.MetadataValue.md(report),
        **_outcomes(run),
        "appeared_since": dg.MetadataValue.int(run.appeared_since),
        "touched_since": dg.MetadataValue.int(run.touched_since),
        **identity(run),
    }


def undone(undo: Run, report: str) -> Metadata:
    """What a rollback has taken back, and what it leaves alone."""
    return {"report": dg.MetadataValue.md(report), **_outcomes(undo), **identity(undo)}


def rollback_report(undo: Run, left_alone: Sequence[tuple[str, str]]) -> str:
    """A rollback for people: what it takes back, and the first rows that stay, with why."""
    rows = [
        ("to take back", undo.planned),
        ("taken back", undo.applied),
        ("in conflict", undo.conflicts),
        ("failed", undo.failed),
    ]
    title = f"# Rollback of run {undo.reverts} of {undo.label}: {undo.state}"
    parts = [title, _table(("rows", ""), rows)]
    if undo.excluded:
        counts = sorted(undo.excluded.items())
        parts += ["**Left alone, by reason**", _table(("reason", "rows"), counts)]
    if left_alone:
        title = f"**The first {len(left_alone)} rows that are left alone**"
        parts += [title, _table(("row", "why"), left_alone)]
    return "\n\n".join(parts) + "\n"


def _table(columns: tuple[str, str], rows: Iterable[tuple[object, object]]) -> str:
    lines = [columns, ("---", "---"), *rows]
    return "\n".join(f"| {first} | {second} |" for first, second in lines)


def _outcomes(run: Run) -> Metadata:
    return {
        "planned": dg.MetadataValue.int(run.planned),
        "applied": dg.MetadataValue.int(run.applied),
        "skipped": dg.MetadataValue.int(run.skipped),
        "conflicts": dg.MetadataValue.int(run.conflicts),
        "failed": dg.MetadataValue.int(run.failed),
    }


def identity(run: Run) -> Metadata:
    """Which run it is, and how it stands."""
    return {
        RUN_ID: dg.MetadataValue.text(run.id),
        "digest": dg.MetadataValue.text(run.digest),
        "state": dg.MetadataValue.text(run.state),
        "seconds": dg.MetadataValue.float(round(run.seconds, 3)),
    }
