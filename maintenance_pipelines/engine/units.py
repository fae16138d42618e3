"""Units: what a system declares where all rows of one subject change together, or not at all.

A unit is a member with counters and snapshot, a professional with balance and transactions, or
simply one row. Its plan row holds facts from which every write follows: the plan is the manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import FromClause, Select, Table

if TYPE_CHECKING:
    from maintenance_pipelines.engine.job import Candidates, Rule, Scope, Summary
    from maintenance_pipelines.engine.writes import Write

Strength = Literal["update", "no key update", "share"]


@dataclass(frozen=True)
class Work:
    """What a write is derived from: some units of a run, with `position` and their facts.

    `by_person` is False where a schedule or a sensor has asked for the run.
    """

    scope: Scope
    run_id: str
    units: FromClause
    by_person: bool = True


Rows = Callable[[Work], Select[Any]]
"""Derives rows from units: `position`, and the columns that a kind of write asks for."""


@dataclass(frozen=True)
class Lock:
    """Rows that are locked before a unit's facts are read again: where `column` is its key.

    `update` makes even inserts that refer to the row wait; `no key update` only other writers;
    `share` lets others read-lock it too. Where `by` names another fact than the key, what the
    unit depends on is locked until it is written; taking it back depends on nothing of the kind.
    """

    table: Table
    column: str
    strength: Strength = "no key update"
    by: str | None = None


@dataclass(frozen=True)
class Part:
    """Units of one sort, and what is written for each.

    `due` compares what should be with what is, as `Candidates` says: it selects `key`, the facts
    and `reason`, and with a relation `among` that has the key, only those units. Facts must be
    comparable (a `json` is compared by its text). It is evaluated when planning, again for the
    units of a batch under their locks, and at verification.

    A unit whose facts have changed since the plan is left alone as a conflict, unless the part is
    `recomputed`: then it is written by its present facts, and those are kept for the way back.
    `done` are reasons which mean that the same change is there already.

    `busy` selects the keys, among those given, that the app is in the middle of changing; they are
    put off for up to `settle_s` seconds at the end of the run. `stays` selects `position` and
    `reason` of applied units that must not be taken back.
    """

    name: str
    says: str
    key: str
    due: Candidates
    writes: tuple[Write, ...]
    locks: tuple[Lock, ...]
    recomputed: bool = False
    done: frozenset[str] = frozenset()
    busy: Callable[[Scope, FromClause], Select[Any]] | None = None
    settle_s: Callable[[Scope], float] = lambda scope: 0.0
    stays: Rows | None = None
    rules: tuple[Rule, ...] = ()
    summaries: tuple[Summary, ...] = ()


@dataclass(frozen=True)
class Units:
    """A job's parts, written one after the other, never two of them in one transaction."""

    parts: tuple[Part, ...]
