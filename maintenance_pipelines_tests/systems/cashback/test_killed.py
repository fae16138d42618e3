"""Killed at any moment: untouched or fully migrated, the backup whole or absent, and finished by
the next run.
"""

from __future__ import annotations

import bisect
import random
import shutil
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import runs
from maintenance_pipelines.systems.cashback import postgres_dump
from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines_tests.systems.cashback.conftest import KINDS, MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import (
    Contents,
    Lending,
    sqlite_contents,
    without,
)
from maintenance_pipelines_tests.systems.cashback.processes import Worker, errand

FEW = 5


class Victim:
    """An instance that is brought back to where it was before each kill."""

    def __init__(self, lending: Lending) -> None:
        self.lending = lending
        self.before = lending.contents()
        self.kept = lending.folder / "kept.db"
        if lending.instance.kind == "SQLite":
            shutil.copy(lending.path, self.kept)

    def reset(self) -> None:
        """As if nothing had ever happened."""
        lending = self.lending
        if lending.instance.kind == "SQLite":
            for path in list(lending.path.parent.iterdir()):
                path.unlink()
            shutil.copy(self.kept, lending.path)
        else:
            engine = lending.engine()
            with engine.begin() as connection:
                for table in reversed(TABLES):
                    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
            with lending.ledger.transaction() as book:
                if lending.ledger.engine.dialect.has_schema(book, "maintenance"):
                    book.execute(sa.text("DROP SCHEMA maintenance CASCADE"))
        if lending.instance.kind == "SQLite":
            with lending.ledger.transaction() as book:
                book.execute(sa.text("TRUNCATE maintenance.run CASCADE"))
        shutil.rmtree(lending.folder / "backups", ignore_errors=True)

    def demand_untouched_or_migrated(self) -> bool:
        """Returns whether it is migrated; in between there is nothing."""
        now = self.lending.contents()
        created = set(now["rows"]) & set(TABLES)
        assert created in (set(), set(TABLES))
        assert without(now, TABLES) == self.before
        return bool(created)

    def demand_whole_backups(self) -> int:
        """Whatever has a backup's name is a whole one; returns how many there are."""
        found = [*(self.lending.folder / "backups").glob("prod/20*.d?"), *self.dumps()]
        for path in found:
            self.demand_whole(path)
        return len(found)

    def dumps(self) -> list[Path]:
        return list((self.lending.folder / "backups").glob("prod/20*.dump"))

    def demand_whole(self, path: Path) -> None:
        """Looks at a backup: it is of before or, where the run was done already, of afterwards."""
        if path.suffix == ".db":
            assert comparable(sqlite_contents(path, self.lending.folder)) == comparable(self.before)
            return
        with self.lending.ledger.transaction() as connection:
            version = connection.execute(postgres_dump.VERSION).scalar_one()
        rows = {name: len(rows) for name, rows in self.before["rows"].items()}
        postgres_dump.demand_whole(postgres_dump.programs_for(version), path, "public", rows)

    def finish(self) -> None:
        """The next run, undisturbed, ends as if nothing had happened."""
        said = Worker(errand(self.lending)).verdict()
        assert isinstance(said, tuple), said
        assert said[0] == "verified"
        assert self.demand_untouched_or_migrated()
        ledger = self.lending.ledger
        begun = [run for run in runs.history(ledger) if run.state != "planned" and run.planned]
        assert [(run.state, run.applied) for run in begun] == [("verified", 6)]
        assert self.lending.plan().planned == 0
        left = [path.name for path in (self.lending.folder / "backups" / "prod").iterdir()]
        assert not [name for name in left if "partial" in name]
        assert self.demand_whole_backups() >= 1


def comparable(contents: Contents) -> Contents:
    return without(contents, TABLES)


@pytest.fixture(params=KINDS)
def victim(request: pytest.FixtureRequest, make_lending: MakeLending) -> Victim:
    """An instance of each kind, to be killed over."""
    return Victim(make_lending(request.param))


