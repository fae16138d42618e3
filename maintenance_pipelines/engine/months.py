"""Months as partitions: `YYYY-MM`, UTC, half-open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from maintenance_pipelines.engine.refusals import BadInput


@dataclass(frozen=True, order=True)
class Month:
    """One calendar month in UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """`YYYY-MM` as a month; refuses anything else."""
        found = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", text)
        if found is None or int(found[1]) == 0:
            raise BadInput(f"Partition {text!r} is not a month; write it as YYYY-MM, like 2025-08.")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, moment: datetime) -> Month:
        """The month that a UTC moment lies in."""
        return cls(moment.year, moment.month)

    def plus(self, months: int) -> Month:
        """The month so many months later (earlier where negative)."""
        index = self.year * 12 + self.number - 1 + months
        return Month(index // 12, index % 12 + 1)

    @property
    def start(self) -> datetime:
        """Its first instant, as a naive UTC time."""
        return datetime(self.year, self.number, 1)

    @property
    def end(self) -> datetime:
        """The first instant after it, as a naive UTC time."""
        return self.plus(1).start

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"


@dataclass(frozen=True)
class Months:
    """The monthly partitions of a job, from `since` to the month that is running."""

    since: str

    def until(self, now: datetime) -> list[Month]:
        """Every partition that exists at `now`, the running month included."""
        month, last, months = Month.parse(self.since), Month.of(now), []
        while month <= last:
            months.append(month)
            month = month.plus(1)
        return months

    def check(self, text: str, now: datetime) -> Month:
        """The named partition; refuses one before `since` or in the future."""
        month = Month.parse(text)
        if month < Month.parse(self.since):
            raise BadInput(f"Partition {text} is before {self.since}, the first of this job.")
        if month > Month.of(now):
            raise BadInput(f"Partition {text} is in the future; the last one is {Month.of(now)}.")
        return month
