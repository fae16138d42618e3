"""Amounts for people: two decimals."""

from __future__ import annotations

from decimal import Decimal


def money(cents: int) -> str:
    """Cents as an amount, `1,234.50`."""
    return f"{Decimal(cents) / 100:,.2f}"
