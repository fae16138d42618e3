"""Consistency: what must hold of an application's data at any time, with or without a job.

A rule is a select of the rows that break it. All rows are looked at, never a sample; what comes
back is how many break it, and the first of them by id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines.engine.batches import attempts
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.faults import describe
from maintenance_pipelines.engine.job import Scope

Severity = Literal["error", "warning"]
SAMPLE = 10
"""Offenders that are named."""


@dataclass(frozen=True)
class ConsistencyRule:
    """What must hold, and the select of the rows that break it.

    The select has the text columns `id` and `detail`: which row, and what is wrong with it, in
    words without personal data. A third one, `severity`, says for each row whether it is an
    error or a warning, where that depends on the row.
    """

    name: str
    says: str
    offenders: Callable[[Scope], sa.Select[Any]]
    severity: Severity = "error"


@dataclass(frozen=True)
class Offender:
    """A row that breaks a rule."""

    id: str
    detail: str


@dataclass(frozen=True)
class Finding:
    """What became of one rule: how many rows break it, as errors and as warnings, and the first.

    `failure` is the database's error where the rule could not be evaluated, else None.
    """

    rule: ConsistencyRule
    errors: int = 0
    warnings: int = 0
    first: tuple[Offender, ...] = ()
    failure: str | None = None
    milliseconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether no row breaks it. A rule that could not be evaluated has failed."""
        return self.count == 0 and self.failure is None

    @property
    def severity(self) -> Severity:
        """The worst that was found; what the rule says where nothing was."""
        if self.passed:
            return self.rule.severity
        return "error" if self.errors or self.failure is not None else "warning"

    @property
    def count(self) -> int:
        """The rows that break it."""
        return self.errors + self.warnings

    @property
    def sentence(self) -> str:
        """The finding in words."""
        if self.failure is not None:
            return f"{self.rule.name} could not be evaluated: {self.failure}"
        if self.passed:
            return f"{self.rule.name}: holds"
        first = self.first[0]
        return f"{self.rule.name}: {self.count} offenders, first {first.id} ({first.detail})"

    def json(self) -> dict[str, Any]:
        """The finding as an object: `count` is errors and warnings together."""
        return {
            "name": self.rule.name,
            "says": self.rule.says,
            "severity": self.severity,
            "passed": self.passed,
            "count": self.count,
            "errors": self.errors,
            "warnings": self.warnings,
            "offenders": [{"id": one.id, "detail": one.detail} for one in self.first],
            "failure": self.failure,
            "executionTime": round(self.milliseconds, 1),
        }


@dataclass(frozen=True)
class Consistency:
    """The findings on every rule."""

    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        """Whether there is no error. Warnings leave data valid."""
        return not any(self._failed("error"))

    @property
    def milliseconds(self) -> float:
        """The time that all rules took together."""
        return sum(finding.milliseconds for finding in self.findings)

    def json(self) -> dict[str, Any]:
        """The answer as one object; `executionTime` is in milliseconds."""
        return {
            "valid": self.valid,
            "errors": [finding.sentence for finding in self._failed("error")],
            "warnings": [finding.sentence for finding in self._failed("warning")],
            "checks": [finding.json() for finding in self.findings],
            "executionTime": round(self.milliseconds, 1),
        }

    def _failed(self, severity: Severity) -> list[Finding]:
        return [f for f in self.findings if not f.passed and f.severity == severity]


def judge(
    database: Database, scope: Scope, rules: Iterable[ConsistencyRule], sample: int = SAMPLE
) -> Consistency:
    """Evaluates every rule, each in one statement and so on one state of the data.

    A rule that the database refuses to evaluate has failed, and the others are evaluated all the
    same. Raises `Unreachable`, or the driver's error, where the connection is lost for good.
    """
    return Consistency(tuple(_finding(database, scope, rule, sample) for rule in rules))


def _finding(database: Database, scope: Scope, rule: ConsistencyRule, sample: int) -> Finding:
    started = time.monotonic()
    try:
        for attempt in attempts(database):
            with attempt, database.analysis() as connection:
                rows = connection.execute(_counted(scope, rule, sample)).all()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return Finding(rule, failure=describe(error), milliseconds=_since(started))
    errors, total = (rows[0].errors, rows[0].total) if rows else (0, 0)
    first = tuple(Offender(row.id, row.detail) for row in rows)
    return Finding(rule, errors, total - errors, first, milliseconds=_since(started))


def _counted(scope: Scope, rule: ConsistencyRule, sample: int) -> sa.Select[Any]:
    """The first offenders, errors before warnings, each with the number of all."""
    found = rule.offenders(scope).subquery("found")
    severity: sa.ColumnElement[str] = (
        found.c.severity if "severity" in found.c else sa.literal(rule.severity)
    )
    is_error = severity == "error"
    return (
        sa.select(
            found.c.id,
            found.c.detail,
            sa.func.count().over().label("total"),
            sa.func.count().filter(is_error).over().label("errors"),
        )
        .order_by(is_error.desc(), found.c.id)
        .limit(sample)
    )


def _since(started: float) -> float:
    return (time.monotonic() - started) * 1000
