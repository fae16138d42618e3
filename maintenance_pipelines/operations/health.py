"""How the jobs are doing, in numbers: for the UI to plot, and for Prometheus to read."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.operations.alerts import Severity

DAY = timedelta(hours=24)
MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Ended:
    """A run that has ended: when, well or not, and how many seconds it took."""

    at: datetime
    succeeded: bool
    seconds: float


@dataclass(frozen=True)
class Rate:
    """How many runs of a span ended, and which part of them well; None where none ended."""

    runs: int
    failures: int

    @property
    def success(self) -> float | None:
        """The part that ended well, 0 to 1."""
        return (self.runs - self.failures) / self.runs if self.runs else None


@dataclass(frozen=True)
class Health:
    """One job: its last run, what that did, and how it went over a day and over a month."""

    job: str
    system: str
    last: Ended | None
    last_success: Ended | None
    counts: Mapping[str, int]
    day: Rate
    month: Rate
    usual_seconds: float | None

    @property
    def success_trend(self) -> float | None:
        """The success rate of the day less that of the month: below 0 it gets worse."""
        if self.day.success is None or self.month.success is None:
            return None
        return self.day.success - self.month.success

    @property
    def seconds_trend(self) -> float | None:
        """How long the last run took, by what is usual over the month: above 1 it gets slower."""
        if self.last is None or not self.usual_seconds:
            return None
        return self.last.seconds / self.usual_seconds

    def numbers(self) -> dict[str, float]:
        """All of it under the names that the UI and `--json` show; what is not known is absent."""
        found: dict[str, float | None] = {
            "last_run_seconds": self.last.seconds if self.last else None,
            "last_run_ended_well": float(self.last.succeeded) if self.last else None,
            "success_rate_24h": self.day.success,
            "success_rate_30d": self.month.success,
            "runs_24h": self.day.runs,
            "runs_30d": self.month.runs,
            "failures_24h": self.day.failures,
            "failures_30d": self.month.failures,
            "success_rate_trend": self.success_trend,
            "seconds_trend": self.seconds_trend,
            **{f"last_{name}": count for name, count in self.counts.items()},
        }
        return {name: round(value, 4) for name, value in found.items() if value is not None}


def health_of(
    job: str, system: str, ended: Sequence[Ended], last: Run | None, now: datetime
) -> Health:
    """A job's figures, from its runs of the last 30 days and the ledger's newest one."""
    runs = sorted((each for each in ended if each.at > now - MONTH), key=lambda each: each.at)
    well = [each for each in runs if each.succeeded]
    return Health(
        job,
        system,
        runs[-1] if runs else None,
        well[-1] if well else None,
        _counts(last),
        _rate(each for each in runs if each.at > now - DAY),
        _rate(runs),
        statistics.median(each.seconds for each in well) if well else None,
    )


def write_metrics(
    file: Path,
    healths: Iterable[Health],
    open_alerts: Mapping[Severity, int],
    undelivered: int,
    now: datetime,
) -> None:
    """Writes everything as a text file for Prometheus' node exporter, whole or not at all."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    if file.suffix != ".prom":
        raise Misconfigured("MAINTENANCE_METRICS_FILE should end in .prom: nothing else is read.")
    registry = CollectorRegistry()

    def gauge(name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"maintenance_{name}", says, labels, registry=registry)

    of_job = ("job", "system")
    ended = gauge("job_last_run_timestamp_seconds", "When the last run ended.", *of_job)
    good = gauge("job_last_success_timestamp_seconds", "When one last ended well.", *of_job)
    took = gauge("job_last_run_seconds", "How long the last run took.", *of_job)
    rows = gauge("job_last_run_rows", "Rows of the last run.", *of_job, "outcome")
    runs = gauge("job_runs", "Runs that ended within the window.", *of_job, "window")
    failures = gauge("job_failures", "Runs that failed within the window.", *of_job, "window")
    rate = gauge("job_success_ratio", "Runs that ended well, 0 to 1.", *of_job, "window")
    for each in healths:
        name = (each.job, each.system)
        if each.last is not None:
            ended.labels(*name).set(each.last.at.timestamp())
            took.labels(*name).set(each.last.seconds)
        if each.last_success is not None:
            good.labels(*name).set(each.last_success.at.timestamp())
        for outcome, count in each.counts.items():
            rows.labels(*name, outcome).set(count)
        for window, of in (("24h", each.day), ("30d", each.month)):
            runs.labels(*name, window).set(of.runs)
            failures.labels(*name, window).set(of.failures)
            if of.success is not None:
                rate.labels(*name, window).set(of.success)
    alerts = gauge("open_alerts", "What is off at present.", "severity")
    for severity in Severity:
        alerts.labels(severity.value).set(open_alerts.get(severity, 0))
    gauge("undelivered_alerts", "Messages that a channel has not taken.").set(undelivered)
    # A daemon that is down cannot say so; that this stands still does.
    gauge("watched_timestamp_seconds", "When this was written.").set(now.timestamp())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(file), registry)


def _rate(ended: Iterable[Ended]) -> Rate:
    outcomes = [each.succeeded for each in ended]
    return Rate(len(outcomes), outcomes.count(False))


def _counts(run: Run | None) -> dict[str, int]:
    if run is None:
        return {}
    names = ("planned", "applied", "skipped", "conflicts", "failed")
    return {name: int(getattr(run, name)) for name in names}
