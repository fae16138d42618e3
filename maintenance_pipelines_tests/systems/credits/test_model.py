"""The whole year at once: whatever happens in which order, the books are the oracle's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maintenance_pipelines.engine import applying, runs, verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.systems.credits.app import CreditService, months_after
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.systems.credits import books
from maintenance_pipelines_tests.systems.credits.oracle import Expiry, Reset, World

PEOPLE = ("a", "b", "c", "d", "e")
BEGINNING = books.NOW - timedelta(days=300)

people = st.sampled_from(PEOPLE)
acts = st.one_of(
    st.tuples(st.just("spend"), people, st.sampled_from([1, 30, 60, 100, 130])),
    st.tuples(st.just("spend"), people, st.integers(1, 60)),
    st.tuples(st.just("purchase"), people, st.sampled_from([10, 50])),
    st.tuples(st.just("bonus"), people, st.just(20)),
    st.tuples(st.just("refund"), people, st.just(5)),
    st.tuples(st.just("look"), people, st.just(0)),
    st.tuples(st.just("verify"), people, st.integers(0, 3)),
)
purchases = st.lists(
    st.tuples(people, st.sampled_from([10, 50]), st.integers(100, 200)), min_size=1, max_size=5
)
"""By whom, how many credits, how many days before the beginning."""
endings = st.sampled_from(["killed", "killed within", "interrupted", "paused"])
hitches = st.one_of(st.none(), st.none(), st.tuples(st.integers(1, 3), endings))
"""Nothing, or after how many units a start of the job comes to which end."""
JOBS: dict[str, Job] = {"reset": monthly_credits_reset, "expiry": credit_expiry}


class Killed(BaseException):
    """Ends the work at once, with no state written: what SIGKILL leaves behind."""


@dataclass
class Life:
    """A run, as the oracle sees it."""

    kind: str
    run_id: str
    as_of: datetime
    plan: list[str]
    settled: int = 0
    written: list[Reset | Expiry] = field(default_factory=list)
    state: str = "planned"


class Year(RuleBasedStateMachine):
    """The jobs and the app on a real database beside the oracle; they agree after every step."""

    database: Database
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.world = World(dict.fromkeys(PEOPLE, "basic") | {"e": "pending"})
        self.live: dict[str, Life] = {}
        self.done: dict[str, Life] = {}

    @initialize(bought=purchases)
    def begin(self, bought: list[tuple[str, int, int]]) -> None:
        """The app at the beginning of the year, with purchases of the half year before."""
        plans = "SELECT relname FROM pg_class WHERE relname ~ '^(plan|image)_' AND relkind = 'r'"
        for (table,) in books.rows(self.database, plans):
            books.write(self.database, f"DROP TABLE maintenance.{table}")
        books.write(self.database, "TRUNCATE users, maintenance.run, maintenance.outbox CASCADE")
        with books.service(self.url, BEGINNING) as shop:
            for who, verification in self.world.verification.items():
                shop.sign_up(verification, id=who)
        for who, amount, days in sorted(bought, key=lambda one: -one[2]):
            books.set_clock(self.database, BEGINNING - timedelta(days=days))
            self.app(("purchase", who, amount))
        books.set_clock(self.database, BEGINNING)

    @rule(act=acts)
    def app(self, act: tuple[str, str, int]) -> None:
        """The app's service takes a request."""
        verb, who, amount = act
        now = books.now(self.database)
        with books.service(self.url, now) as shop:
            getattr(self, f"_{verb}")(shop, who, amount, now)

    def _spend(self, shop: CreditService, who: str, amount: int, now: datetime) -> None:
        before = self.world.account(who).balance if who in self.world.accounts else None
        done = shop.spend(who, amount)
        if before is None and not done:
            return  # a refused first look leaves nothing
        account = self.world.account(who)
        booked = len(account.booked)
        account.spend(amount, now)
        assert done == (len(account.booked) > booked)

    def _purchase(self, shop: CreditService, who: str, amount: int, now: datetime) -> None:
        shop.purchase(who, amount)
        self.world.account(who).give("purchase", amount, months_after(now))

    def _refund(self, shop: CreditService, who: str, amount: int, now: datetime) -> None:
        shop.refund(who, amount)
        self.world.account(who).give("refund", amount, months_after(now))

    def _bonus(self, shop: CreditService, who: str, amount: int, now: datetime) -> None:
        shop.bonus(who, amount)
        self.world.account(who).give("bonus", amount)

    def _look(self, shop: CreditService, who: str, amount: int, now: datetime) -> None:
        shop.look(who)
        self.world.account(who)

    def _verify(self, shop: CreditService, who: str, chance: int, now: datetime) -> None:
        verification = ("basic", "rejected", "comprehensive", "rejected")[chance]
        shop.verify(who, verification)
        self.world.verification[who] = verification

    @precondition(lambda self: not self.live)
    @rule(days=st.sampled_from([1, 20, 40, 90, 185]))
    def time_goes_by(self, days: int) -> None:
        """Into another month, or half a year on."""
        now = books.now(self.database)
        books.set_clock(self.database, now + timedelta(days=days))
        self.done.clear()

    @rule(
        kind=st.sampled_from(sorted(JOBS)),
        before=st.lists(acts, max_size=2),
        hitch=hitches,
        between=st.lists(acts, max_size=3),
        statements=st.integers(1, 60),
    )
    def run_job(
        self,
        kind: str,
        before: list[Any],
        hitch: tuple[int, str] | None,
        between: list[Any],
        statements: int,
    ) -> None:
        """Plans a job, unless a run of it has to be finished, and applies it to some end.

        The app works on, between plan and start and between two units.
        """
        if kind not in self.live and not self._plan(kind):
            return
        for act in before:
            self.app(act)
        self._apply(self.live[kind], hitch, between, statements)

    def _plan(self, kind: str) -> bool:
        now = books.now(self.database)
        if kind == "reset":
            due = self.world.to_reset(f"{now:%Y-%m}")
            run = books.plan_reset(self.database, now)
        else:
            due = self.world.to_expire(now)
            run = books.plan(credit_expiry, self.database, now)
        assert run.planned == len(due)
        if due:
            self.live[kind] = Life(kind, run.id, now, due)
        return bool(due)

    def _apply(
        self, life: Life, hitch: tuple[int, str] | None, between: list[Any], statements: int
    ) -> None:
        job, run = JOBS[life.kind], runs.find(self.database, life.run_id)
        after, ending = hitch or (len(life.plan) + 1, "applied")
        begun = life.settled

        def progress(done: int, total: int) -> None:
            self._settle(life, done)
            if between:
                self.app(between.pop())
            if done - begun == after:
                if ending == "paused":
                    runs.request_pause(self.database, life.run_id)
                elif ending == "interrupted":
                    raise KeyboardInterrupt
                elif ending == "killed":
                    raise Killed

        within = statements if ending == "killed within" else None
        with suppress(KeyboardInterrupt, Killed), self._killed_after(within):
            applying.apply(job, self.database, run, Order(progress=progress))
        self._after(life)

    def _after(self, life: Life) -> None:
        """What is done is done; a process that was killed says nothing more."""
        run = runs.find(self.database, life.run_id)
        self._settle(life, run.applied + run.skipped + run.conflicts + run.failed)
        assert run.failed == 0
        if run.state == "applying":
            books.write(
                self.database,
                "UPDATE maintenance.run SET owner = 'here|0|0|0', heartbeat_at = '2020-01-01'"
                f" WHERE id = '{run.id}'",
            )
        elif run.state == "applied":
            self._verify_run(life)

    def _verify_run(self, life: Life) -> None:
        job, run = JOBS[life.kind], runs.find(self.database, life.run_id)
        assert life.settled == len(life.plan)
        assert run.applied == len(life.written)
        verified = verifying.verify(job, self.database, run)
        appeared = {check.name for check in verified.checks if not (check.passed or check.warning)}
        # The app may have let other credits expire, or nobody be verified, in the meantime.
        assert appeared <= {"somebody_is_eligible"}, verified
        self.done[life.kind] = self.live.pop(life.kind)

    def _settle(self, life: Life, count: int) -> None:
        while life.settled < count:
            who = life.plan[life.settled]
            life.settled += 1
            if life.kind == "reset":
                done: Reset | Expiry | None = self.world.reset(who, f"{life.as_of:%Y-%m}")
            else:
                done = self.world.expire(who, life.as_of)
            if done is not None:
                life.written.append(done)

    @precondition(lambda self: self.done)
    @rule(chance=st.integers(0, 1), between=st.lists(acts, max_size=2))
    def roll_back(self, chance: int, between: list[Any]) -> None:
        """Takes a run back that is done; some of it may have to stay."""
        for act in between:
            self.app(act)
        kinds = sorted(set(self.done) - set(self.live))
        if not kinds:
            return
        life = self.done.pop(kinds[chance % len(kinds)])
        run = runs.find(self.database, life.run_id)
        undone = books.undo(JOBS[life.kind], self.database, run)
        taken_back = [self._take_back(life, done) for done in life.written]
        assert undone.run.applied == sum(taken_back)
        assert undone.run.state == "verified", undone

    def _take_back(self, life: Life, done: Reset | Expiry) -> bool:
        if isinstance(done, Reset):
            return self.world.take_back_reset(done, f"{life.as_of:%Y-%m}")
        return self.world.take_back_expiry(done)

    @contextmanager
    def _killed_after(self, statements: int | None) -> Iterator[None]:
        """Ends the work in the middle of a transaction."""
        left = statements

        def count(*_: object) -> None:
            nonlocal left
            assert left is not None
            left -= 1
            if left <= 0:
                raise Killed

        if statements is None:
            yield
            return
        sa.event.listen(self.database.engine, "before_cursor_execute", count)
        try:
            yield
        finally:
            sa.event.remove(self.database.engine, "before_cursor_execute", count)

    @invariant()
    def the_books_are_the_oracles(self) -> None:
        """Every balance, every remainder and every booking."""
        assert self._books() == self.world.books()

    @invariant()
    def the_ledger_balances(self) -> None:
        """The rules hold at every moment; credits that have expired are open until the run."""
        assert set(books.broken(self.database)) <= {"expired_credits_closed"}

    def _books(self) -> dict[str, tuple[object, ...]]:
        database = self.database
        found: dict[str, tuple[object, ...]] = {}
        for who, *balance in books.rows(
            database,
            "SELECT professional_id, total_balance, free_credits, paid_credits"
            " FROM credit_balances",
        ):
            found[who] = (tuple(balance), Counter(), Counter())
        for who, free, left, expires, type_, amount in books.rows(
            database,
            "SELECT professional_id, credit_type = 'free', remaining_amount, expires_at,"
            " type::text, amount FROM credit_transactions",
        ):
            _, remainders, booked = found[who]
            assert isinstance(remainders, Counter) and isinstance(booked, Counter)
            if left:
                remainders[free, left, expires] += 1
            booked[type_, amount] += 1
        return found


def live(make_database: MakeDatabase, url: str, examples: int, steps: int, seeded: bool) -> None:
    # One unit a batch and one batch at a time: the oracle settles them one after the other.
    limits = replace(toy.SMALL, batch_rows=1, granule_rows=1)
    database = make_database(url, limits)

    class Here(Year):
        pass

    Here.database, Here.url = database, url
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            derandomize=seeded,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_the_books_are_right(make_database: MakeDatabase, app_url: str) -> None:
    live(make_database, app_url, examples=14, steps=8, seeded=True)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_whatever_happens_hundreds_of_times_the_books_are_right(
    make_database: MakeDatabase, app_url: str
) -> None:
    live(make_database, app_url, examples=300, steps=25, seeded=False)
