"""What a system declares about a job. Everything the engine does follows from these values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Connection, FromClause, Select, Table

from maintenance_pipelines.engine.months import Month, Months
from maintenance_pipelines.engine.units import Units

REASON = "reason"
"""The candidates' column that says why a candidate is left alone; NULL where it is due."""

PLACE = "place"
"""The candidates' column that says where a unit's one row lies in its table. Units are numbered by
it, so that a batch writes to few pages, and it tells a write where the row was seen. It is no fact,
and never kept."""


class NoOptions(BaseModel):
    """The options of a job that has none."""


@dataclass(frozen=True)
class Scope:
    """What one plan is about: the same scope on the same data gives the same plan.

    `as_of` is the job's *now* (aware, UTC); `partition` is None for a job without partitions;
    `options` are the system's settings that shape the plan.
    """

    as_of: datetime
    partition: str | None
    options: BaseModel

    @property
    def month(self) -> Month:
        """The partition as a month."""
        if self.partition is None:
            raise ValueError("this scope has no month")
        return Month.parse(self.partition)

    @property
    def stamp(self) -> datetime:
        """`as_of` as rows are marked with it, in whole milliseconds: some applications' columns
        keep no finer moment, which would not be found again.
        """
        return self.as_of.replace(microsecond=self.as_of.microsecond // 1000 * 1000)

    @property
    def naive_as_of(self) -> datetime:
        """The `stamp` as applications store it in a `timestamp` without zone: UTC, no zone."""
        return self.stamp.replace(tzinfo=None)


Candidates = Callable[[Scope, FromClause | None], Select[Any]]
"""Builds the one statement that compares what should be with what is.

Columns: the key's, the values', and `reason` (see `REASON`). With a second argument, a
relation that has the key's columns, only candidates with one of its keys are looked at.
"""


@dataclass(frozen=True)
class Insert:
    """Rows that should exist and do not.

    `key` is a unique key of `into`, named by columns. `identifier` makes the primary key from
    the row's position in the plan. `constants` are the values every new row has alike.
    `touched` are the columns that mean a person or the app has acted on a row, `bookkeeping`
    those that may change without meaning anything; columns named in either that a database
    does not have are ignored.
    """

    into: Table
    key: tuple[str, ...]
    candidates: Candidates
    identifier: Callable[[Scope, ColumnElement[int]], ColumnElement[str]]
    constants: Callable[[Scope], Mapping[str, Any]]
    touched: tuple[str, ...]
    bookkeeping: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A consistency rule of the system: a select of the rows that break it.

    `offenders` is given the scope and the plan's applied rows (columns `new_<column>`), and
    selects one text column, the offender's id. None may be found for the rule to hold.
    """

    name: str
    says: str
    offenders: Callable[[Scope, FromClause], Select[Any]]
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Summary:
    """A small table for the report, from the plan's rows (columns `new_<column>`)."""

    title: str
    rows: Callable[[Scope, FromClause], Select[Any]]


@dataclass(frozen=True)
class Outcome:
    """What has become of a run of units, for the keys by which a source document tells it.

    By part: how many units were `applied`, and `facts`, the relation of them as they were when
    they were written. `failures` are the first rows that failed, each with key and error.
    """

    connection: Connection
    scope: Scope
    planned: int
    failed: int
    applied: Mapping[str, int]
    facts: Mapping[str, FromClause]
    failures: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class AssetNames:
    """What exists once each of the three assets is materialized."""

    detected: str
    materialized: str
    verified: str


# Compared by identity: what is derived from a declaration is worked out once for each.
@dataclass(frozen=True, eq=False)
class Job:
    """One maintenance job. `schedule` is a cron line in UTC; `relies_on` are the app's tables.

    A table or column whose `info` says `optional` may be absent. `schedule_lag` is how many months
    before the schedule's own the partition lies. `adapt` fits the options to a database, given its
    schema; `admit` refuses a scope that must not be planned now. With `judged_when_empty` the
    rules are evaluated even where nothing was planned. `result` makes the keys that the source
    document wants in the log's last line. A slot of the schedule that was missed is made up for,
    unless that is longer ago than `made_up_within`, or in another month where the job is about
    the `running_month_only`.
    """

    name: str
    system: str
    says: str
    assets: AssetNames
    change: Insert | Units
    relies_on: tuple[Table, ...]
    partitions: Months | None = None
    schedule: str | None = None
    schedule_lag: int = 0
    made_up_within: timedelta | None = None
    running_month_only: bool = False
    options: type[BaseModel] = NoOptions
    rules: tuple[Rule, ...] = ()
    summaries: tuple[Summary, ...] = ()
    notes: Callable[[Scope], str] | None = None
    subject: Callable[[Scope, str], Select[Any]] | None = None
    priority: int = 0
    time_limit: timedelta = field(default=timedelta(minutes=30))
    adapt: Callable[[Connection, str, BaseModel], BaseModel] | None = None
    admit: Callable[[Connection, Scope], None] | None = None
    judged_when_empty: bool = False
    result: Callable[[Outcome], Mapping[str, Any]] | None = None

    @property
    def hyphenated(self) -> str:
        """The job's name as log lines have it."""
        return self.name.replace("_", "-")

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules of the job and of its parts."""
        parts = self.change.parts if isinstance(self.change, Units) else ()
        return self.rules + tuple(rule for part in parts for rule in part.rules)
