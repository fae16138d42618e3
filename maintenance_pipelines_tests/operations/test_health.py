"""Health in numbers: rates, trends, and the file that Prometheus' node exporter reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations.alerts import Severity
from maintenance_pipelines.operations.health import Ended, health_of, write_metrics

NOW = datetime(2025, 11, 21, 12, tzinfo=UTC)


def ended(hours_ago: float, succeeded: bool = True, seconds: float = 10.0) -> Ended:
    return Ended(NOW - timedelta(hours=hours_ago), succeeded, seconds)


def test_rates_are_of_the_last_day_and_the_last_month_and_the_trend_compares_them() -> None:
    runs = [ended(1, False), ended(2), *(ended(30 + n) for n in range(8)), ended(24 * 31, False)]
    health = health_of("tier_expiration", "monetization", runs, None, NOW)
    numbers = health.numbers()
    assert (numbers["success_rate_24h"], numbers["success_rate_30d"]) == (0.5, 0.9)
    assert (numbers["runs_24h"], numbers["runs_30d"], numbers["failures_30d"]) == (2, 10, 1)
    assert numbers["success_rate_trend"] == -0.4
    assert numbers["last_run_ended_well"] == 0.0
    assert health.last_success == ended(2)


def test_a_run_that_takes_longer_than_usual_shows_in_the_trend() -> None:
    runs = [ended(0.1, seconds=40), *(ended(24 * n, seconds=10) for n in range(1, 6))]
    assert health_of("job", "system", runs, None, NOW).seconds_trend == 4.0


def test_of_a_job_that_never_ran_nothing_is_made_up() -> None:
    health = health_of("job", "system", [], None, NOW)
    assert health.numbers() == dict.fromkeys(
        ("runs_24h", "runs_30d", "failures_24h", "failures_30d"), 0
    )
    assert (health.success_trend, health.seconds_trend) == (None, None)


def test_prometheus_reads_the_file_that_is_written(tmp_path: Path) -> None:
    file = tmp_path / "textfile" / "maintenance.prom"
    health = health_of("tier_expiration", "monetization", [ended(1, False), ended(2)], None, NOW)
    for undelivered in (7, 3):
        write_metrics(file, [health], {Severity.ERROR: 2}, undelivered, NOW)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    job = ("tier_expiration", "monetization")
    assert found["maintenance_job_success_ratio", *job, "24h"] == 0.5
    assert found["maintenance_job_failures", *job, "30d"] == 1
    assert found["maintenance_job_last_run_timestamp_seconds", *job] == ended(1).at.timestamp()
    assert found["maintenance_job_last_success_timestamp_seconds", *job] == ended(2).at.timestamp()
    assert found["maintenance_open_alerts", "error"] == 2
    assert found["maintenance_open_alerts", "warning"] == 0
    assert found["maintenance_undelivered_alerts",] == 3
    assert found["maintenance_watched_timestamp_seconds",] == NOW.timestamp()
    assert [each.name for each in file.parent.iterdir()] == [file.name], "nothing half written"


def test_a_metrics_file_that_nobody_would_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"\.prom"):
        write_metrics(tmp_path / "metrics.txt", [], {}, 0, NOW)
