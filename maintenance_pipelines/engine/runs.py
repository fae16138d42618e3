"""Runs: the ledger's row of a plan and what becomes of it, from planned to rolled back."""

from __future__ import annotations

import secrets
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from maintenance_pipelines.engine import ledger, ownership
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput, Guarded

BEGUN = frozenset({"applying", "interrupted", "paused", "applied"})
"""States between the first batch and the verdict."""

SETTLED = frozenset({"verified", "partial", "failed", "cancelled", "rolled_back"})
"""States in which nothing goes on."""


@dataclass(frozen=True)
class Run:
    """One plan and its fate. Counts are rows; `seconds` is the engine's time on it."""

    id: str
    job: str
    partition: str | None
    reverts: str | None
    state: str
    as_of: datetime
    options: Mapping[str, Any]
    created_at: datetime
    planned_by: str
    by_person: bool
    dagster_run_id: str | None
    columns: tuple[str, ...]
    digest: str
    schema_digest: str
    planned: int
    excluded: Mapping[str, int]
    expected_min: int | None
    expected_max: int | None
    approval_above: int | None
    approved_by: str | None
    approved_digest: str | None
    applied: int
    skipped: int
    conflicts: int
    failed: int
    appeared_since: int
    touched_since: int
    checks: Mapping[str, bool]
    error: str | None
    held: bool
    request: str | None
    seconds: float
    finished_at: datetime | None
    pruned_at: datetime | None

    @property
    def label(self) -> str:
        """The job and its partition, as a person would say it."""
        return self.job if self.partition is None else f"{self.job} {self.partition}"

    @property
    def approval_due(self) -> bool:
        """Whether a second person has to approve this plan, as it is, before it is applied."""
        above = self.approval_above is not None and self.planned > self.approval_above
        return above and self.approved_digest != self.digest

    @property
    def within_scope(self) -> bool:
        """Whether the number of planned rows is the one that was expected."""
        low = self.expected_min is None or self.planned >= self.expected_min
        return low and (self.expected_max is None or self.planned <= self.expected_max)

    def json(self) -> dict[str, Any]:
        """What `--json` promises of a run; a rollback goes by the id of the run it takes back."""
        return {
            "run_id": self.reverts or self.id,
            "job": self.job,
            "partition": self.partition,
            "state": "rolled_back" if self.reverts and self.state == "verified" else self.state,
            "digest": self.digest,
            "as_of": self.as_of.isoformat(),
            "planned": self.planned,
            "applied": self.applied,
            "skipped": self.skipped,
            "conflicts": self.conflicts,
            "failed": self.failed,
            "excluded": dict(self.excluded),
            "appeared_since": self.appeared_since,
            "touched_since": self.touched_since,
            "checks": dict(self.checks),
            "seconds": round(self.seconds, 3),
            "planned_by": self.planned_by,
            "approval_due": self.approval_due,
            "approved_by": self.approved_by,
            "held": self.held,
            "error": self.error,
        }


def new_id() -> str:
    """An id that nobody has: sixteen hexadecimal digits."""
    return secrets.token_hex(8)


def load(connection: sa.Connection, run_id: str, lock: bool = False) -> Run:
    """The run of that id, held against take-overs and batches where asked; refuses no such id."""
    if lock:
        key = sa.select(ledger.run.c.id).where(ledger.run.c.id == run_id).with_for_update()
        connection.execute(key)
    found = _read(connection, ledger.run.c.id == run_id)
    if not found:
        raise BadInput(f"There is no run {run_id}; `./maintenance runs` lists them.")
    return found[0]


def find(database: Database, beginning: str) -> Run:
    """The run whose id begins so; refuses none and several. Rollbacks go by the run they undo."""
    with database.transaction() as connection:
        if not ledger.is_current(connection):
            found = []
        else:
            mine = ledger.run.c.id.startswith(beginning, autoescape=True)
            found = _read(connection, mine & ledger.run.c.reverts.is_(None))
    if len(found) > 1:
        raise BadInput(f"{len(found)} runs begin with {beginning}; give more of the id.")
    if not found:
        raise BadInput(f"There is no run {beginning}; `./maintenance runs` lists them.")
    return found[0]


