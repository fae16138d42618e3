"""The assets on a real database and a real instance: what they write, check and refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pytest

from maintenance_pipelines.definitions import build
from maintenance_pipelines.orchestration import progress
from maintenance_pipelines.orchestration.launching import instance_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.settings import Settings
from maintenance_pipelines_tests.orchestration.household import JOB, MONTH, App
from maintenance_pipelines_tests.orchestration.test_definitions import (
    BACKFILLED,
    BLOCKING,
    MISSING,
    VERIFIED,
    WARNINGS,
)

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def instance(settings: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance on PostgreSQL, as `dagster.yaml` has it."""
    with instance_of(Settings.load()) as running:
        yield running


class Materialize:
    """Materializes assets of the month, as the UI does; a failure is a result."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance

    def __call__(
        self,
        assets: Sequence[dg.AssetKey] = (MISSING, BACKFILLED, VERIFIED),
        tags: dict[str, str] | None = None,
        **config: dict[str, Any],
    ) -> dg.ExecuteInProcessResult:
        ops = {
            "__".join(key.path): {"config": config[name]}
            for key, name in (
                (MISSING, "detection"),
                (BACKFILLED, "materialization"),
                (VERIFIED, "verification"),
            )
            if name in config
        }
        return (
            build(Maintenance())
            .resolve_job_def(JOB)
            .execute_in_process(
                run_config={"ops": ops, **QUIET},
                instance=self.instance,
                partition_key=MONTH,
                asset_selection=list(assets),
                tags=tags,
                raise_on_error=False,
            )
        )


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Materialize:
    return Materialize(instance)


def metadata(result: dg.ExecuteInProcessResult, asset: dg.AssetKey) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("__".join(asset.path))
    assert event.partition == MONTH
    return {name: entry.value for name, entry in event.metadata.items()}


def sentence(result: dg.ExecuteInProcessResult) -> str:
    """Why the run failed, as the UI shows it."""
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data
    assert data.user_failure_data is not None, data.error
    return str(data.user_failure_data.description)


def test_materializing_all_three_backfills_the_month(materialize: Materialize, app: App) -> None:
    rows, _ = app.statuses()
    result = materialize()
    assert result.success
    plan, applied, proved = (metadata(result, key) for key in (MISSING, BACKFILLED, VERIFIED))
    assert app.statuses()[0] == rows + plan["planned"]
    assert plan["report"].startswith(f"# {JOB} {MONTH}: plan")
    assert proved["report"].startswith(f"# {JOB} {MONTH}: verified")
    assert plan["run_id"] == applied["run_id"] == proved["run_id"]
    assert proved["state"] == "verified"
    assert {"skipped", "conflicts", "failed", "appeared_since", "touched_since"} <= set(proved)
    for name in ("planned", "excluded/already_present"):
        assert isinstance(plan[name], int)
    for name in ("applied", "rows_per_second", "seconds"):
        assert isinstance(applied[name], int | float)


def test_every_check_is_evaluated_for_the_partition(
    materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    found = {e.check_name: e for e in materialize().get_asset_check_evaluations()}
    assert set(found) == {"plan_within_expected_scope"} | BLOCKING | WARNINGS
    assert all(each.passed for each in found.values())
    for name, each in found.items():
        warning = name in WARNINGS
        assert each.severity == (
            dg.AssetCheckSeverity.WARN if warning else dg.AssetCheckSeverity.ERROR
        )
    record = instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(VERIFIED, "no_duplicate")
    )
    assert record is not None


def test_materializing_only_the_first_asset_is_the_dry_run(
    materialize: Materialize, app: App
) -> None:
    before = app.statuses()
    result = materialize([MISSING])
    assert result.success
    assert metadata(result, MISSING)["state"] == "planned"
    assert app.statuses() == before


def test_a_plan_outside_its_scope_fails_the_run_and_nothing_is_applied(
    materialize: Materialize, app: App
) -> None:
    before = app.statuses()
    result = materialize(detection={"expected_rows_max": 5})
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.blocking) == (
        "plan_within_expected_scope", False, True,
    )  # fmt: skip
    assert "expected were any number to 5" in sentence(result)
    assert app.statuses() == before

    alone = materialize([BACKFILLED])
    assert not alone.success
    assert "expected" in sentence(alone)
    assert app.statuses() == before


def test_the_second_asset_alone_applies_the_newest_plan_and_without_one_refuses(
    materialize: Materialize, app: App
) -> None:
    assert "There is no plan" in sentence(materialize([BACKFILLED]))
    materialize([MISSING])
    plan = metadata(materialize([MISSING]), MISSING)
    applied = metadata(materialize([BACKFILLED]), BACKFILLED)
    assert (applied["run_id"], applied["state"]) == (plan["run_id"], "applied")
    proved = metadata(materialize([VERIFIED]), VERIFIED)
    assert (proved["run_id"], proved["state"]) == (plan["run_id"], "verified")


def test_a_rule_that_is_broken_fails_the_run(materialize: Materialize, app: App) -> None:
    materialize([MISSING, BACKFILLED])
    app.sql(
        'INSERT INTO "BenefitStatus" (id, "benefitId", "userId", "cycleStartDate",'
        ' "cycleEndDate", "createdAt", "updatedAt", "occurrenceIndex") '
        'SELECT \'planted\', "benefitId", "userId", "cycleStartDate" + interval \'7 hours\','
        " \"cycleEndDate\", '2025-08-02', '2025-08-02', \"occurrenceIndex\""
        ' FROM "BenefitStatus" ORDER BY "createdAt" DESC LIMIT 1'
    )
    result = materialize([VERIFIED])
    assert not result.success
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert failed == ["no_overlapping_cycle"]
    assert "no_overlapping_cycle" in sentence(result)
    assert metadata(result, VERIFIED)["state"] == "failed"


def test_what_users_did_since_is_a_warning_and_no_failure(
    materialize: Materialize, app: App
) -> None:
    materialize([MISSING, BACKFILLED])
    app.sql(
        'UPDATE "BenefitStatus" SET "isCompleted" = true'
        ' WHERE id = (SELECT id FROM "BenefitStatus" ORDER BY "createdAt" DESC LIMIT 1)'
    )
    result = materialize([VERIFIED])
    assert result.success
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert failed == ["touched_since"]
    assert metadata(result, VERIFIED)["touched_since"] == 1


def test_a_rehearsal_materializes_nothing_and_the_proof_is_skipped(
    materialize: Materialize, app: App
) -> None:
    before = app.statuses()
    result = materialize(materialization={"rehearse": True})
    assert result.success
    assert result.asset_materializations_for_node("__".join(BACKFILLED.path)) == []
    assert result.asset_materializations_for_node("__".join(VERIFIED.path)) == []
    assert app.statuses() == before


def test_a_run_that_ends_partial_is_verified_and_fails_with_one_sentence(
    materialize: Materialize, app: App
) -> None:
    plan = metadata(materialize([MISSING]), MISSING)
    user = app.sql(f'SELECT min("new_userId") FROM maintenance.plan_{plan["run_id"]}')[0][0]
    app.sql(
        'ALTER TABLE "BenefitStatus" ADD CONSTRAINT planted '
        f"CHECK (\"userId\" <> '{user}' OR \"createdAt\" < '2025-12-01') NOT VALID"
    )
    result = materialize([BACKFILLED, VERIFIED], materialization={"plan": plan["run_id"]})
    assert not result.success
    assert f"Run {plan['run_id']} is partial:" in sentence(result)
    proved = metadata(result, VERIFIED)
    assert proved["failed"] > 0
    assert proved["applied"] + proved["failed"] == plan["planned"]

    again = materialize([BACKFILLED], materialization={"plan": plan["run_id"]})
    assert "is partial" in sentence(again)


def test_a_failing_row_s_values_are_not_in_dagster_s_log(
    materialize: Materialize, app: App, dagster_url: str
) -> None:
    plan = metadata(materialize([MISSING]), MISSING)
    app.sql(f'ALTER TABLE maintenance.plan_{plan["run_id"]} DROP COLUMN "new_userId"')
    result = materialize([BACKFILLED])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "[SQL:" not in str(failure)


def test_a_rollback_holds_the_month_for_schedules_until_a_person_runs_it(
    materialize: Materialize, instance: dg.DagsterInstance, app: App
) -> None:
    before = app.statuses()
    run = metadata(materialize(), VERIFIED)["run_id"]
    undone = admin(instance, "rollback", "roll_back_run", {"run": run})
    assert undone.success
    assert app.statuses() == before

    scheduled = materialize(tags={"dagster/schedule_name": f"{JOB}_schedule"})
    assert "is held" in sentence(scheduled)
    assert app.statuses() == before
    assert materialize().success


def test_a_rollback_from_the_ui_can_be_planned_only(
    materialize: Materialize, instance: dg.DagsterInstance, app: App
) -> None:
    run = metadata(materialize(), VERIFIED)["run_id"]
    filled = app.statuses()
    shown = admin(instance, "rollback", "roll_back_run", {"run": run, "plan_only": True})
    assert shown.success
    assert app.statuses() == filled
    refused = admin(instance, "rollback", "roll_back_run", {"run": "beef"})
    assert "There is no run beef" in sentence(refused)


def test_a_plan_is_approved_from_the_ui_by_who_launched_the_approval(
    materialize: Materialize,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    app: App,
) -> None:
    monkeypatch.delenv("MAINTENANCE_OPERATOR")
    monkeypatch.setenv("BENEFITS_APPROVAL_ABOVE", "10")
    refused = materialize(tags={"maintenance/operator": "ada"})
    run = metadata(refused, MISSING)["run_id"]
    assert "approve" in sentence(refused)

    own = admin(instance, "approve", "approve_plan", {"run": run}, {"user": "ada"})
    assert "ada" in sentence(own)
    assert admin(instance, "approve", "approve_plan", {"run": run}, {"user": "grace"}).success
    assert materialize([BACKFILLED, VERIFIED]).success
    assert app.sql("SELECT planned_by, approved_by FROM maintenance.run") == [("ada", "grace")]


def test_progress_is_seen_in_the_middle_of_a_step(
    materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setenv("MAINTENANCE_BATCH_ROWS", "100")
    monkeypatch.setenv("MAINTENANCE_GRANULE_ROWS", "100")
    result = materialize()
    seen = [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
    ]
    assert len(seen) >= 3
    assert all(each.asset_key == BACKFILLED and each.partition == MONTH for each in seen)
    done = [int(str(each.metadata["rows_done"].value)) for each in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].metadata["rows_planned"].value


def test_a_person_is_shown_in_both_reports_without_a_name(
    materialize: Materialize, app: App
) -> None:
    email = app.sql('SELECT email FROM "User" ORDER BY id')[0][0]
    result = materialize(detection={"subject": email}, verification={"subject": email})
    for key, when in ((MISSING, "before"), (VERIFIED, "after")):
        report = metadata(result, key)["report"]
        assert f"The person asked for, {when}" in report
        assert email not in report


def admin(
    instance: dg.DagsterInstance,
    job: str,
    op: str,
    config: dict[str, Any],
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """One of the administrative Dagster jobs, launched as from the UI."""
    return (
        build(Maintenance())
        .resolve_job_def(job)
        .execute_in_process(
            run_config={"ops": {op: {"config": config}}, **QUIET},
            instance=instance,
            tags=tags,
            raise_on_error=False,
        )
    )
