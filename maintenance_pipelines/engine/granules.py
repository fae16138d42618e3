"""Granules: the small pieces of a plan that are done or not, and how a batch claims them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.plans import Span

granule = ledger.granule


def pending(connection: sa.Connection, run_id: str, after: int, most: int) -> Span | None:
    """The next consecutive granules beyond a position that are not done, as one span of at most
    so many rows, or of one granule.
    """
    is_open = granule.c.run_id == run_id, granule.c.done_at.is_(None)
    next_first = sa.select(sa.func.min(granule.c.first)).where(*is_open, granule.c.first > after)
    begin = next_first.scalar_subquery()
    rows = connection.execute(
        sa.select(granule.c.first, granule.c.last)
        .where(*is_open, granule.c.first >= begin, granule.c.first < begin + most)
        .where(sa.or_(granule.c.first == begin, granule.c.last < begin + most))
        .order_by(granule.c.first)
    ).all()
    if not rows:
        return None
    last = rows[0].last
    for row in rows[1:]:
        if row.first != last + 1:
            break
        last = row.last
    return Span(rows[0].first, last)


def claim(connection: sa.Connection, run_id: str, span: Span) -> bool:
    """Locks the span's granules for this transaction; false where one is done already.

    The lock goes with the transaction, so a crash frees it and nothing else happened. What is
    left of a session whose client has lost it may hold one still: that one is waited for.
    """
    free = connection.execute(
        sa.select(granule.c.first, granule.c.last)
        .where(granule.c.run_id == run_id, granule.c.done_at.is_(None))
        .where(granule.c.first >= span.first, granule.c.last <= span.last)
        .order_by(granule.c.first)
        .with_for_update()
    ).all()
    rows = sum(int(row.last - row.first + 1) for row in free)
    return rows == span.rows


def done(connection: sa.Connection, run_id: str, span: Span) -> None:
    """Marks the span's granules done, with the transaction that does the work."""
    connection.execute(_within(run_id, span).values(done_at=sa.func.clock_timestamp()))


def halves(connection: sa.Connection, run_id: str, span: Span) -> tuple[Span, Span]:
    """Parts a span of two rows or more; a single granule is cut in two in the ledger."""
    firsts = connection.scalars(
        sa.select(granule.c.first)
        .where(granule.c.run_id == run_id)
        .where(granule.c.first >= span.first, granule.c.last <= span.last)
        .order_by(granule.c.first)
    ).all()
    if len(firsts) > 1:
        middle = firsts[len(firsts) // 2]
    else:
        middle = span.first + span.rows // 2
        connection.execute(_within(run_id, span).values(last=middle - 1))
        connection.execute(granule.insert().values(run_id=run_id, first=middle, last=span.last))
    return Span(span.first, middle - 1), Span(middle, span.last)


def set_apart(
    connection: sa.Connection, run_id: str, span: Span, positions: Sequence[int]
) -> list[Span]:
    """Cuts a span's granules anew: each of those positions runs for itself, as do the stretches
    between them. Returns all of them in order.
    """
    cuts = sorted({span.first, *positions, *(position + 1 for position in positions)})
    firsts = [cut for cut in cuts if cut <= span.last]
    lasts = [*(first - 1 for first in firsts[1:]), span.last]
    connection.execute(sa.delete(granule).where(*_inside(run_id, span)))
    rows = [
        {"run_id": run_id, "first": first, "last": last}
        for first, last in zip(firsts, lasts, strict=True)
    ]
    connection.execute(granule.insert(), rows)
    return [Span(first, last) for first, last in zip(firsts, lasts, strict=True)]


def reopen_failed(connection: sa.Connection, run_id: str) -> None:
    """Opens the granules of failed rows again and forgets their errors, for another attempt."""
    failed = sa.delete(ledger.exception).where(
        ledger.exception.c.run_id == run_id, ledger.exception.c.outcome == "failed"
    )
    positions = failed.returning(ledger.exception.c.position).cte("failed")
    # A row that failed has been cut down to a granule of its own.
    again = granule.update().where(
        granule.c.run_id == run_id, granule.c.first == positions.c.position
    )
    connection.execute(again.values(done_at=None))


def rows_done(connection: sa.Connection, run_id: str) -> int:
    """How many rows of the plan are in granules that are done."""
    rows = sa.func.coalesce(sa.func.sum(granule.c.last - granule.c.first + 1), 0)
    mine = sa.select(rows).where(granule.c.run_id == run_id, granule.c.done_at.is_not(None))
    return int(connection.execute(mine).scalar_one())


def _within(run_id: str, span: Span) -> sa.Update:
    return granule.update().where(*_inside(run_id, span))


def _inside(run_id: str, span: Span) -> tuple[sa.ColumnElement[bool], ...]:
    return granule.c.run_id == run_id, granule.c.first >= span.first, granule.c.last <= span.last
