"""Tables for people: rows as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The rows as a Markdown table, empty where there are none."""
    # It takes most of a second to import, which verbs without a report should not cost.
    import pandas as pd

    frame = pd.DataFrame([tuple(row) for row in rows], columns=list(columns)).astype(object)
    if frame.empty:
        return ""
    frame = frame.where(frame.notna(), "")
    return str(frame.to_markdown(index=False, disable_numparse=True))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The rows as a Markdown table under a bold title; says so where there are none."""
    shown = markdown(columns, rows)
    return f"**{title}**\n\n{shown}" if shown else f"**{title}**: none."
