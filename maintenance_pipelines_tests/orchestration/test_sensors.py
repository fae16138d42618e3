"""The sensors as Dagster has them: when they are on, what they request, what they keep."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
)

from maintenance_pipelines.definitions import build
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.orchestration import gaps, watch
from maintenance_pipelines.orchestration.assets import assets_of
from maintenance_pipelines.orchestration.freshness import policy_of, with_freshness
from maintenance_pipelines.orchestration.health_assets import asset_of, specs
from maintenance_pipelines.orchestration.launching import instance_of
from maintenance_pipelines.orchestration.missed import switched_on
from maintenance_pipelines.orchestration.names import verified
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.schedules import dagster_job
from maintenance_pipelines.orchestration.sensors import sensors
from maintenance_pipelines.orchestration.switches import Switches, runs_unattended
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill
from maintenance_pipelines.systems.monetization.override_check import global_override_check
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import JOB, MONTH, App

NOW = datetime(2025, 9, 10, 12, tzinfo=UTC)


@pytest.fixture
def instance(settings: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with instance_of(Settings.load()) as running:
        with watch.book(Settings.load()) as storage, storage.transaction() as connection:
            for table in reversed(alert_book.metadata.sorted_tables):
                connection.execute(table.delete())
        running.run_storage.wipe()
        yield running


def definitions(now: datetime = NOW) -> dg.Definitions:
    jobs = [dagster_job(job) for job in registry.every()]
    return dg.Definitions(
        assets=[*with_freshness([benefit_status_backfill], assets_of(benefit_status_backfill)),
                *specs()],
        jobs=[job for job in jobs if job.name == JOB],
        sensors=sensors(Switches(frozenset({"benefits"})), jobs),
        resources={"maintenance": Maintenance(clock=lambda: now)},
    )  # fmt: skip


def tick(instance: dg.DagsterInstance, name: str, now: datetime = NOW) -> dg.SensorResult:
    """One evaluation of a sensor, as the daemon does it."""
    repository = definitions(now).get_repository_def()
    sensor = repository.get_sensor_def(name)
    context = dg.build_sensor_context(
        instance=instance,
        repository_def=repository,
        resources={"maintenance": Maintenance(clock=lambda: now)},
    )
    data = sensor.evaluate_tick(context)
    return dg.SensorResult(
        run_requests=list(data.run_requests or []),
        asset_events=list(data.asset_events or []),
        skip_reason=dg.SkipReason(data.skip_message) if data.skip_message else None,
    )


def test_sensors_are_on_where_there_is_something_for_them_to_do() -> None:
    jobs = [dagster_job(job) for job in registry.every()]

    def on(switches: Switches) -> set[str]:
        running = dg.DefaultSensorStatus.RUNNING
        return {each.name for each in sensors(switches, jobs) if each.default_status == running}

    watching = {"watch_runs", "tell_alerts", "job_health"}
    assert on(Switches()) == set()
    assert on(Switches(told=True)) == watching
    assert on(Switches(frozenset({"referrals"}))) == watching | {"missed_runs"}
    assert on(Switches(frozenset({"benefits"}))) == watching | {"missed_runs", f"{JOB}_gaps"}


def test_one_setting_switches_a_system_on_and_none_without_a_database(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not runs_unattended(Settings.load(), "benefits")
    monkeypatch.setenv("BENEFITS_SCHEDULES", "on")
    monkeypatch.setenv("CREDITS_SCHEDULES", "on")
    assert runs_unattended(Settings.load(), "benefits")
    assert not runs_unattended(Settings.load(), "credits"), "it has no database"
    assert Switches.of(Settings.load) == Switches(frozenset({"benefits"}))
    monkeypatch.setenv("MAINTENANCE_ALERTS", "json://127.0.0.1/x")
    assert Switches.of(Settings.load).told
    monkeypatch.setenv("BENEFITS_SCHEDULES", "perhaps")
    assert Switches.of(Settings.load) == Switches(), "definitions load all the same"


def test_a_system_that_is_switched_on_has_running_schedules_and_a_deadline_for_its_proof(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def running() -> set[str]:
        schedules = build(Maintenance()).schedules or []
        on = dg.DefaultScheduleStatus.RUNNING
        return {each.name for each in schedules if each.default_status == on}

    assert running() == set()
    monkeypatch.setenv("BENEFITS_SCHEDULES", "on")
    monkeypatch.setenv("MONETIZATION_SCHEDULES", "on")
    assert running() == {f"{JOB}_schedule"}
    graph = build(Maintenance()).resolve_asset_graph()
    overdue = {key for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy}
    assert overdue == {verified(benefit_status_backfill)}


def test_what_a_person_has_switched_in_the_ui_counts_more_than_the_setting(
    instance: dg.DagsterInstance,
) -> None:
    assert switched_on(instance, {JOB: True, "other": False}) == {JOB: True, "other": False}
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"),
        f"{JOB}_schedule",
    )
    for status, usual in ((InstigatorStatus.STOPPED, True), (InstigatorStatus.RUNNING, False)):
        state = InstigatorState(
            origin,
            InstigatorType.SCHEDULE,
            status,
            ScheduleInstigatorData("30 0 1 * *", start_timestamp=0.0),
        )
        if instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
            instance.update_instigator_state(state)
        else:
            instance.add_instigator_state(state)
        assert switched_on(instance, {JOB: usual}) == {JOB: not usual}
    assert instance.schedule_storage is not None
    instance.schedule_storage.wipe()


def test_months_with_gaps_are_requested_once_a_day_and_filled(
    instance: dg.DagsterInstance, terminal: Terminal
) -> None:
    requested: set[str] = set()
    for hour in range(5):
        found = tick(instance, f"{JOB}_gaps", NOW + timedelta(hours=hour))
        requested |= {str(each.partition_key) for each in found.run_requests or []}
        assert all(
            each.run_key and "2025-09-10" in each.run_key for each in found.run_requests or []
        )
    assert MONTH in requested
    terminal("run", JOB, "--partition", MONTH)
    settings = Settings.load()
    assert gaps.look(settings, benefit_status_backfill, [MONTH], NOW) == []


def test_a_gap_of_which_a_person_has_to_decide_is_not_requested(
    instance: dg.DagsterInstance, terminal: Terminal, app: App
) -> None:
    settings = Settings.load()
    (request,) = gaps.look(settings, benefit_status_backfill, [MONTH], NOW)
    assert request.partition_key == MONTH
    run = terminal("plan", JOB, "--partition", MONTH, "--json").json["run_id"]
    assert len(gaps.look(settings, benefit_status_backfill, [MONTH], NOW)) == 1
    for state, held in (("partial", False), ("paused", False), ("rolled_back", True)):
        app.sql(f"UPDATE maintenance.run SET state='{state}', held={held} WHERE id='{run}'")
        assert gaps.look(settings, benefit_status_backfill, [MONTH], NOW) == []


def test_every_month_has_its_turn_and_the_running_one_each_time(
    instance: dg.DagsterInstance,
) -> None:
    with watch.book(Settings.load()) as storage:
        turns = [gaps.next_months(benefit_status_backfill, storage, NOW) for _ in range(4)]
    assert all(turn[0] == "2025-09" for turn in turns)
    assert {month for turn in turns for month in turn} == {f"2025-0{n}" for n in range(1, 10)}


def test_watching_and_telling_say_what_they_came_to(instance: dg.DagsterInstance) -> None:
    looked, told = tick(instance, "watch_runs"), tick(instance, "tell_alerts")
    assert looked.skip_reason == dg.SkipReason("Looked at everything.")
    assert told.skip_reason == dg.SkipReason("0 delivered, 0 not, 0 have no channel.")
    assert tick(instance, "missed_runs").run_requests == []


def test_the_figures_of_a_job_are_an_asset_and_a_file(
    instance: dg.DagsterInstance,
    terminal: Terminal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "maintenance.prom"
    monkeypatch.setenv("MAINTENANCE_METRICS_FILE", str(file))
    came = terminal("run", JOB, "--partition", MONTH, "--json").json
    (event,) = tick(instance, "job_health", datetime.now(UTC)).asset_events or []
    assert event.asset_key == asset_of(benefit_status_backfill)
    numbers = {name: entry.value for name, entry in event.metadata.items()}
    assert all(isinstance(value, int | float) for value in numbers.values())
    assert numbers["success_rate_24h"] == 1.0
    assert numbers["last_applied"] == came["applied"]
    assert f'maintenance_job_runs{{job="{JOB}",system="benefits",window="24h"}} 1.0' in (
        file.read_text()
    )


def test_a_proof_is_overdue_some_time_after_its_schedule() -> None:
    deadlines = {
        job.name: (policy.deadline_cron, policy.lower_bound_delta)
        for job in (benefit_status_backfill, global_override_check, promo_cleanup)
        if isinstance(policy := policy_of(job), CronFreshnessPolicy)
    }
    assert deadlines == {
        JOB: ("30 2 1 * *", timedelta(hours=2)),
        "global_override_check": ("30 * * * *", timedelta(minutes=30)),
        "promo_cleanup": ("0 4 * * 0", timedelta(hours=2)),
    }
    assets = with_freshness([benefit_status_backfill], assets_of(benefit_status_backfill))
    policies = {spec.key.path[-1]: spec.freshness_policy for each in assets for spec in each.specs}
    assert [name for name, policy in policies.items() if policy] == ["verified_benefit_statuses"]
