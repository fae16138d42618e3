"""Schedules and missed runs under a simulated clock: a day, a month's end, a year's end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import dagster as dg
import pytest

from maintenance_pipelines.engine.applying import apply
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.planning import Request, plan
from maintenance_pipelines.engine.verifying import verify
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.orchestration import missed, watch
from maintenance_pipelines.orchestration.launching import instance_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.schedules import schedule_of
from maintenance_pipelines.orchestration.slots import deadline_passed, due, slot_at, slots
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines.systems.credits.warning import credit_expiry_warning
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.override_check import global_override_check
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup
from maintenance_pipelines.systems.monetization.schema import create_app_tables
from maintenance_pipelines.systems.monetization.trials import trial_reminder
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.orchestration.household import JOB, App

SCHEDULED = (
    benefit_status_backfill, monthly_stats_reset, tier_expiration, global_override_check,
    promo_cleanup, discipline_stats_rollup, trial_reminder, monthly_credits_reset, credit_expiry,
    credit_expiry_warning,
)  # fmt: skip

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(start: str, end: str) -> dict[str, list[str]]:
    """What Dagster is asked for by each schedule between two moments: moment and partition."""
    found: dict[str, list[str]] = {}
    for job in SCHEDULED:
        schedule = schedule_of(job, clock=lambda: at(start))
        assert schedule is not None
        for slot in slots(job, at(start), at(end)):
            request = schedule(dg.build_schedule_context(scheduled_execution_time=slot.at))
            assert isinstance(request, dg.RunRequest)
            assert request.partition_key == slot.partition
            told = f"{slot.at:%d %H:%M}" + (f" {slot.partition}" if slot.partition else "")
            found.setdefault(job.name, []).append(told)
    return found


def test_on_an_ordinary_day_every_job_runs_when_its_document_says() -> None:
    """The tables of jobs and schedules of monetization and credits, UTC; a Saturday."""
    found = asked("2025-11-21T23:59:59", "2025-11-22T23:59:59")
    assert found.pop("global_override_check") == [f"22 {hour:02}:00" for hour in range(24)]
    assert found == {
        "tier_expiration": ["22 00:15"],
        "discipline_stats_rollup": ["22 01:00"],
        "credit_expiry": ["22 02:00"],
        "trial_reminder": ["22 09:00"],
        "credit_expiry_warning": ["22 09:00"],
    }


def test_at_a_month_s_end_each_monthly_job_asks_for_its_month_once() -> None:
    found = asked("2025-08-30T12:00:00", "2025-09-01T12:00:00")
    assert found[JOB] == ["01 00:30 2025-09"], "the month that begins"
    assert found["monthly_stats_reset"] == ["01 00:05 2025-08"], "the month that is over"
    assert found["monthly_credits_reset"] == ["01 00:01 2025-09"], "the month that begins"
    assert found["promo_cleanup"] == ["31 02:00"], "a Sunday"
    assert found["tier_expiration"] == ["31 00:15", "01 00:15"]


def test_at_a_year_s_end_and_in_a_leap_year_no_month_is_skipped_or_asked_for_twice() -> None:
    found = asked("2025-12-31T00:00:00", "2026-01-01T23:00:00")
    assert found["monthly_stats_reset"] == ["01 00:05 2025-12"]
    assert found[JOB] == ["01 00:30 2026-01"]
    years = [
        slot.partition for slot in slots(monthly_stats_reset, at("2023-12-15"), at("2026-01-15"))
    ]
    assert len(years) == len(set(years)) == 25
    assert (years[0], years[2], years[-1]) == ("2023-12", "2024-02", "2025-12")
    nights = slots(tier_expiration, at("2024-02-28"), at("2024-03-02"))
    assert [f"{slot.at:%m-%d}" for slot in nights] == ["02-28", "02-29", "03-01"]


def test_of_a_job_as_of_now_only_the_last_moment_has_to_be_made_up_for() -> None:
    (night,) = due(tier_expiration, at("2025-11-01"), at("2025-11-20T12:00"))
    assert night.at == at("2025-11-20T00:15")
    months = due(monthly_stats_reset, at("2025-08-15"), at("2025-11-20"))
    assert [slot.partition for slot in months] == ["2025-08", "2025-09", "2025-10"]
    assert due(benefit_status_backfill, at("2025-11-02"), at("2025-11-20")) == []


@pytest.mark.parametrize(
    ("job", "moment", "now", "too_late"),
    [
        (trial_reminder, "2025-11-20T09:00", "2025-11-20T20:59", False),
        (trial_reminder, "2025-11-20T09:00", "2025-11-20T21:01", True),
        (credit_expiry_warning, "2025-11-20T09:00", "2025-11-21T08:00", True),
        (credit_expiry, "2025-11-20T02:00", "2025-12-20T08:00", False),
        (monthly_credits_reset, "2025-11-01T00:01", "2025-11-30T23:59", False),
        (monthly_credits_reset, "2025-11-01T00:01", "2025-12-01T00:00", True),
        (monthly_stats_reset, "2025-11-01T00:05", "2026-03-01T00:00", False),
    ],
)
def test_only_some_jobs_can_be_too_late(job: Job, moment: str, now: str, too_late: bool) -> None:
    assert deadline_passed(slot_at(job, at(moment)), at(now)) is too_late


def test_a_schedule_that_is_evaluated_too_late_asks_for_nothing() -> None:
    schedule = schedule_of(trial_reminder, clock=lambda: at("2025-11-20T22:00"))
    assert schedule is not None
    context = dg.build_schedule_context(scheduled_execution_time=at("2025-11-20T09:00"))
    assert isinstance(schedule(context), dg.SkipReason)


class World:
    """The benefits job under a clock of the test's: its schedule, the sensor, and Dagster."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.now = at("2025-07-20T12:00")
        self.runs: Counter[str] = Counter()
        self.switched_on = True

    def look(self) -> list[dg.RunRequest]:
        """One tick of the sensor; what it requests is carried out unless the test forbids it."""
        settings = Settings.load()
        with watch.book(settings) as storage:
            return missed.look(settings, self.instance, storage, self.now, {JOB: self.switched_on})

    def pass_(self, until: str, daemon: bool = True) -> None:
        """Lets time pass in steps of six minutes, the daemon at work or not."""
        schedule = schedule_of(benefit_status_backfill)
        assert schedule is not None
        while self.now < at(until):
            before, self.now = self.now, min(self.now + timedelta(minutes=6), at(until))
            if not daemon:
                self.now = at(until)
                return
            for slot in slots(benefit_status_backfill, before, self.now):
                context = dg.build_schedule_context(scheduled_execution_time=slot.at)
                request = schedule(context)
                assert isinstance(request, dg.RunRequest)
                self.run(request)
            for request in self.look():
                self.run(request)

    def run(self, request: dg.RunRequest) -> None:
        """Executes what was requested, as of the simulated moment."""
        from maintenance_pipelines.definitions import build

        assert request.partition_key is not None
        self.runs[request.partition_key] += 1
        build(Maintenance(clock=lambda: self.now)).resolve_job_def(JOB).execute_in_process(
            run_config=QUIET,
            instance=self.instance,
            partition_key=request.partition_key,
            tags={**request.tags, "dagster/sensor_name": "missed_runs"},
            raise_on_error=False,
        )


