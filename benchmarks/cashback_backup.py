"""What the backup of an SQLite file costs beside SQLite's own `.backup` and `integrity_check`.

    .venv/bin/python -m benchmarks.cashback_backup [--gigabytes 1] [--runs 3] [--folder DIR]

Ours copies, counts every table's rows before and afterwards, checks the copy and brings it to
disk. Memory is that of a process which does nothing else, beside the same for a file of a tenth of
the size: the two are alike where memory does not depend on the file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from maintenance_pipelines.systems.cashback import backup
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance

ROWS_PER_GIGABYTE = 3_600_000
NOTES = 180
"""Characters of a payment's note, so that a row is as wide as people write them."""


def main() -> None:
    """Builds a file, measures both ways on it in turn, prints medians, their ratio and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="a folder on the disk that is to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        for mode in ("delete", "wal"):
            rows = round(arguments.gigabytes * ROWS_PER_GIGABYTE)
            small, path = folder / f"{mode}_tenth.db", folder / f"{mode}.db"
            build(small, rows // 10, mode)
            _, memory = in_a_process(small)
            print(f"{'memory at most':26} {memory / 1024:6.0f} MB", flush=True)
            build(path, rows, mode)
            measure(path, arguments.runs)
            for file in (small, path):
                file.unlink()


def build(path: Path, rows: int, mode: str) -> None:
    """A lending database of which payments are the most."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(
            """
            CREATE TABLE user (id INTEGER PRIMARY KEY, username VARCHAR(80) UNIQUE);
            CREATE TABLE loan (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES user (id));
            CREATE TABLE daily_tracker (id INTEGER PRIMARY KEY, user_id INTEGER);
            CREATE TABLE payment (id INTEGER PRIMARY KEY, loan_id INTEGER REFERENCES loan (id),
                amount NUMERIC(15, 2), transaction_id VARCHAR(100), notes TEXT);
            CREATE INDEX payment_by_loan ON payment (loan_id);
            CREATE UNIQUE INDEX payment_by_transaction ON payment (transaction_id);
            """
        )
        series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        users = max(rows // 1000, 1)
        connection.execute(f"INSERT INTO user {series} SELECT i, 'user ' || i FROM n", [users])
        connection.execute(f"INSERT INTO loan {series} SELECT i, i FROM n", [users])
        connection.execute(
            f"INSERT INTO payment {series} SELECT i, 1 + i * 7919 % {users}, i % 1000 / 100.0,"
            f" printf('%020d', i), substr(hex(randomblob(90)), 1, {NOTES}) FROM n",
            [rows],
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB, {rows:,} payments", flush=True)


def measure(path: Path, runs: int) -> None:
    """Prints the seconds of both ways, taken in turn, their ratio, and our memory."""
    ours: list[float] = []
    theirs: list[float] = []
    memory = 0
    for _ in range(runs):
        theirs.append(timed(lambda: by_sqlite(path)))
        seconds, peak = in_a_process(path)
        ours.append(seconds)
        memory = max(memory, peak)
    for name, times in ((".backup, integrity_check", theirs), ("backup with everything", ours)):
        each = ", ".join(f"{time:.1f}" for time in times)
        print(f"{name:26} {statistics.median(times):6.1f} s   ({each})", flush=True)
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"{'ratio':26} {ratio:6.2f}     (at most 1.3)")
    print(f"{'memory at most':26} {memory / 1024:6.0f} MB", flush=True)


def by_sqlite(path: Path) -> None:
    """SQLite's shell, or the same calls from here where it is not installed."""
    copy = path.with_name("copy.db")
    shell = shutil.which("sqlite3")
    if shell:
        subprocess.run([shell, path, f".backup '{copy}'"], check=True)
        said = subprocess.run(
            [shell, copy, "PRAGMA integrity_check"], check=True, capture_output=True, text=True
        ).stdout
        assert said.strip() == "ok"
    else:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target, pages=100)
            assert target.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for left in path.parent.glob("copy.db*"):
        left.unlink()


def in_a_process(path: Path) -> tuple[float, int]:
    """Seconds of our backup and the most memory it had, in KiB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(ours_here, (path,))


def ours_here(path: Path) -> tuple[float, int]:
    """The backup of the migration, removed again."""
    folder = path.parent / "backups"
    instance = SqliteInstance("prod", path)
    seconds = timed(lambda: backup.make(instance, folder))
    shutil.rmtree(folder)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def timed(work: Callable[[], object]) -> float:
    """Seconds, on a disk that has nothing left to write when they begin."""
    os.sync()
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
