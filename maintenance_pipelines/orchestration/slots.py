"""When a job should have run: the moments of its schedule, and the month that each is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

# Dagster's own, so that a moment here is one at which its scheduler really asks.
from dagster._utils.schedules import cron_string_iterator, reverse_cron_string_iterator

from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.months import Month


@dataclass(frozen=True)
class Slot:
    """One moment of a job's schedule; `partition` is None for a job without any."""

    job: Job
    at: datetime
    partition: str | None

    @property
    def label(self) -> str:
        """The job and its partition."""
        return self.job.name if self.partition is None else f"{self.job.name} {self.partition}"


def slots(job: Job, after: datetime, until: datetime) -> Iterator[Slot]:
    """Every moment of the schedule later than `after` and not later than `until`, in order."""
    if job.schedule is None:
        return
    for moment in cron_string_iterator(after.timestamp(), job.schedule, "UTC"):
        if moment > until:
            return
        if moment > after:
            yield slot_at(job, moment.astimezone(UTC))


def last_slot(job: Job, after: datetime, until: datetime) -> Slot | None:
    """The last of these moments, without going through the others."""
    if job.schedule is None:
        return None
    moments = reverse_cron_string_iterator(until.timestamp(), job.schedule, "UTC")
    last = next(moment for moment in moments if moment <= until)
    return slot_at(job, last.astimezone(UTC)) if last > after else None


def slot_at(job: Job, moment: datetime) -> Slot:
    """The slot of a moment of the schedule."""
    if job.partitions is None:
        return Slot(job, moment, None)
    return Slot(job, moment, str(Month.of(moment).plus(-job.schedule_lag)))


def due(job: Job, after: datetime, until: datetime) -> list[Slot]:
    """What has to have run between two moments: every month's slot, but of a job that means "as
    of now" only the last, since one run does the work of all before it.
    """
    if job.partitions is None:
        last = last_slot(job, after, until)
        return [last] if last else []
    return list({slot.partition: slot for slot in slots(job, after, until)}.values())


def deadline_passed(slot: Slot, now: datetime) -> bool:
    """Whether a slot is too old to be made up for."""
    if slot.job.running_month_only:
        return Month.of(slot.at) < Month.of(now)
    within = slot.job.made_up_within
    return within is not None and now - slot.at > within


def schedule_name(job: str) -> str:
    """What Dagster calls the schedule of a job."""
    return f"{job}_schedule"