def told() -> list[str]:
    """The subjects of all messages in the book."""
    with watch.book(Settings.load()) as storage, storage.transaction() as connection:
        message = alert_book.message
        rows = connection.execute(message.select().order_by(message.c.id)).all()
        return [row.subject for row in rows]


def forget_alerts() -> None:
    """Empties the book, which all tests of a process share."""
    with watch.book(Settings.load()) as storage, storage.transaction() as connection:
        for table in reversed(alert_book.metadata.sorted_tables):
            connection.execute(table.delete())


@pytest.fixture
def world(settings: dict[str, str]) -> Iterator[World]:
    with instance_of(Settings.load()) as instance:
        forget_alerts()
        yield World(instance)


def test_a_daemon_that_was_down_is_made_up_for_once_and_by_its_months(world: World) -> None:
    world.look()
    world.now = at("2025-07-31T23:54")
    world.pass_("2025-08-01T02:00")
    assert world.runs == {"2025-08": 1}, "by its schedule, and by nobody else"
    world.pass_("2025-10-03T09:00", daemon=False)
    world.pass_("2025-10-03T10:00")
    assert world.runs == {"2025-08": 1, "2025-09": 1, "2025-10": 1}
    messages = told()
    for month in ("2025-09", "2025-10"):
        says = f"benefits: {JOB} {month} did not run when it should have"
        assert [each for each in messages if says in each] == [
            f"WARNING {says}",
            f"RECOVERED {says}",
        ]
    assert len(messages) == 4


