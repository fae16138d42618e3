"""The app at work: webhooks that write as fast as they can while a job runs.

Everything is of the month that is really running, since a row's age goes by the server's clock.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import psycopg
from psycopg import errors

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals.webhook import Webhook, utc_now
from maintenance_pipelines_tests.systems.referrals.jobs import (
    Numbers,
    member_counters,
    scope_of,
)
from maintenance_pipelines_tests.systems.referrals.loading import write

CREATORS = ("c1", "c2")


class Killed(Exception):
    """The app's process dies between the row and the counter."""


class Traffic:
    """Webhooks in several threads, each of its own session.

    `added_up` is what a referrer's counters come to if nothing else ever writes them. A share
    `kills` of the events ends before the counter is written. `unsettled` are the referrers of
    those, and of events that took longer than `settle_s`: of them nothing is promised.
    `deadlocks` counts events that the server has ended to break one.
    """

    def __init__(
        self,
        database: Database,
        url: str,
        *,
        in_two: bool = False,
        pause: float = 0.0,
        kills: float = 0.0,
        settle_s: float = 60.0,
        threads: int = 3,
        seed: int = 1,
    ) -> None:
        self.database, self.url = database, url
        self.in_two, self.pause, self.kills, self.threads = in_two, pause, kills, threads
        self.seed, self.events, self.deadlocks = seed, 0, 0
        self.added_up: Numbers = {}
        self.settle_s = settle_s
        self.unsettled: set[str] = set()
        self._guard = threading.Lock()

    @property
    def closed(self) -> Month:
        """The month before the running one."""
        return Month.of(utc_now()).plus(-1)

    def scope(self, **options: Any) -> Scope:
        """The reset of that month, asked for now."""
        return scope_of(str(self.closed), utc_now(), **options)

    def running(self, **options: Any) -> Scope:
        """The running month, asked for now."""
        return scope_of(str(self.closed.plus(1)), utc_now(), **options)

    def populate(self, members: int) -> None:
        """Creators, members who joined in the month that is closed, and one payment of each."""
        start = self.closed.start
        for id in CREATORS:
            write(
                self.database,
                f"""INSERT INTO "Creator" (id, "companyId", "companyName", "productId",
                    "createdAt", "updatedAt")
                    VALUES ('{id}', '{id}', '{id}', 'p', '{start}', '{start}')""",
            )
        with psycopg.connect(self.url, autocommit=True) as connection:
            hook = Webhook(connection, clock=lambda: start.replace(day=3))
            for number in range(members):
                id = f"m{number}"
                creator = CREATORS[number % 2]
                hook.sign_up(creator, id=id, code=id)
                hook.refer(creator, id, 1000 + number, f"before {number}")
                self.added_up[id] = (1, (1000 + number + 5) // 10)
        self.referrers = members

    def counters(self) -> Numbers:
        """What the referrers' counters say now."""
        found = member_counters(self.database)
        return {id: found[id] for id in self.added_up}

    def run(self, over: threading.Event) -> None:
        """Writes until told that it is over."""
        raised: list[BaseException] = []

        def work(number: int) -> None:
            try:
                self._work(number, over)
            except BaseException as error:
                raised.append(error)
                over.set()

        workers = [threading.Thread(target=work, args=(n,)) for n in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if raised:
            raise raised[0]

    def await_events(self, number: int, timeout: float = 60) -> None:
        """Waits until so many more events have happened."""
        wanted, until = self.events + number, time.monotonic() + timeout
        while self.events < wanted:
            assert time.monotonic() < until, "no webhook gets through"
            time.sleep(0.01)

    def _work(self, number: int, over: threading.Event) -> None:
        chance = random.Random(self.seed * 1000 + number)
        with psycopg.connect(self.url, autocommit=True) as connection:
            hook = Webhook(connection, in_two=self.in_two)
            for event in range(1_000_000):
                if over.is_set():
                    return
                self._event(hook, chance, f"{number} {event}")

    def _event(self, hook: Webhook, chance: random.Random, name: str) -> None:
        referrer = f"m{chance.randrange(self.referrers)}"
        creator = CREATORS[int(referrer[1:]) % 2]
        dies = chance.random() < self.kills

        def between() -> None:
            time.sleep(chance.uniform(0, self.pause))
            if dies:
                raise Killed

        hook.between = between
        counted, begun = (0, 0), time.monotonic()
        try:
            hook.refer(creator, referrer, 990, f"live {name}")
            counted = (1, 99)
        except errors.DeadlockDetected:
            self.deadlocks += 1
        except Killed:
            self.unsettled.add(referrer)
        if time.monotonic() - begun > self.settle_s:
            self.unsettled.add(referrer)
        with self._guard:
            referrals, cents = self.added_up[referrer]
            self.added_up[referrer] = (referrals + counted[0], cents + counted[1])
            self.events += 1
