"""The watches, on real runs of a real instance: what is off is told once, and its end."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.orchestration import pace, watch
from maintenance_pipelines.orchestration.launching import PROCESS, instance_of
from maintenance_pipelines.orchestration.workers import announce_process
from maintenance_pipelines.settings import Settings
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import (
    JOB,
    MONTH,
    App,
    command,
    environment,
    wait_for_batches,
)
from maintenance_pipelines_tests.support.channels import webhook

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
RUN = ("run", JOB, "--partition", MONTH, "--json")


DRY_RUN = ("plan", JOB, "--partition", MONTH, "--json")
REFUSED = (*DRY_RUN, "--expected-rows", "1..2")


class Watcher:
    """Looks when a test says so, and knows what news each look brought."""

    def __init__(self, instance: dg.DagsterInstance, storage: Database) -> None:
        self.instance, self.storage, self.told = instance, storage, 0

    def __call__(self, later: timedelta = timedelta(0)) -> list[str]:
        """The subjects of what is new, in order."""
        now = datetime.now(UTC) + later
        watch.look(Settings.load(), self.instance, self.storage, now)
        return [row.subject for row in self.messages()]

    def messages(self) -> list[sa.Row[tuple[object, ...]]]:
        """What is new since the last time."""
        message = alert_book.message
        with self.storage.transaction() as connection:
            new = message.select().where(message.c.id > self.told).order_by(message.c.id)
            found = list(connection.execute(new).all())
        self.told = max([self.told, *(row.id for row in found)])
        return found

    def body(self) -> str:
        """The whole text of the newest message."""
        with self.storage.transaction() as connection:
            newest = sa.select(alert_book.message.c.body).order_by(alert_book.message.c.id.desc())
            return str(connection.scalars(newest.limit(1)).one())

    def open(self) -> list[str]:
        """What is off at present."""
        with self.storage.transaction() as connection:
            return [each.key for each in alert_book.open_causes(connection)]


@pytest.fixture
def instance(settings: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with instance_of(Settings.load()) as running:
        yield running


@pytest.fixture
def look(instance: dg.DagsterInstance, settings: dict[str, str]) -> Iterator[Watcher]:
    """A watcher with an empty book, that has looked once, on an instance without any run."""
    instance.run_storage.wipe()
    with watch.book(Settings.load()) as storage:
        with storage.transaction() as connection:
            for table in reversed(alert_book.metadata.sorted_tables):
                connection.execute(table.delete())
        watcher = Watcher(instance, storage)
        watcher()
        watcher.messages()
        yield watcher


def test_a_run_that_was_refused_is_told_once_and_its_recovery_too(
    look: Watcher, terminal: Terminal
) -> None:
    assert terminal(*REFUSED).code == 1
    assert look() == [f"ERROR benefits: {JOB} {MONTH} has failed"]
    body = look.body()
    assert "expected were 1 to 2" in body
    assert "plan_within_expected_scope" in body
    assert "What was written: Nothing was written." in body
    assert "Next: ./maintenance runs" in body
    assert look() == []
    assert terminal(*RUN).code == 0
    assert look() == [f"RECOVERED benefits: {JOB} {MONTH} has failed"]
    assert look.open() == []


@pytest.mark.long
def test_a_failure_and_a_success_between_two_looks_are_both_told(
    look: Watcher, terminal: Terminal
) -> None:
    terminal(*REFUSED)
    terminal(*DRY_RUN)
    assert [each.split()[0] for each in look()] == ["ERROR", "RECOVERED"]


def test_a_partial_run_is_one_alert_with_what_was_and_was_not_written(
    look: Watcher, terminal: Terminal, app: App
) -> None:
    run = terminal("plan", JOB, "--partition", MONTH, "--json").json["run_id"]
    user = app.sql(f'SELECT min("new_userId") FROM maintenance.plan_{run}')[0][0]
    app.sql(
        'ALTER TABLE "BenefitStatus" ADD CONSTRAINT planted '
        f"CHECK (\"userId\" <> '{user}' OR \"createdAt\" < '2025-12-01') NOT VALID"
    )
    came = terminal("apply", run, "--json").json
    assert look() == [f"ERROR benefits: {JOB} {MONTH} is partial"]
    body = look.body()
    assert f"{came['applied']:,} of {came['planned']:,} planned rows were written" in body
    assert f"{came['failed']:,} failed and were not" in body
    assert f"./maintenance resume {run[:8]}" in body
    assert user not in body
    app.sql('ALTER TABLE "BenefitStatus" DROP CONSTRAINT planted')
    assert terminal("resume", run).code == 0
    assert f"RECOVERED benefits: {JOB} {MONTH} is partial" in look()


def test_a_blocking_check_that_fails_is_told_as_the_failed_run(
    look: Watcher, terminal: Terminal, app: App
) -> None:
    terminal(*RUN)
    app.sql(
        'INSERT INTO "BenefitStatus" (id, "benefitId", "userId", "cycleStartDate",'
        ' "cycleEndDate", "createdAt", "updatedAt", "occurrenceIndex") '
        'SELECT \'planted\', "benefitId", "userId", "cycleStartDate" + interval \'7 hours\','
        " \"cycleEndDate\", '2025-08-02', '2025-08-02', \"occurrenceIndex\""
        ' FROM "BenefitStatus" ORDER BY "createdAt" DESC LIMIT 1'
    )
    look()
    assert terminal("verify", JOB, "--partition", MONTH).code == 1
    assert look() == [f"ERROR benefits: {JOB} {MONTH} has failed"]
    assert "no_overlapping_cycle" in look.body()
    app.sql("DELETE FROM \"BenefitStatus\" WHERE id = 'planted'")
    assert terminal("verify", JOB, "--partition", MONTH).code == 0
    assert look() == [f"RECOVERED benefits: {JOB} {MONTH} has failed"]


@pytest.mark.long
def test_numbers_of_live_traffic_are_a_note_and_nothing_stays_open(
    look: Watcher, terminal: Terminal, app: App
) -> None:
    terminal(*RUN)
    app.sql(
        'UPDATE "BenefitStatus" SET "isCompleted" = true'
        ' WHERE id = (SELECT id FROM "BenefitStatus" ORDER BY "createdAt" DESC LIMIT 1)'
    )
    look()
    terminal("verify", JOB, "--partition", MONTH)
    assert look() == [f"NOTE benefits: {JOB} {MONTH}: the app went on meanwhile"]
    assert "touched_since: 1 applied rows" in look.body()
    assert look.open() == []


@pytest.mark.parametrize("breaks", ["returns", "raises"])
def test_a_check_that_fails_or_raises_is_never_silence(
    look: Watcher, instance: dg.DagsterInstance, breaks: str
) -> None:
    good = False

    @dg.asset(key=["elsewhere", "numbers"])
    def numbers() -> None:
        """An asset of somebody else's."""

    @dg.asset_check(asset=numbers, name=f"adds_up_{breaks}", blocking=False)
    def adds_up() -> dg.AssetCheckResult:
        if breaks == "raises" and not good:
            raise ValueError("SELECT 'ada@example.com'")
        return dg.AssetCheckResult(passed=good, description="3 rows are too many")

    job = dg.Definitions(
        assets=[numbers],
        asset_checks=[adds_up],
        jobs=[dg.define_asset_job(f"counting_{breaks}", selection="*")],
        executor=dg.in_process_executor,
    ).resolve_job_def(f"counting_{breaks}")
    job.execute_in_process(run_config=QUIET, instance=instance, raise_on_error=False)
    (told,) = look()
    assert told.startswith("ERROR maintenance: counting")
    assert f"adds_up_{breaks}" in look.body()
    says = "could not be evaluated" if breaks == "raises" else "3 rows are too many"
    assert says in look.body()
    assert "ada@" not in look.body()
    good = True
    job.execute_in_process(run_config=QUIET, instance=instance)
    (over,) = look()
    assert over.startswith("RECOVERED")