def test_what_was_before_the_schedule_was_switched_on_was_not_missed(world: World) -> None:
    world.now = at("2025-08-15T12:00")
    world.pass_("2025-08-15T13:00")
    world.switched_on = False
    world.now = at("2025-09-15T12:00")
    world.look()
    world.switched_on = True
    world.pass_("2025-09-15T13:00")
    assert world.runs == {}
    assert told() == []


def test_a_month_that_is_held_by_a_rollback_is_left_to_a_person_and_told(
    world: World, app: App
) -> None:
    world.look()
    world.now = at("2025-08-01T00:30")
    world.run(dg.RunRequest(partition_key="2025-08"))
    app.sql("UPDATE maintenance.run SET state = 'rolled_back', held = true, as_of = '2025-07-31'")
    world.pass_("2025-08-01T02:00")
    assert world.runs == {"2025-08": 1}
    assert told() == [f"WARNING benefits: {JOB} 2025-08 was missed and is held"]


def test_what_is_asked_for_in_vain_is_asked_again_ever_later_and_then_told(world: World) -> None:
    world.look()
    requests = []
    world.now = at("2025-08-01T00:30")
    while world.now < at("2025-08-01T06:10"):
        world.now += timedelta(minutes=5)
        requests += [world.now for _ in world.look()]
    pauses = [(b - a) / timedelta(minutes=1) for a, b in pairwise(requests)]
    assert requests[0] == at("2025-08-01T00:45"), "after its grace, and not at the first sight"
    assert pauses == [5, 10, 20, 40, 80]
    assert told()[-1] == f"ERROR benefits: {JOB} 2025-08 does not run"


def test_a_run_that_is_queued_or_at_work_is_not_missed(world: World) -> None:
    world.look()
    world.now = at("2025-08-02T12:00")
    from maintenance_pipelines.definitions import build

    job = build(Maintenance()).resolve_job_def(JOB)
    run = world.instance.create_run_for_job(
        job, tags={"dagster/partition": "2025-08"}, status=dg.DagsterRunStatus.STARTED
    )
    for _ in range(3):
        assert world.look() == []
        world.now += timedelta(minutes=10)
    world.instance.report_run_failed(run, "killed")
    world.look()
    world.now += timedelta(minutes=10)
    (request,) = world.look()
    assert request.partition_key == "2025-08"


def test_a_dry_run_does_not_serve_a_schedule(world: World, app: App) -> None:
    world.look()
    world.now = at("2025-08-01T00:31")
    world.run(dg.RunRequest(partition_key="2025-08"))
    app.sql("UPDATE maintenance.run SET state = 'planned'")
    world.now = at("2025-08-01T01:00")
    world.look()
    world.now = at("2025-08-01T01:10")
    assert len(world.look()) == 1


