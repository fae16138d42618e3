"""Guarantee 9: memory does not grow with the number of rows."""

from __future__ import annotations

import resource
from multiprocessing.connection import Connection

import pytest

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.processes import CONTEXT

SLOTS = 10


def life(parent: Connection, url: str) -> None:
    """Plans, applies, verifies and rolls back; answers how many rows, and the peak of memory."""
    database = Database.connect(url, "X")
    verification = toy.backfill(database)
    assert verification.run.state == "verified"
    toy.undo(database, verification.run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parent.send((verification.run.applied, peak))


def peak(make_database: MakeDatabase, url: str, rows: int) -> int:
    """The peak memory of a process of its own over a whole life of a run of so many rows."""
    database = make_database(url)
    toy.plant(database, 1_000 + rows // SLOTS, SLOTS, 1_000)
    # As autovacuum would have done by the time that a table has so many rows.
    toy.write(database, "ANALYZE")
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=life, args=(there, url), daemon=True)
    process.start()
    there.close()
    applied, memory = here.recv()
    process.join()
    assert applied == rows
    return int(memory)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_peak_memory_is_the_same_for_ten_thousand_rows_and_a_million(
    make_database: MakeDatabase, make_url: toy.Any
) -> None:
    few = peak(make_database, make_url(), 10_000)
    many = peak(make_database, make_url(), 1_000_000)
    assert many <= 1.1 * few


def test_peak_memory_hardly_grows_from_a_thousand_rows_to_fifty_thousand(
    make_database: MakeDatabase, make_url: toy.Any
) -> None:
    few = peak(make_database, make_url(), 1_000)
    many = peak(make_database, make_url(), 50_000)
    assert many <= 1.1 * few