def history(database: Database, job: str | None = None, limit: int = 50) -> list[Run]:
    """The newest runs first, of one job or of all, rollbacks included."""
    with database.transaction() as connection:
        if not ledger.is_current(connection):
            return []
        which = ledger.run.c.job == job if job else sa.true()
        return _read(connection, which, limit)


def newest(
    database: Database, job: str, partition: str | None, states: Container[str]
) -> Run | None:
    """The newest run of a job and partition in one of these states; of empty plans the last."""
    with database.transaction() as connection:
        found = [run for run in of_partition(connection, job, partition) if run.state in states]
    return next((run for run in found if run.planned), next(iter(found), None))


def of_partition(connection: sa.Connection, job: str, partition: str | None) -> list[Run]:
    """All runs of a job and partition, newest first, without rollbacks."""
    mine = (ledger.run.c.job == job) & (ledger.run.c.partition == (partition or ""))
    return _read(connection, mine & ledger.run.c.reverts.is_(None))


def rollback_of(connection: sa.Connection, run_id: str) -> Run | None:
    """The newest rollback of a run that was not cancelled."""
    undoes = (ledger.run.c.reverts == run_id) & (ledger.run.c.state != "cancelled")
    return next(iter(_read(connection, undoes)), None)


def active(database: Database, run: Run) -> Run:
    """What a command on `run` acts on: its rollback while that is under way, else itself."""
    with database.transaction() as connection:
        undo = rollback_of(connection, run.id)
    return undo if undo is not None and undo.state not in SETTLED - {"partial"} else run


def begin(connection: sa.Connection, run: Run, dagster_run_id: str | None) -> str:
    """Takes a run, locked by `load`, for this process; refuses where another applies its partition.

    The unique index of the ledger decides, so nothing depends on a session. Returns the owner's
    name, without which no batch of this run can commit.
    """
    _release_dead(connection, run)
    owner = ownership.claim()
    values: dict[str, Any] = {
        "state": "applying",
        "owner": owner,
        "heartbeat_at": sa.func.clock_timestamp(),
        "request": None,
        "error": None,
    }
    if dagster_run_id is not None:
        values["dagster_run_id"] = dagster_run_id
    try:
        change(connection, run.id, **values)
    except IntegrityError:
        raise Guarded(
            f"Another run is applying {run.label}; wait for it, or see `./maintenance runs`."
        ) from None
    return owner


def beat(connection: sa.Connection, run_id: str, owner: str) -> str | None:
    """Says that the owner is alive; returns what a person has requested meanwhile."""
    heart = ledger.run.update().where(_owned(run_id, owner))
    heart = heart.values(heartbeat_at=sa.func.clock_timestamp())
    row = connection.execute(heart.returning(ledger.run.c.request)).one_or_none()
    if row is None:
        raise taken_over(run_id)
    return str(row.request) if row.request else None


def fence(connection: sa.Connection, run_id: str, owner: str) -> None:
    """Holds off a take-over until the transaction ends; refuses where there has been one.

    `KEY SHARE` waits for, and makes wait, only the `FOR UPDATE` of a take-over: requests to pause
    and heartbeats pass.
    """
    mine = sa.select(ledger.run.c.id).where(_owned(run_id, owner))
    if connection.execute(mine.with_for_update(read=True, key_share=True)).one_or_none() is None:
        raise taken_over(run_id)


def taken_over(run_id: str) -> Guarded:
    """The sentence for a process whose run another one has taken."""
    return Guarded(f"Run {run_id} has been taken over by another process; this one stops.")


def _owned(run_id: str, owner: str) -> sa.ColumnElement[bool]:
    mine = (ledger.run.c.id == run_id) & (ledger.run.c.owner == owner)
    return mine & (ledger.run.c.state == "applying")


def _release_dead(connection: sa.Connection, run: Run) -> None:
    """Marks other runs of the partition whose process died, so that they are in nobody's way."""
    others = (ledger.run.c.job == run.job) & (ledger.run.c.partition == (run.partition or ""))
    for other in _read(connection, others & (ledger.run.c.id != run.id)):
        if other.state == "interrupted":
            change(connection, other.id, state="interrupted", owner=None)