def test_a_job_that_is_too_late_is_told_and_not_made_up_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(benefit_status_backfill), "running_month_only", True)
    world.look()
    world.now = at("2025-10-02T00:00")
    requests = [*world.look()]
    world.now = at("2025-10-02T00:10")
    requests += world.look()
    assert [each.partition_key for each in requests] == ["2025-10"]
    assert [each for each in told() if "cannot be made up for" in each] == [
        f"ERROR benefits: {JOB} {month} was missed and cannot be made up for"
        for month in ("2025-08", "2025-09")
    ]


class System:
    """All jobs of a system with a database, under a clock of the test's; Dagster is left out."""

    def __init__(self, instance: dg.DagsterInstance, jobs: Sequence[Job], app: Database) -> None:
        self.instance, self.jobs, self.app = instance, jobs, app
        self.now = at("2025-11-21T23:50")
        self.runs: list[tuple[str, str]] = []

    def pass_(self, until: str, daemon: bool = True, often: int = 10) -> None:
        """Lets time pass in steps of ten minutes, the daemon at work or not.

        `often` is after how many of an hour's minutes the sensor looks.
        """
        if not daemon:
            self.now = at(until)
        on = {job.name: True for job in self.jobs}
        with watch.book(Settings.load()) as storage:
            while self.now < at(until):
                before, self.now = self.now, self.now + timedelta(minutes=10)
                for job in self.jobs:
                    for slot in slots(job, before, self.now):
                        self.run(job, slot.partition)
                if self.now.minute % often:
                    continue
                for each in missed.look(Settings.load(), self.instance, storage, self.now, on):
                    assert each.job_name is not None
                    self.run(registry.JOBS[each.job_name], each.partition_key)

    def run(self, job: Job, partition: str | None) -> None:
        """Plans, applies and verifies."""
        run = plan(job, self.app, Scope(self.now, partition, job.options()), Request("ada"))
        if run.state == "planned":
            run, _ = apply(job, self.app, run, Order())
            run = verify(job, self.app, run).run
        assert run.state == "verified"
        self.runs.append((job.name, f"{self.now:%d %H:%M}"))

    def of(self, job: Job) -> list[str]:
        """When a job ran, as day and time."""
        return [when for name, when in self.runs if name == job.name]


@pytest.fixture
def monetization(
    settings: dict[str, str], app_database: Database, app_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[System]:
    with app_database.engine.begin() as connection:
        create_app_tables(connection, app_database.schema)
    monkeypatch.setenv("MONETIZATION_DATABASE_URL", app_url)
    jobs = [job for job in registry.JOBS.values() if job.system == "monetization"]
    with instance_of(Settings.load()) as instance:
        forget_alerts()
        yield System(instance, jobs, app_database)


def test_a_day_of_a_system_and_two_days_without_the_daemon(monetization: System) -> None:
    system = monetization
    system.pass_("2025-11-23T00:00", often=30)
    assert system.of(global_override_check) == [
        "22 00:00", *(f"22 {hour:02}:00" for hour in range(1, 24)), "23 00:00",
    ]  # fmt: skip
    assert system.of(tier_expiration) == ["22 00:20"], "the step after 00:15"
    assert system.of(discipline_stats_rollup) == ["22 01:00"]
    assert system.of(trial_reminder) == ["22 09:00"]
    assert system.of(promo_cleanup) == [], "it is Saturday"

    system.runs.clear()
    system.pass_("2025-11-25T08:10", daemon=False)
    system.pass_("2025-11-25T08:40")
    made_up = {name for name, _ in system.runs}
    assert made_up == {
        "global_override_check", "tier_expiration", "discipline_stats_rollup", "promo_cleanup",
    }, "the reminder of the 24th is more than twelve hours late"  # fmt: skip
    assert len(system.runs) == len(made_up), "each once, whatever it missed"
    system.pass_("2025-11-25T09:10")
    assert system.of(trial_reminder) == ["25 09:00"]
    late = [each for each in told() if "cannot be made up for" in each]
    assert late == ["ERROR monetization: trial_reminder was missed and cannot be made up for"]
