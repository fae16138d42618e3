"""`./maintenance up`: the real webserver and daemon, on PostgreSQL storage, through GraphQL."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from maintenance_pipelines.orchestration.launching import PROCESS
from maintenance_pipelines_tests.orchestration.household import (
    JOB,
    MONTH,
    App,
    command,
    environment,
    wait_for_batches,
)
from maintenance_pipelines_tests.support.channels import Hook, webhook

PATIENCE_S = 180
ASSETS = ("missing_benefit_statuses", "backfilled_benefit_statuses", "verified_benefit_statuses")

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"
FAILURES = """
query ($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection { events {
  ... on ExecutionStepFailureEvent { stepKey error { message } failureMetadata { description } }
  ... on RunFailureEvent { message error { message } }
} } } } }"""
TERMINATE = """
mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"""
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
MATERIALIZATIONS = """
query ($path: [String!]!, $partitions: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) { ... on AssetNode {
    latestMaterializationByPartition(partitions: $partitions) {
      partition
      metadataEntries { label
        ... on IntMetadataEntry { intValue } ... on MarkdownMetadataEntry { mdStr }
        ... on TextMetadataEntry { text } }
    } } }
}"""
CHECKS = """
query ($key: AssetKeyInput!, $name: String!) {
  assetCheckExecutions(assetKey: $key, checkName: $name, limit: 10) {
    evaluation { success metadataEntries { label ... on TextMetadataEntry { text } } }
  }
}"""
RUNS = """
query ($job: String!) { runsOrError(filter: {pipelineName: $job}) { ... on Runs { results {
  runId status startTime endTime tags { key value } } } } }"""
SCHEDULE_ON = """
mutation ($schedule: ScheduleSelector!) { startSchedule(scheduleSelector: $schedule) {
  __typename ... on ScheduleStateResult { scheduleState { status } } } }"""
SCHEDULE = """
query ($schedule: ScheduleSelector!) { scheduleOrError(scheduleSelector: $schedule) {
  ... on Schedule { cronSchedule executionTimezone scheduleState { status nextTick { timestamp } } }
} }"""
PLOTS = """
query ($path: [String!]!) { assetNodeOrError(assetKey: {path: $path}) { ... on AssetNode {
  assetMaterializations { partition metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } } } } }"""
REPOSITORY = {
    "repositoryLocationName": "maintenance_pipelines",
    "repositoryName": "__repository__",
}


class Ui:
    """The webserver's GraphQL."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            self.address, body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        data = answer["data"]
        assert isinstance(data, dict)
        return data

    def is_ready(self) -> bool:
        try:
            (location,) = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        except (urllib.error.URLError, ConnectionError, ValueError):
            return False
        if location["loadStatus"] != "LOADED":
            return False
        assert location["locationOrLoadError"]["__typename"] == "RepositoryLocation", location
        return True


