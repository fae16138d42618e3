"""What should happen, in plain Python: gardens and beds as dictionaries, a run as a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

GRANULE, BATCH = 2, 4

Place = tuple[str, int]


@dataclass
class Bed:
    """A bed; `maker` is the run that made it, or None for the app."""

    maker: int | None
    watered: bool = False

    @property
    def touched(self) -> bool:
        """Whether the app has acted on it since a run made it."""
        return self.watered


@dataclass
class World:
    """The app's tables."""

    slots: dict[str, int]
    beds: dict[Place, Bed] = field(default_factory=dict)

    def due(self, place: Place) -> bool:
        """Whether a bed should be at a place and is not."""
        garden, slot = place
        return slot <= self.slots[garden] and place not in self.beds

    def missing(self) -> list[Place]:
        """Every place that is due, in the order of the key."""
        places = [(g, slot) for g, n in self.slots.items() for slot in range(1, n + 1)]
        return sorted(place for place in places if self.due(place))


@dataclass
class Work:
    """A plan and how far it has come: each of its places with its outcome, or None."""

    number: int
    plan: list[Place]
    state: str = "planned"
    outcomes: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.outcomes = [None] * len(self.plan)

    def batches(self) -> Iterator[range]:
        """The batches that one start of the job would settle, as positions."""
        pending = [
            range(first, min(first + GRANULE, len(self.plan)))
            for first in range(0, len(self.plan), GRANULE)
            if self.outcomes[first] is None
        ]
        while pending:
            batch = pending.pop(0)
            while pending and len(batch) < BATCH and pending[0].start == batch.stop:
                batch = range(batch.start, pending.pop(0).stop)
            yield batch

    def count(self, outcome: str) -> int:
        """How many places came to that outcome."""
        return self.outcomes.count(outcome)

    def applied(self) -> list[Place]:
        """The places that were written."""
        return [p for p, out in zip(self.plan, self.outcomes, strict=True) if out == "applied"]


class Backfill(Work):
    """A run of the job."""

    def settle(self, world: World, batch: range) -> None:
        """One batch, all of it."""
        for position in batch:
            place = self.plan[position]
            if world.due(place):
                world.beds[place] = Bed(self.number)
                self.outcomes[position] = "applied"
            else:
                self.outcomes[position] = "skipped" if place in world.beds else "conflict"


class Rollback(Work):
    """A rollback of a run: its plan is what could be removed when it was made."""

    def __init__(self, world: World, run: Backfill) -> None:
        self.run = run
        plan = [p for p in run.applied() if self.reason(world, p) is None]
        super().__init__(run.number, plan)

    def reason(self, world: World, place: Place) -> str | None:
        """Why a row stays, or None where it may be removed."""
        bed = world.beds.get(place)
        if bed is None or bed.maker != self.run.number:
            return "skipped"
        return "conflict" if bed.touched else None

    def settle(self, world: World, batch: range) -> None:
        """One batch, all of it."""
        for position in batch:
            place = self.plan[position]
            reason = self.reason(world, place)
            if reason is None:
                del world.beds[place]
            self.outcomes[position] = reason or "applied"