def steps_of(victim: Victim, verb: str = "migrate") -> int:
    """How many steps one undisturbed run takes."""
    said = Worker(errand(victim.lending, verb)).verdict()
    assert isinstance(said, tuple), said
    assert said[0] == "verified"
    return int(said[1])


def killed_at(victim: Victim, steps: list[int]) -> tuple[int, int]:
    """Kills a run at each of these steps; returns how often it was untouched and migrated."""
    ends = [0, 0]
    for step in steps:
        victim.reset()
        assert Worker(errand(victim.lending, dies_at=step)).verdict() is None
        ends[victim.demand_untouched_or_migrated()] += 1
        victim.demand_whole_backups()
        victim.finish()
    return ends[0], ends[1]


def spread(steps: int, count: int) -> list[int]:
    return sorted({1 + round(n * (steps - 1) / (count - 1)) for n in range(count)})


def test_killed_at_any_step_it_is_untouched_or_migrated_and_finished_next_time(
    victim: Victim,
) -> None:
    steps = spread(steps_of(victim), FEW)
    untouched, migrated = killed_at(victim, steps)
    assert untouched and migrated


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_killed_at_every_single_step(victim: Victim) -> None:
    steps = steps_of(victim)
    assert steps > 100
    untouched, migrated = killed_at(victim, list(range(1, steps + 1)))
    assert untouched and migrated


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_a_hundred_times(victim: Victim, seed: int) -> None:
    chance = random.Random(seed)
    begun = time.monotonic()
    steps_of(victim)
    whole = time.monotonic() - begun
    for _ in range(100):
        victim.reset()
        worker = Worker(errand(victim.lending))
        time.sleep(chance.uniform(0, whole))
        worker.kill()
        victim.demand_untouched_or_migrated()
        victim.demand_whole_backups()
        victim.finish()


def roll_back_killed_at(victim: Victim, steps: list[int]) -> None:
    for step in steps:
        victim.reset()
        done = victim.lending.migrate().run
        assert Worker(errand(victim.lending, "roll_back", step)).verdict() is None
        victim.demand_untouched_or_migrated()
        again = Worker(errand(victim.lending, "roll_back")).verdict()
        state = runs.find(victim.lending.ledger, done.id).state
        assert state == "rolled_back", again
        assert not victim.demand_untouched_or_migrated()


def test_a_rollback_killed_at_any_step_is_finished_next_time(victim: Victim) -> None:
    victim.lending.migrate()
    steps = steps_of(victim, "roll_back")
    roll_back_killed_at(victim, spread(steps, FEW)[1:-1])


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_rollback_killed_at_every_single_step(victim: Victim) -> None:
    victim.lending.migrate()
    roll_back_killed_at(victim, list(range(1, steps_of(victim, "roll_back") + 1)))


def test_a_run_killed_between_the_two_commits_is_known_to_have_made_its_tables(
    file_of_victim: Victim,
) -> None:
    """The one moment when an SQLite file is migrated and the ledger does not know it."""
    victim = file_of_victim
    ledger = victim.lending.ledger

    def migrated_when_killed_at(step: int) -> bool:
        victim.reset()
        Worker(errand(victim.lending, dies_at=step)).verdict()
        return victim.demand_untouched_or_migrated()

    first = bisect.bisect_left(range(steps_of(victim)), True, key=migrated_when_killed_at)
    assert migrated_when_killed_at(first)
    (run, *_) = runs.history(ledger)
    assert (run.state, run.applied) == ("interrupted", 0)
    again = victim.lending.plan()
    assert (again.id, again.planned) == (run.id, 6)
    victim.finish()
    assert victim.lending.roll_back(runs.find(ledger, run.id)).run.applied == 6


@pytest.fixture(params=["delete", pytest.param("wal", marks=pytest.mark.long)])
def file_of_victim(request: pytest.FixtureRequest, make_lending: MakeLending) -> Victim:
    """An SQLite file, to be killed over."""
    return Victim(make_lending(request.param))
