"""Tables for people: rows as Markdown, money with two decimals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The rows as a Markdown table under a bold title; says so where there are none."""
    # It takes most of a second to import, which verbs without a report should not cost.
    import pandas as pd

    frame = pd.DataFrame([tuple(row) for row in rows], columns=list(columns)).astype(object)
    if frame.empty:
        return f"**{title}**: none."
    frame = frame.where(frame.notna(), "")
    return f"**{title}**\n\n{frame.to_markdown(index=False, disable_numparse=True)}"


def money(cents: int) -> str:
    """Cents as an amount, `1,234.50`."""
    return f"{Decimal(cents) / 100:,.2f}"
