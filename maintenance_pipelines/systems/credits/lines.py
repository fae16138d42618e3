"""Lines: facts that are arrays, side by side as rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

MOST = 2**31 - 1
"""More lines than an array has room for."""


def lines(
    units: sa.FromClause, **arrays: sa.ColumnElement[Any]
) -> tuple[sa.Join, sa.TableValuedAlias]:
    """Units joined to the lines of their arrays, and the lines: `number` from 1, then the names."""
    columns = [sa.column(name, _item(array.type)) for name, array in arrays.items()]
    line = (
        sa.func.unnest(*arrays.values())
        .table_valued(*columns, with_ordinality="number", name="line")
        .render_derived()
    )
    # Always so; without it the planner expects ten lines of each unit, and reads a whole table
    # for them where it should use an index.
    return units.join(line, line.c.number.between(1, MOST)), line


def _item(type_: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    assert isinstance(type_, sa.ARRAY)
    return type_.item_type
