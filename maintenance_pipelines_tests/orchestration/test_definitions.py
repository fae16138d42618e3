"""What Dagster is told, loaded in a fresh interpreter without a database."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from maintenance_pipelines.definitions import defs
from maintenance_pipelines.orchestration.schedules import schedule_of
from maintenance_pipelines.systems import registry
from maintenance_pipelines_tests.orchestration.household import JOB, environment

MISSING = dg.AssetKey(["benefits", "missing_benefit_statuses"])
BACKFILLED = dg.AssetKey(["benefits", "backfilled_benefit_statuses"])
VERIFIED = dg.AssetKey(["benefits", "verified_benefit_statuses"])

BLOCKING = {
    "every_planned_row_accounted_for", "nothing_left_missing", "no_duplicate",
    "no_overlapping_cycle", "existing_rows_untouched", "new_rows_as_specified",
}  # fmt: skip
WARNINGS = {"appeared_since", "touched_since"}


def graph() -> dg.AssetGraph:
    return defs.resolve_asset_graph()


def test_definitions_load_in_a_fresh_interpreter_without_any_setting() -> None:
    script = "from maintenance_pipelines.definitions import defs; defs.resolve_all_job_defs()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={"PYTHONPATH": environment({})["PYTHONPATH"], "PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_is_three_assets_of_its_system_one_after_the_other() -> None:
    assets = graph()
    assert {MISSING, BACKFILLED, VERIFIED} <= assets.get_all_asset_keys()
    assert assets.get(BACKFILLED).parent_keys == {MISSING}
    assert assets.get(VERIFIED).parent_keys == {BACKFILLED}
    assert {assets.get(key).group_name for key in (MISSING, BACKFILLED, VERIFIED)} == {"benefits"}


def test_every_job_of_the_registry_is_a_dagster_job_with_priority_and_time_limit() -> None:
    for job in registry.every():
        tags = defs.resolve_job_def(job.name).run_tags
        assert tags["dagster/priority"] == str(job.priority)
        # No run is ended within a minute: Dagster's own start can take that long.
        assert tags["dagster/max_runtime"] == str(int(max(job.time_limit.total_seconds(), 60)))


def test_what_must_hold_blocks_and_what_is_worth_knowing_does_not() -> None:
    assets = graph()
    found = {
        key.name: assets.get(key).blocking
        for key in assets.asset_check_keys
        if key.asset_key == VERIFIED
    }
    assert found == dict.fromkeys(BLOCKING, True) | dict.fromkeys(WARNINGS, False)
    scope = dg.AssetCheckKey(MISSING, "plan_within_expected_scope")
    assert assets.get(scope).blocking


def test_partitions_are_months_the_running_one_included() -> None:
    partitions = graph().get(MISSING).partitions_def
    assert partitions is not None
    keys = partitions.get_partition_keys(current_time=datetime(2025, 9, 1, 0, 0, 1, tzinfo=UTC))
    assert (keys[0], keys[-1], len(keys)) == ("2025-01", "2025-09", 9)


def test_the_schedule_is_stopped_and_asks_for_the_running_month_each_time() -> None:
    schedule = schedule_of(registry.JOBS[JOB])
    assert schedule is not None
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.execution_timezone == "UTC"
    for moment in (
        datetime(2025, 9, 1, 0, 30, tzinfo=UTC),
        datetime(2025, 9, 30, 23, 59, tzinfo=UTC),
    ):
        request = schedule(dg.build_schedule_context(scheduled_execution_time=moment))
        assert isinstance(request, dg.RunRequest)
        assert (request.partition_key, request.run_key) == ("2025-09", None)


def test_a_schedule_with_a_lag_asks_for_an_earlier_month() -> None:
    schedule = schedule_of(replace(registry.JOBS[JOB], schedule_lag=1))
    assert schedule is not None
    moment = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
    request = schedule(dg.build_schedule_context(scheduled_execution_time=moment))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2025-12"


def test_only_the_assets_that_write_share_the_system_s_pool() -> None:
    pools = {key: graph().get(key).pools for key in (MISSING, BACKFILLED, VERIFIED)}
    assert pools == {MISSING: set(), BACKFILLED: {"benefits"}, VERIFIED: set()}


@pytest.mark.parametrize("asset", [MISSING, BACKFILLED, VERIFIED])
def test_every_config_field_is_described(asset: dg.AssetKey) -> None:
    op = defs.resolve_job_def(JOB).get_node_named("__".join(asset.path)).definition
    fields = op.config_schema.config_type.fields  # type: ignore[union-attr]
    assert fields
    assert all(field.description for field in fields.values())
