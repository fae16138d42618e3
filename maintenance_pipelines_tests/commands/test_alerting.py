"""alerts, watch and health, typed on a terminal."""

from __future__ import annotations

import pytest

from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.orchestration.watch import book
from maintenance_pipelines.settings import Settings
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import JOB, MONTH
from maintenance_pipelines_tests.support.channels import webhook


@pytest.fixture
def empty_book(settings: dict[str, str]) -> None:
    """The book, which all tests of a process share, without anything in it."""
    with book(Settings.load()) as storage, storage.transaction() as connection:
        for table in reversed(alert_book.metadata.sorted_tables):
            connection.execute(table.delete())


def test_without_the_daemon_a_watch_finds_and_tells_and_alerts_lists(
    empty_book: None, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook:
        monkeypatch.setenv("MAINTENANCE_ALERTS", hook.address)
        assert terminal("watch").code == 0
        assert terminal("plan", JOB, "--partition", MONTH, "--expected-rows", "1..2").code == 1
        hook.status = 500
        looked = terminal("watch", "--json")
        assert (looked.code, looked.json["undelivered"]) == (1, 1)
        listed = terminal("alerts", "--json").json
        (off,) = [each for each in listed["alerts"] if JOB in each["title"]]
        assert off["severity"] == "error"
        (waiting,) = listed["undelivered"]
        assert (waiting["service"], waiting["error"]) == ("JSON", "it answered 500")
        shown = terminal("alerts").out
        assert "has failed" in shown
        assert "Not delivered yet" in shown
        assert "s3cr3t" not in shown + str(listed) + looked.out + looked.err


def test_the_channels_can_be_tried_and_one_that_fails_is_an_exit_code(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = terminal("alerts", "--test")
    assert (refused.code, "MAINTENANCE_ALERTS" in refused.sentence) == (2, True)
    with webhook() as hook:
        monkeypatch.setenv("MAINTENANCE_ALERTS", hook.address)
        assert terminal("alerts", "--test").code == 0
        assert hook.titles == ["TEST maintenance: this channel is told of alerts"]
        hook.status = 401
        came = terminal("alerts", "--test", "--json")
    assert came.code == 1
    assert came.json["channels"] == [
        {"service": "JSON", "delivered": False, "error": "it answered 401"}
    ]


def test_health_shows_each_job_s_last_run_and_rates(terminal: Terminal) -> None:
    terminal("plan", JOB, "--partition", MONTH)
    (job,) = [each for each in terminal("health", "--json").json["jobs"] if each["job"] == JOB]
    assert job["system"] == "benefits"
    assert job["runs_24h"] >= 1
    assert 0 <= job["success_rate_30d"] <= 1
    assert JOB in terminal("health").out