def change(connection: sa.Connection, run_id: str, **values: Any) -> None:
    """Writes columns of a run's row."""
    connection.execute(ledger.run.update().where(ledger.run.c.id == run_id).values(**values))


def leave(connection: sa.Connection, run_id: str, owner: str, state: str, **values: Any) -> None:
    """Ends the owner's work on a run in that state, if the run is still the owner's."""
    values |= {"state": state, "owner": None, "request": None}
    connection.execute(ledger.run.update().where(_owned(run_id, owner)).values(**values))


def spend(connection: sa.Connection, run_id: str, seconds: float) -> None:
    """Adds to the time that the engine has spent on a run."""
    total = ledger.run.c.seconds + seconds
    connection.execute(ledger.run.update().where(ledger.run.c.id == run_id).values(seconds=total))


def approve(database: Database, run_id: str, operator: str) -> Run:
    """Approves a plan as it is, by its digest; whoever planned it may not."""
    with database.transaction() as connection:
        run = load(connection, run_id, lock=True)
        if run.state != "planned":
            raise Guarded(f"Run {run.id} is {run.state}; only a planned run can be approved.")
        if run.planned_by == operator:
            raise Guarded(
                f"Run {run.id} was planned by {operator}, who may not approve it as well; "
                "a second person has to."
            )
        change(connection, run.id, approved_by=operator, approved_digest=run.digest)
        return load(connection, run.id)


def request_pause(database: Database, run_id: str) -> Run:
    """Asks the process that applies a run to stop after its batch and leave it paused."""
    return _request(database, run_id, "pause", "paused", {"interrupted"})


def request_cancel(database: Database, run_id: str) -> Run:
    """Gives a run up: at once, or after its batch where a process applies it."""
    idle = {"planned", "paused", "interrupted", "partial"}
    return _request(database, run_id, "cancel", "cancelled", idle)


def _request(database: Database, run_id: str, verb: str, state: str, idle: set[str]) -> Run:
    # No row lock: a batch holds one while it works, and the request is for that very process.
    with database.transaction() as connection:
        run = load(connection, run_id)
        if run.state == "applying":
            change(connection, run.id, request=verb)
        elif run.state in idle:
            change(connection, run.id, state=state, owner=None)
        elif run.state != state:
            raise Guarded(f"Run {run.id} is {run.state}; there is nothing to {verb}.")
        return load(connection, run.id)


def _read(
    connection: sa.Connection, which: sa.ColumnElement[bool], limit: int | None = None
) -> list[Run]:
    exceptions, batches = ledger.exception, ledger.batch

    def outcomes(outcome: str) -> sa.ScalarSelect[int]:
        found = sa.select(sa.func.count()).where(exceptions.c.run_id == ledger.run.c.id)
        return found.where(exceptions.c.outcome == outcome).scalar_subquery()

    applied = sa.select(sa.func.coalesce(sa.func.sum(batches.c.applied), 0))
    statement = (
        sa.select(
            ledger.run,
            applied.where(batches.c.run_id == ledger.run.c.id).scalar_subquery().label("applied"),
            outcomes("skipped").label("skipped"),
            outcomes("conflict").label("conflicts"),
            outcomes("failed").label("failed"),
            (sa.func.clock_timestamp() - ledger.run.c.heartbeat_at).label("since_heartbeat"),
        )
        .where(which)
        .order_by(ledger.run.c.created_at.desc())
        .limit(limit)
    )
    return [_run(dict(row)) for row in connection.execute(statement).mappings()]


def _run(row: dict[str, Any]) -> Run:
    owner, since = row.pop("owner"), row.pop("since_heartbeat")
    row.pop("heartbeat_at")
    # A process that was killed cannot say so: the state it left behind is told from outside.
    if row["state"] == "applying" and not ownership.is_alive(owner, since or timedelta.max):
        row["state"] = "interrupted"
    row["partition"] = row["partition"] or None
    row["columns"] = tuple(row["columns"])
    row["applied"] = int(row["applied"])
    return Run(**row)