def test_a_paused_run_and_a_held_partition_are_told_and_recover(
    look: Watcher, terminal: Terminal, app: App
) -> None:
    run = terminal(*RUN).json["run_id"]
    app.sql(f"UPDATE maintenance.run SET state = 'paused' WHERE id = '{run}'")
    assert look() == [f"WARNING benefits: {JOB} {MONTH} is paused"]
    app.sql(f"UPDATE maintenance.run SET state = 'verified' WHERE id = '{run}'")
    assert look() == [f"RECOVERED benefits: {JOB} {MONTH} is paused"]
    assert terminal("rollback", run).code == 0
    assert look() == [f"WARNING benefits: {JOB} {MONTH} is held since its rollback"]
    assert terminal(*RUN).code == 0
    assert f"RECOVERED benefits: {JOB} {MONTH} is held since its rollback" in look()


@pytest.mark.long
def test_a_plan_that_waits_for_approval_is_told_and_not_as_a_failure(
    look: Watcher, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENEFITS_APPROVAL_ABOVE", "10")
    run = terminal(*RUN).json["run_id"]
    assert look() == [f"WARNING benefits: {JOB} {MONTH} waits for approval"]
    assert f"./maintenance approve {run[:8]}" in look.body()
    monkeypatch.setenv("MAINTENANCE_OPERATOR", "grace")
    terminal("approve", run)
    assert look() == [f"RECOVERED benefits: {JOB} {MONTH} waits for approval"]


@pytest.mark.long
def test_more_conflicts_than_usual_are_told(
    look: Watcher, terminal: Terminal, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = terminal("plan", JOB, "--partition", MONTH, "--json").json["run_id"]
    gone = app.sql(f'SELECT min("new_benefitId") FROM maintenance.plan_{run}')[0][0]
    app.sql(f"DELETE FROM \"Benefit\" WHERE id = '{gone}'")
    came = terminal("apply", run, "--json").json
    assert came["conflicts"] > 0
    assert [each for each in look() if "conflicts" in each] == [], "a few are usual"
    monkeypatch.setenv("BENEFITS_ALERTS_CONFLICTS", "0")
    assert look() == [f"WARNING benefits: {JOB} {MONTH} met {came['conflicts']} conflicts"]


def test_a_killed_worker_is_noticed_shown_as_failed_told_and_the_next_run_finishes(
    look: Watcher,
    instance: dg.DagsterInstance,
    terminal: Terminal,
    settings: dict[str, str],
    app: App,
) -> None:
    rows, _ = app.statuses()
    slow = {"MAINTENANCE_BATCH_ROWS": "1", "MAINTENANCE_GRANULE_ROWS": "1"}
    worker = subprocess.Popen(
        command(*RUN),
        env=environment(settings | slow),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_batches(app, 20)
    (started,) = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    assert started.dagster_run.tags[PROCESS]
    assert look() == [], "it is at work"
    assert look(timedelta(minutes=6)) == [f"WARNING benefits: {JOB} takes longer than 5 min"]
    worker.send_signal(signal.SIGKILL)
    worker.wait()

    assert look() == [f"ERROR benefits: {JOB} {MONTH} is interrupted"]
    assert "planned rows were written" in look.body()
    assert "have not been tried" in look.body()
    ended = instance.get_run_by_id(started.dagster_run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
    came = terminal(*RUN).json
    assert came["state"] == "verified"
    assert app.statuses()[0] == rows + came["applied"]
    assert {each.split()[0] for each in look()} == {"RECOVERED"}
    assert look.open() == []


def test_a_run_that_the_daemon_launches_says_which_process_works_on_it(
    instance: dg.DagsterInstance,
) -> None:
    @dg.job
    def working() -> None:
        """Nothing, but it is a run."""

    done = working.execute_in_process(run_config=QUIET, instance=instance)
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    announce_process(instance, run)
    again = instance.get_run_by_id(done.run_id)
    assert again is not None
    assert again.tags[PROCESS]


@pytest.mark.long
def test_a_run_that_goes_on_with_the_work_of_a_dead_one_is_not_taken_for_dead_itself(
    look: Watcher, instance: dg.DagsterInstance, terminal: Terminal, app: App
) -> None:
    """It names itself in the ledger a moment before it takes the work over."""
    run = terminal(*DRY_RUN).json["run_id"]
    app.sql(
        "UPDATE maintenance.run SET state = 'applying', owner = 'elsewhere|1|1|beef',"
        f" heartbeat_at = now() - interval '1 hour' WHERE id = '{run}'"
    )

    @dg.job
    def working() -> None:
        """Nothing, but it is a run."""

    alive = instance.create_run_for_job(working, status=dg.DagsterRunStatus.STARTED)
    announce_process(instance, alive)
    dead = instance.create_run_for_job(
        working,
        status=dg.DagsterRunStatus.STARTED,
        tags={PROCESS: "elsewhere|1|1|f00d"},
    )
    app.sql(f"UPDATE maintenance.run SET dagster_run_id = '{alive.run_id}' WHERE id = '{run}'")
    look()
    statuses = [instance.get_run_by_id(each.run_id) for each in (alive, dead)]
    assert [each.status for each in statuses if each] == [
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.FAILURE,
    ]


def test_a_run_that_took_too_long_is_told_until_one_is_quick_again(
    look: Watcher, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "USUAL_LIMIT", timedelta(milliseconds=1))
    terminal(*DRY_RUN)
    assert f"WARNING benefits: {JOB} takes longer than 0 s" in look()
    monkeypatch.setattr(pace, "USUAL_LIMIT", timedelta(minutes=5))
    terminal(*DRY_RUN)
    assert f"RECOVERED benefits: {JOB} takes longer than 0 s" in look()


def test_a_job_that_fails_too_often_is_told_and_is_over_after_a_day(
    look: Watcher, terminal: Terminal
) -> None:
    for _ in range(2):
        terminal(*REFUSED)
    assert f"ERROR benefits: {JOB} fails too often" in look()
    assert f"rate/benefits/{JOB}" in look.open()
    assert f"RECOVERED benefits: {JOB} fails too often" in look(timedelta(hours=25))


def test_a_database_that_is_down_is_told_and_leaves_what_was_known(
    look: Watcher,
    terminal: Terminal,
    app: App,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = terminal(*DRY_RUN).json["run_id"]
    app.sql(f"UPDATE maintenance.run SET state = 'paused' WHERE id = '{run}'")
    look()
    monkeypatch.setenv(
        "BENEFITS_DATABASE_URL", "postgresql://app:hunter2@127.0.0.1:1/ada?connect_timeout=1"
    )
    assert look() == ["ERROR benefits: its database cannot be asked"]
    assert "hunter2" not in look.body()
    assert f"ledger/benefits/{JOB}/{MONTH}" in look.open(), "nobody knows whether it is over"
    assert look() == []
    monkeypatch.setenv("BENEFITS_DATABASE_URL", settings["BENEFITS_DATABASE_URL"])
    assert look() == ["RECOVERED benefits: its database cannot be asked"]


def test_a_watch_that_fails_is_told_and_the_others_look_on(
    look: Watcher, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("ada@example.com")

    with monkeypatch.context() as broken:
        broken.setattr(pace, "watch", fails)
        terminal(*REFUSED)
        news = look()
    assert f"ERROR benefits: {JOB} {MONTH} has failed" in news
    assert "ERROR maintenance: the watch over pace has failed" in news
    assert "ada@" not in look.body()
    assert "RECOVERED maintenance: the watch over pace has failed" in look()


@pytest.mark.long
def test_operators_are_told_of_completion_where_they_want_to_be(
    look: Watcher, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(*DRY_RUN)
    assert look() == []
    monkeypatch.setenv("BENEFITS_COMPLETIONS", "on")
    terminal(*DRY_RUN)
    assert look() == [f"NOTE benefits: {JOB} {MONTH} is done"]


def test_from_a_failed_run_to_the_channel_without_a_secret(
    look: Watcher, terminal: Terminal, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = app.sql('SELECT email FROM "User" ORDER BY id')[0][0]
    monkeypatch.setenv("MAINTENANCE_UI_URL", "https://dagster.example.com/")
    with webhook() as hook:
        monkeypatch.setenv("BENEFITS_ALERTS_ERRORS", hook.address)
        terminal(*REFUSED, "--user", email)
        look()
        came = watch.tell(Settings.load(), look.storage, lambda: datetime.now(UTC))
        assert (came.told, came.failed) == (1, 0)
        (told,) = hook.received
    assert "See: https://dagster.example.com/runs/" in told["message"]
    assert email not in str(told)
