"""Proof: what PostgreSQL itself counted as written in the running transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

Counts = tuple[int, int, int]
"""Rows inserted, updated, deleted."""

NOTHING: Counts = (0, 0, 0)

# The view also holds what earlier transactions of the same session have not flushed yet, so only
# the difference between two readings belongs to a transaction. Triggers' writes are in it. What
# is written to a partitioned table is counted for its partitions.
COUNTED = sa.text(
    """
    SELECT n.nspname || '.' || c.relname,
           sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint, sum(n_tup_del)::bigint
      FROM pg_stat_xact_user_tables s
      JOIN pg_class c ON c.oid = coalesce(pg_partition_root(s.relid), s.relid)
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE s.schemaname <> 'maintenance' AND n_tup_ins + n_tup_upd + n_tup_del > 0
     GROUP BY 1
    """
)


class ProofFailed(Exception):
    """The database counted writes that were not planned; the transaction is rolled back."""


@dataclass(frozen=True)
class Reading:
    """The counters of every table outside `maintenance` at one moment of a transaction."""

    tables: Mapping[str, Counts]

    @classmethod
    def take(cls, connection: sa.Connection) -> Reading:
        """Reads the counters now."""
        return cls({row[0]: (row[1], row[2], row[3]) for row in connection.execute(COUNTED)})

    def since(self, earlier: Reading) -> dict[str, Counts]:
        """What was counted between `earlier` and this reading, tables without writes left out."""
        changes = {}
        for table, (inserted, updated, deleted) in self.tables.items():
            before = earlier.tables.get(table, (0, 0, 0))
            change = (inserted - before[0], updated - before[1], deleted - before[2])
            if any(change):
                changes[table] = change
        return changes


def demand_nothing_written(connection: sa.Connection, earlier: Reading) -> None:
    """Raises `ProofFailed` where any table outside `maintenance` was written since `earlier`."""
    changes = Reading.take(connection).since(earlier)
    if changes:
        raise ProofFailed(f"Planning wrote to the application's tables: {spell(changes)}.")


def demand_exactly(
    connection: sa.Connection,
    earlier: Reading,
    expected: Mapping[str, Counts],
    triggers_allowed: bool,
) -> dict[str, Counts]:
    """Raises `ProofFailed` unless just `expected` was written, table by table, nothing elsewhere.

    An insert that loses a race for its key is counted as inserted and deleted again; such pairs
    are taken off. Where the operator has allowed triggers, what they write beyond `expected` is
    accounted to them. Returns what the database counted for the expected tables.
    """
    changes = Reading.take(connection).since(earlier)
    counted = {table: _settled(changes.pop(table, NOTHING), due) for table, due in expected.items()}
    if triggers_allowed:
        unplanned = any(
            have < due
            for table, counts in counted.items()
            for have, due in zip(counts, expected[table], strict=True)
        )
    else:
        unplanned = counted != dict(expected) or bool(changes)
    if unplanned:
        raise ProofFailed(
            f"The database counted {spell({**counted, **changes})}, "
            f"planned was {spell(expected)}; the batch was rolled back."
        )
    return counted


def _settled(counts: Counts, expected: Counts) -> Counts:
    inserted, updated, deleted = counts
    lost_races = deleted if expected[2] == 0 and inserted >= deleted else 0
    return inserted - lost_races, updated, deleted - lost_races


def spell(changes: Mapping[str, Counts]) -> str:
    """Counts in words, table by table."""
    return "; ".join(
        f"{table}: {inserted} inserted, {updated} updated, {deleted} deleted"
        for table, (inserted, updated, deleted) in sorted(changes.items())
    )
