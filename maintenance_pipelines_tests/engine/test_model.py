"""Every guarantee at once: random lives of runs end as the model in plain Python says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maintenance_pipelines.engine import ledger, runs, undoing
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.engine.model import (
    BATCH,
    GRANULE,
    Backfill,
    Bed,
    Rollback,
    Work,
    World,
)

GARDENS, SLOTS = ("g000001", "g000002", "g000003", "g000004"), 4

places = st.tuples(st.sampled_from(GARDENS), st.integers(1, SLOTS))
acts = st.one_of(
    st.tuples(st.just("add"), places),
    st.tuples(st.just("water"), places),
    st.tuples(st.just("remove"), places),
    st.tuples(st.just("resize"), places),
)
endings = st.sampled_from(["killed", "interrupted", "paused", "cancelled"])
hitches = st.one_of(st.none(), st.tuples(st.integers(1, 3), endings))
"""Nothing, or after how many batches a start of the job comes to which end."""


class Killed(BaseException):
    """Ends the work at once, with no state written: what SIGKILL leaves behind."""


class Lives(RuleBasedStateMachine):
    """The engine on a real database beside the model; they agree after every step."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.world = World(dict.fromkeys(GARDENS, SLOTS - 1))
        self.numbers: dict[int, str] = {}
        self.done: list[Backfill] = []
        self.live: Backfill | None = None
        self.undo: Rollback | None = None
        write = self.write
        for (table,) in toy.rows(
            self.database, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'plan_%'"
        ):
            write(f"DROP TABLE maintenance.{table}")
        write('TRUNCATE "Garden", "Bed", maintenance.run CASCADE')
        opened = "'2025-01-01'"
        write(
            'INSERT INTO "Garden" VALUES '
            + ", ".join(f"('{garden}', {SLOTS - 1}, {opened})" for garden in GARDENS)
        )

    def write(self, statement: str) -> None:
        toy.write(self.database, statement)

    @rule(act=acts)
    def app(self, act: tuple[str, tuple[str, int]]) -> None:
        """The app adds, completes and deletes beds, and makes gardens larger or smaller."""
        verb, place = act
        garden, slot = place
        here = f"\"gardenId\" = '{garden}' AND slot = {slot}"
        if verb == "add":
            self.write(
                f"INSERT INTO \"Bed\" VALUES ('a' || gen_random_uuid(), '{garden}', {slot}, true,"
                " now()) ON CONFLICT DO NOTHING"
            )
            self.world.beds.setdefault(place, Bed(None, watered=True))
        elif verb == "water":
            self.write(f'UPDATE "Bed" SET watered = true WHERE {here}')
            if place in self.world.beds:
                self.world.beds[place].watered = True
        elif verb == "remove":
            self.write(f'DELETE FROM "Bed" WHERE {here}')
            self.world.beds.pop(place, None)
        else:
            self.write(f"UPDATE \"Garden\" SET slots = {slot} WHERE id = '{garden}'")
            self.world.slots[garden] = slot

    @rule()
    def plan(self) -> None:
        """Plans, or is given the run that is to be finished first, or is refused."""
        halted = self.live is not None and self.live.state == "paused"
        if halted or (self.undo is not None and self.undo.state != "planned"):
            with pytest.raises(Guarded):
                toy.plan(self.database)
            return
        run = toy.plan(self.database)
        if self.live is not None and self.live.state in ("interrupted", "applied"):
            assert run.id == self.numbers[self.live.number]
            return
        self.live = Backfill(len(self.numbers), self.world.missing())
        self.numbers[self.live.number] = run.id
        assert run.planned == len(self.live.plan)
        if not self.live.plan:
            assert run.state == "verified"
            self.live = None

    @precondition(lambda self: self.live is not None and self.live.state != "applied")
    @rule(hitch=hitches, between=st.lists(acts, max_size=3))
    def apply(self, hitch: tuple[int, str] | None, between: list[Any]) -> None:
        """Applies the live run, to its end or to some other end, while the app works on."""
        assert self.live is not None
        run = runs.find(self.database, self.numbers[self.live.number])
        if self.undo is not None and self.undo.state != "planned":
            with pytest.raises(Guarded):
                toy.apply(self.database, run)
            return

        def start(progress: Callable[[int, int], None]) -> None:
            toy.apply(self.database, run, progress=progress)

        self.live.state = self._start(self.live, start, run.id, hitch, between)
        if self.live.state == "cancelled":
            self.done.append(self.live)
            self.live = None

    @precondition(lambda self: self.live is not None and self.live.state == "applied")
    @rule()
    def verify(self) -> None:
        """Verification finds everything in order, whatever the app has done meanwhile."""
        assert self.live is not None
        run = runs.find(self.database, self.numbers[self.live.number])
        verification = toy.verifying.verify(toy.job, self.database, run)
        assert all(toy.checks(verification).values())
        assert verification.run.state == "verified"
        assert toy.numbers(verification)["appeared_since"] == len(self.world.missing())
        self.live.state = "verified"
        self.done.append(self.live)
        self.live = None

    @precondition(lambda self: self.done or self.live is not None)
    @rule(hitch=hitches, between=st.lists(acts, max_size=3), only_plan=st.booleans())
    def roll_back(self, hitch: tuple[int, str] | None, between: list[Any], only_plan: bool) -> None:
        """Takes a run back, or goes on doing so."""
        target = self.undo.run if self.undo is not None else (self.live or self.done[-1])
        assert isinstance(target, Backfill)
        run = runs.find(self.database, self.numbers[target.number])
        if target.state == "planned":
            with pytest.raises(Guarded):
                toy.undo(self.database, run)
            return
        planned = undoing.plan_rollback(toy.job, self.database, run, toy.someone)
        if self.undo is None or (
            self.undo.state == "planned" and planned.planned != len(self.undo.plan)
        ):
            self.undo = Rollback(self.world, target)
        assert planned.planned == len(self.undo.plan)
        if only_plan:
            return

        def start(progress: Callable[[int, int], None]) -> None:
            order = toy.Order(progress=progress)
            undoing.rollback(toy.job, self.database, run, toy.someone, order)

        state = self._start(self.undo, start, planned.id, hitch, between)
        if state == "applied":
            target.state = "rolled_back"
            assert runs.find(self.database, run.id).state == "rolled_back"
            self._forget(target)
        elif state == "cancelled":
            self.undo = None
        else:
            self.undo.state = state

    def _forget(self, target: Backfill) -> None:
        self.undo = None
        if target is self.live:
            self.live = None
        else:
            self.done.remove(target)

    def _start(
        self,
        work: Work,
        start: Callable[[Callable[[int, int], None]], None],
        run_id: str,
        hitch: tuple[int, str] | None,
        between: list[Any],
    ) -> str:
        """One start of the job, in the model and in the database; returns the state after it."""
        todo = list(work.batches())
        settled = 0
        after, ending = hitch or (len(todo) + 1, "applied")

        def progress(done: int, total: int) -> None:
            nonlocal settled
            work.settle(self.world, todo[settled])  # type: ignore[attr-defined]
            settled += 1
            if between:
                self.app(between.pop())
            if settled == after:
                if ending == "paused":
                    runs.request_pause(self.database, run_id)
                elif ending == "cancelled":
                    runs.request_cancel(self.database, run_id)
                elif ending == "interrupted":
                    raise KeyboardInterrupt
                else:
                    raise Killed

        try:
            start(progress)
        except KeyboardInterrupt:
            return "paused"
        except Killed:
            self.write(
                "UPDATE maintenance.run SET state = 'applying', owner = 'here|0|0|0',"
                f" heartbeat_at = '2020-01-01' WHERE id = '{run_id}'"
            )
            return "interrupted"
        if settled < after:
            assert settled == len(todo)
            return "applied"
        return ending

    @invariant()
    def the_database_is_as_the_model_says(self) -> None:
        there = {
            (garden, slot): (id_[0], watered)
            for id_, garden, slot, watered in toy.rows(
                self.database, 'SELECT id, "gardenId", slot, watered FROM "Bed"'
            )
        }
        assert there == {
            place: ("a" if bed.maker is None else "b", bed.watered)
            for place, bed in self.world.beds.items()
        }

    @invariant()
    def the_ledger_is_as_the_model_says(self) -> None:
        if self.live is None:
            return
        run = runs.find(self.database, self.numbers[self.live.number])
        outcomes = (run.applied, run.skipped, run.conflicts, run.failed)
        expected = [self.live.count(name) for name in ("applied", "skipped", "conflict")]
        assert outcomes == (*expected, 0)
        assert run.state == self.live.state


def live(make_database: MakeDatabase, app_url: str, examples: int, steps: int) -> None:
    # One worker: the model writes one batch after the other.
    limits = replace(toy.SMALL, batch_rows=BATCH, granule_rows=GRANULE)
    database = make_database(app_url, limits)
    toy.metadata.create_all(database.engine)
    ledger.install(database)

    class Here(Lives):
        pass

    Here.database = database
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            derandomize=examples < 100,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_lives_of_runs_end_as_the_model_says(
    make_database: MakeDatabase, app_url: str
) -> None:
    live(make_database, app_url, examples=12, steps=12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hundreds_of_random_lives_of_runs_end_as_the_model_says(
    make_database: MakeDatabase, app_url: str
) -> None:
    live(make_database, app_url, examples=300, steps=30)