@pytest.fixture
def ui(settings: dict[str, str]) -> Iterator[Ui]:
    """The UI and the daemon, started as a person starts them and stopped by Ctrl-C."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        command("up", "--port", str(port)),
        env=environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        running = Ui(port)
        wait_for(running.is_ready)
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 0


def test_a_dry_run_a_run_a_backfill_and_a_schedule_from_the_ui_are_read_back_there(
    ui: Ui, app: App
) -> None:
    before = app.statuses()
    rows, _ = before

    dry = launch(ui, assets=ASSETS[:1])
    wait_for(lambda: ended(ui, dry))
    shown = materializations(ui, ASSETS[0], [MONTH])[MONTH]
    assert shown["report"].startswith(f"# {JOB} {MONTH}: plan")
    assert (shown["state"], app.statuses()) == ("planned", before), "a dry run writes nothing"

    run_id = launch(ui)
    months = ["2025-06", "2025-07"]
    begun = ui.ask(
        BACKFILL,
        params={
            "assetSelection": [{"path": ["benefits", name]} for name in ASSETS],
            "partitionNames": months,
        },
    )["launchPartitionBackfill"]
    assert begun["__typename"] == "LaunchBackfillSuccess", begun
    # Not until the backfill says so itself: its daemon looks only every half minute.
    wait_for(lambda: ended(ui, run_id))
    wait_for(lambda: set(materializations(ui, ASSETS[2], months)) == set(months))

    proved = materializations(ui, ASSETS[2], [MONTH, *months])
    assert set(proved) == {MONTH, *months}
    assert {each["state"] for each in proved.values()} == {"verified"}
    assert proved[MONTH]["report"].startswith(f"# {JOB} {MONTH}: verified")
    planned = materializations(ui, ASSETS[0], [MONTH])[MONTH]
    assert proved[MONTH]["applied"] == planned["planned"] > 0
    written = sum(each["applied"] for each in proved.values())
    assert app.statuses()[0] == rows + written

    # Dagster records a check after the materialization that it is about.
    wait_for(lambda: set(evaluations(ui, "nothing_left_missing")) == {MONTH, *months})
    assert all(evaluations(ui, "nothing_left_missing").values())

    found = ui.ask(RUNS, job=JOB)["runsOrError"]["results"]
    assert {dry, run_id} <= {each["runId"] for each in found}
    assert {each["status"] for each in found} == {"SUCCESS"}
    assert all(each["endTime"] >= each["startTime"] for each in found)
    plotted = plots(ui, ASSETS[2])
    assert {label: set(by) for label, by in plotted.items() if label == "applied"} == {
        "applied": {MONTH, *months}
    }
    assert {"planned", "skipped", "conflicts", "failed", "seconds"} <= set(plotted)

    schedule = {**REPOSITORY, "scheduleName": f"{JOB}_schedule"}
    started = ui.ask(SCHEDULE_ON, schedule=schedule)["startSchedule"]
    assert started["scheduleState"]["status"] == "RUNNING", started
    read = ui.ask(SCHEDULE, schedule=schedule)["scheduleOrError"]
    assert (read["cronSchedule"], read["executionTimezone"]) == ("30 0 1 * *", "UTC")
    next_tick = datetime.fromtimestamp(read["scheduleState"]["nextTick"]["timestamp"], UTC)
    assert (next_tick.day, next_tick.hour, next_tick.minute) == (1, 0, 30)


def plots(ui: Ui, asset: str) -> dict[str, dict[str, float]]:
    """What the UI plots of an asset: each number by partition."""
    node = ui.ask(PLOTS, path=["benefits", asset])["assetNodeOrError"]
    found: dict[str, dict[str, float]] = {}
    for each in node["assetMaterializations"]:
        for entry in each["metadataEntries"]:
            for number in (entry.get("intValue"), entry.get("floatValue")):
                if number is not None:
                    found.setdefault(entry["label"], {})[each["partition"]] = number
    return found


def evaluations(ui: Ui, check: str) -> dict[str, bool]:
    """Whether a check on verification holds, by partition."""
    key = {"path": ["benefits", ASSETS[2]]}
    executions = ui.ask(CHECKS, key=key, name=check)["assetCheckExecutions"]
    # A check that is planned for a partition is listed a second time, without an evaluation.
    found = [each["evaluation"] for each in executions if each["evaluation"]]
    return {
        entry["text"]: each["success"]
        for each in found
        for entry in each["metadataEntries"]
        if entry["label"] == "partition"
    }


@pytest.mark.long
def test_a_run_that_is_terminated_in_the_ui_is_paused_and_its_batches_stay(
    one_row_at_a_time: None, ui: Ui, app: App
) -> None:
    rows, _ = app.statuses()
    run_id = launch(ui)
    wait_for_batches(app, 20)
    terminated = ui.ask(TERMINATE, id=run_id)["terminateRun"]
    assert terminated["__typename"] == "TerminateRunSuccess"
    wait_for(lambda: status_of(ui, run_id) == "CANCELED")
    ((state, applied),) = app.sql(
        "SELECT state, (SELECT sum(applied) FROM maintenance.batch)::integer FROM maintenance.run"
    )
    assert state == "paused"
    assert app.statuses()[0] == rows + applied


@pytest.fixture
def one_row_at_a_time(settings: dict[str, str]) -> None:
    """Slow enough to be caught in the middle."""
    settings.update(MAINTENANCE_BATCH_ROWS="1", MAINTENANCE_GRANULE_ROWS="1")


@pytest.mark.long
def test_a_worker_of_the_daemon_s_that_is_killed_is_noticed_told_and_the_next_run_finishes(
    channel: Hook, one_row_at_a_time: None, ui: Ui, app: App
) -> None:
    rows, _ = app.statuses()

    run_id = launch(ui)
    wait_for_batches(app, 20)
    os.kill(process_of(ui, run_id), signal.SIGKILL)
    wait_for(lambda: status_of(ui, run_id) == "FAILURE")
    wait_for(lambda: f"ERROR benefits: {JOB} {MONTH} is interrupted" in channel.titles)

    again = launch(ui, config={"batch_rows": 1000})
    wait_for(lambda: ended(ui, again))
    proved = materializations(ui, ASSETS[2], [MONTH])[MONTH]
    assert proved["state"] == "verified"
    assert app.statuses()[0] == rows + proved["applied"]
    wait_for(lambda: f"RECOVERED benefits: {JOB} {MONTH} is interrupted" in channel.titles)


@pytest.fixture
def channel(settings: dict[str, str]) -> Iterator[Hook]:
    """Where the alerts of the system go; that there is such a place starts the watching."""
    with webhook() as hook:
        settings.update(BENEFITS_ALERTS=hook.address)
        yield hook


def process_of(ui: Ui, run_id: str) -> int:
    """The process that works on a run, as its tag names it."""
    tags = {t["key"]: t["value"] for t in ui.ask(RUN, id=run_id)["runOrError"]["tags"]}
    return int(tags[PROCESS].rsplit("|", 3)[1])


def launch(ui: Ui, assets: Sequence[str] = (), config: Mapping[str, int] | None = None) -> str:
    """Launches the job for the month, or only some of its assets; returns Dagster's id of it."""
    ops = {"ops": {f"benefits__{ASSETS[1]}": {"config": config}}} if config else {}
    launched = ui.ask(
        LAUNCH,
        params={
            "selector": {
                **REPOSITORY,
                "pipelineName": JOB,
                "assetSelection": [{"path": ["benefits", asset]} for asset in assets] or None,
            },
            "runConfigData": ops,
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": MONTH}]},
        },
    )["launchRun"]
    return str(launched["run"]["runId"])


def materializations(
    ui: Ui, asset: str, partitions: list[str], system: str = "benefits"
) -> dict[str, dict[str, Any]]:
    """The metadata of the latest materialization, by partition."""
    node = ui.ask(MATERIALIZATIONS, path=[system, asset], partitions=partitions)
    return {
        each["partition"]: {
            entry["label"]: next(v for k, v in entry.items() if k != "label")
            for entry in each["metadataEntries"]
            if len(entry) > 1
        }
        for each in node["assetNodeOrError"]["latestMaterializationByPartition"]
        if each
    }


def status_of(ui: Ui, run_id: str) -> str:
    return str(ui.ask(RUN, id=run_id)["runOrError"]["status"])


def ended(ui: Ui, run_id: str) -> bool:
    status = status_of(ui, run_id)
    assert status not in ("FAILURE", "CANCELED"), ui.ask(FAILURES, id=run_id)
    return bool(status == "SUCCESS")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.3)
