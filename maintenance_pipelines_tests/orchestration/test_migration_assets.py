"""The assets of the migration on real instances: what they write, check and refuse."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pytest

from maintenance_pipelines.definitions import build, defs
from maintenance_pipelines.orchestration import migration_assets, names
from maintenance_pipelines.orchestration.launching import instance_of
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems.cashback.declaration import cashback_migration
from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines.systems.cashback.verification import MUST_HOLD, WORTH_KNOWING
from maintenance_pipelines_tests.orchestration.lenders import MIGRATION, Lenders
from maintenance_pipelines_tests.orchestration.test_assets import QUIET, admin, sentence
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.lending import without

MISSING, BACKUP, MIGRATED, VERIFIED = (
    dg.AssetKey(["cashback", name])
    for name in (
        "missing_cashback_tables",
        "cashback_backup",
        "migrated_cashback_tables",
        "verified_cashback_tables",
    )
)
ALL_FOUR = (MISSING, BACKUP, MIGRATED, VERIFIED)
OLDER = ("user", "loan", "payment")


@pytest.fixture
def instance(lenders: Lenders) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance on PostgreSQL, as `dagster.yaml` has it."""
    with instance_of(Settings.load()) as running:
        yield running


class Materialize:
    """Materializes assets of an instance, as the UI does; a failure is a result."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance

    def __call__(
        self,
        assets: Sequence[dg.AssetKey] = ALL_FOUR,
        partition: str = "prod",
        tags: dict[str, str] | None = None,
        config: dict[dg.AssetKey, dict[str, Any]] | None = None,
    ) -> dg.ExecuteInProcessResult:
        ops = {"__".join(key.path): {"config": told} for key, told in (config or {}).items()}
        return (
            build(Maintenance())
            .resolve_job_def(MIGRATION)
            .execute_in_process(
                run_config={"ops": ops, **QUIET},
                instance=self.instance,
                partition_key=partition,
                asset_selection=list(assets),
                tags=tags,
                raise_on_error=False,
            )
        )


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Materialize:
    return Materialize(instance)


def metadata(
    result: dg.ExecuteInProcessResult, asset: dg.AssetKey, partition: str = "prod"
) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("__".join(asset.path))
    assert event.partition == partition
    return {name: entry.value for name, entry in event.metadata.items()}


def test_a_migration_is_four_assets_one_after_the_other_with_an_instance_a_partition() -> None:
    graph = defs.resolve_asset_graph()
    assert list(names.stages(cashback_migration).values()) == list(ALL_FOUR)
    for before, after in itertools.pairwise(ALL_FOUR):
        assert before in graph.get(after).parent_keys
    for key in ALL_FOUR:
        partitions = graph.get(key).partitions_def
        assert partitions is not None
        assert partitions.get_partition_keys() == ["prod", "dev", "testing"]
        assert graph.get(key).group_name == "cashback"
        assert graph.get(key).backfill_policy in (None, dg.BackfillPolicy.multi_run())


def test_one_run_at_a_time_and_only_what_must_hold_blocks() -> None:
    graph = defs.resolve_asset_graph()
    pools = [graph.get(key).pools for key in ALL_FOUR]
    assert pools == [set(), {"cashback"}, {"cashback"}, set()]
    found = {key: graph.get(key).blocking for key in graph.asset_check_keys}
    of_verified = {key.name: blocks for key, blocks in found.items() if key.asset_key == VERIFIED}
    assert of_verified == dict.fromkeys(MUST_HOLD, True) | dict.fromkeys(WORTH_KNOWING, False)
    assert found[dg.AssetCheckKey(MISSING, migration_assets.AS_DEFINED)]
    assert found[dg.AssetCheckKey(MISSING, "plan_within_expected_scope")]


def test_the_migration_is_a_dagster_job_without_a_schedule() -> None:
    tags = defs.resolve_job_def(MIGRATION).run_tags
    assert tags["dagster/max_runtime"] == "7200"
    schedules = {name for each in defs.schedules or [] if (name := each.name)}
    assert not any(MIGRATION in name for name in schedules)


@pytest.mark.parametrize("kind", ["wal", "postgres"])
def test_materializing_all_four_migrates_the_instance_and_counts_in_numbers(
    materialize: Materialize, lenders: Lenders, kind: str
) -> None:
    prod = lenders.add("prod", kind)
    before = prod.contents()
    result = materialize()
    assert result.success
    plan, backup, applied, proved = (metadata(result, key) for key in ALL_FOUR)
    assert without(prod.contents(), TABLES) == before
    assert set(TABLES) <= prod.tables()
    assert len({each["run_id"] for each in (plan, backup, applied, proved)}) == 1
    assert plan["report"].startswith("# cashback_migration prod: plan")
    assert plan["report"].count("CREATE TABLE ") == 6
    assert proved["report"].startswith("# cashback_migration prod: verified")
    assert (plan["planned"], plan["already_existed"], plan["differences"]) == (6, 0, 0)
    assert plan["rows"] == sum(map(len, before["rows"].values()))
    assert backup["backup"] == str(lenders.backups()[0])
    assert backup["bytes"] == lenders.backups()[0].stat().st_size
    assert (applied["applied"], proved["state"], proved["touched_since"]) == (6, "verified", 0)
    for numbers in (plan, backup, applied, proved):
        assert sum(isinstance(value, int | float) for value in numbers.values()) >= 4


@pytest.mark.long
def test_every_check_is_evaluated_also_where_there_is_nothing_to_do(
    materialize: Materialize, lenders: Lenders
) -> None:
    lenders.add()
    expected = {"plan_within_expected_scope", "existing_tables_as_defined", *MUST_HOLD}
    for _ in range(2):
        result = materialize()
        assert result.success
        found = {check.check_name: check for check in result.get_asset_check_evaluations()}
        assert set(found) == expected | set(WORTH_KNOWING)
        assert all(check.passed for check in found.values())
    assert metadata(result, MISSING)["planned"] == 0
    assert metadata(result, BACKUP)["bytes"] == 0
    assert len(lenders.backups()) == 1


def test_materializing_only_the_first_asset_is_the_dry_run(
    materialize: Materialize, lenders: Lenders
) -> None:
    prod = lenders.add("prod", "wal")
    before = prod.files()
    result = materialize([MISSING])
    assert metadata(result, MISSING)["state"] == "planned"
    assert prod.files() == before
    assert lenders.backups() == []


@pytest.mark.long
def test_without_a_backup_nothing_is_created(materialize: Materialize, lenders: Lenders) -> None:
    prod = lenders.add()
    before = prod.contents()
    assert "There is no plan" in sentence(materialize([MIGRATED]))
    materialize([MISSING])
    assert "has no verified backup" in sentence(materialize([MIGRATED]))
    assert prod.contents() == before
    assert materialize([BACKUP]).success
    assert materialize([MIGRATED]).success
    assert materialize([VERIFIED]).success


@pytest.mark.long
def test_a_backup_that_fails_keeps_everything_after_it_from_happening(
    materialize: Materialize, lenders: Lenders
) -> None:
    prod = lenders.add()
    before = prod.contents()
    lenders.home.mkdir(exist_ok=True)
    (lenders.home / "backups").write_text("in the way")
    result = materialize()
    assert "Backups cannot be written" in sentence(result)
    assert prod.contents() == before


@pytest.mark.parametrize(
    ("tables", "statement", "says"),
    [
        (OLDER, None, "table daily_tracker does not exist"),
        (
            (*app_models.BEFORE, *TABLES),
            "ALTER TABLE cashback_transaction DROP COLUMN user_notes",
            "cashback_transaction has no column user_notes",
        ),
        (
            app_models.BEFORE,
            "CREATE VIEW tracker_entry AS SELECT 1 AS id",
            "tracker_entry is a view",
        ),
    ],
)
def test_an_unfit_instance_is_reported_fails_the_check_and_is_left_alone(
    materialize: Materialize,
    lenders: Lenders,
    tables: Sequence[str],
    statement: str | None,
    says: str,
) -> None:
    prod = lenders.add("prod", "delete", tables)
    if statement:
        prod.execute(statement)
    before = prod.files()
    result = materialize()
    assert not result.success
    assert says in sentence(result)
    shown = metadata(result, MISSING)
    assert says in shown["report"]
    assert shown["differences"] + shown["lacking"] == 1
    failed = {c.check_name for c in result.get_asset_check_evaluations() if not c.passed}
    assert "existing_tables_as_defined" in failed
    assert prod.files() == before
    assert lenders.backups() == []


def test_an_instance_without_an_address_refuses_by_its_variable(
    materialize: Materialize, lenders: Lenders
) -> None:
    lenders.add("prod")
    result = materialize(partition="dev")
    assert "CASHBACK_DEV_DATABASE_URL is not set" in sentence(result)


@pytest.mark.long
def test_a_check_that_does_not_hold_any_more_fails_the_verification(
    materialize: Materialize, lenders: Lenders
) -> None:
    prod = lenders.add()
    materialize()
    prod.execute("DROP TABLE cashback_redemption")
    result = materialize([VERIFIED])
    assert "nothing_left_missing" in sentence(result)
    failed = {c.check_name for c in result.get_asset_check_evaluations() if not c.passed}
    assert failed == {"nothing_left_missing"}


@pytest.mark.long
def test_rows_that_the_application_has_written_since_are_a_warning_and_no_failure(
    materialize: Materialize, lenders: Lenders
) -> None:
    prod = lenders.add()
    materialize()
    prod.execute(
        "INSERT INTO user_payment_method (user_id, payment_type) SELECT id, 'upi' FROM user LIMIT 1"
    )
    result = materialize([VERIFIED])
    assert result.success
    assert metadata(result, VERIFIED)["touched_since"] == 1


def test_a_rollback_from_the_ui_holds_the_instance_for_what_no_person_starts(
    materialize: Materialize, instance: dg.DagsterInstance, lenders: Lenders
) -> None:
    prod = lenders.add()
    before = prod.contents()
    run = metadata(materialize(), VERIFIED)["run_id"]
    prod.execute(
        "INSERT INTO user_payment_method (user_id, payment_type) SELECT id, 'upi' FROM user LIMIT 1"
    )
    refused = admin(instance, "rollback", "roll_back_run", {"run": run})
    assert "hold rows by now" in sentence(refused)
    planned = {"run": run, "plan_only": True}
    assert admin(instance, "rollback", "roll_back_run", planned).success
    forced = {"run": run, "force": True}
    assert admin(instance, "rollback", "roll_back_run", forced).success
    assert prod.contents() == before
    scheduled = materialize(tags={"dagster/sensor_name": "somebody"})
    assert "is held" in sentence(scheduled)
    assert materialize().success


@pytest.mark.long
def test_a_run_that_was_killed_is_finished_by_the_next_one(
    materialize: Materialize, lenders: Lenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    prod = lenders.add()
    before = prod.contents()
    with monkeypatch.context() as patch:
        patch.setattr(type(prod.instance), "execute", lambda *_: 1 / 0)
        broken = materialize()
    assert not broken.success
    assert prod.contents() == before
    first = metadata(broken, MISSING)["run_id"]
    again = materialize()
    assert again.success
    assert metadata(again, VERIFIED)["run_id"] == first
