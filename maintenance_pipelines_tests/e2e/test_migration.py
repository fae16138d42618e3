"""The migration as a whole: a backfill over instances in the UI, and commands that are killed."""

from __future__ import annotations

import random
import subprocess
import time

import pytest

from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines_tests.e2e.test_ui import BACKFILL, Ui, materializations, ui, wait_for
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import command, environment
from maintenance_pipelines_tests.orchestration.lenders import MIGRATION, Lenders
from maintenance_pipelines_tests.orchestration.test_migration_assets import ALL_FOUR, VERIFIED
from maintenance_pipelines_tests.systems.cashback.lending import without

__all__ = ["ui"]

RUN = ("run", MIGRATION, "--partition", "prod", "--json")
KILLS = 8


@pytest.fixture
def instances(lenders: Lenders) -> Lenders:
    """Two instances, of either kind, with an address before anything is started."""
    lenders.add("prod", "wal")
    lenders.add("dev", "postgres")
    return lenders


@pytest.mark.long
def test_a_backfill_over_all_instances_launched_from_the_ui_migrates_each(
    instances: Lenders, ui: Ui
) -> None:
    names = list(instances.made)
    begun = ui.ask(
        BACKFILL,
        params={
            "assetSelection": [{"path": list(key.path)} for key in ALL_FOUR],
            "partitionNames": names,
        },
    )["launchPartitionBackfill"]
    assert begun["__typename"] == "LaunchBackfillSuccess", begun
    verified = VERIFIED.path[-1]
    wait_for(lambda: set(materializations(ui, verified, names, "cashback")) == set(names))
    proved = materializations(ui, verified, names, "cashback")
    assert {name: each["state"] for name, each in proved.items()} == dict.fromkeys(
        names, "verified"
    )
    assert all(each["applied"] == 6 for each in proved.values())
    for lending in instances.made.values():
        assert set(TABLES) <= lending.tables()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["delete", "postgres"])
def test_a_command_that_is_killed_again_and_again_leaves_nothing_half_done(
    shell: Terminal, lenders: Lenders, kind: str
) -> None:
    prod = lenders.add("prod", kind)
    before = prod.contents()
    chance = random.Random(kind)
    begun = time.monotonic()
    done = subprocess.run(command(*RUN), env=environment({}), capture_output=True, check=True)
    whole = time.monotonic() - begun
    assert done.stdout
    for _ in range(KILLS):
        run = next(
            r
            for r in shell("runs", "--json").json["runs"]
            if r["state"] == "verified" and r["applied"]
        )
        assert shell("rollback", run["run_id"]).code == 0
        process = subprocess.Popen(
            command(*RUN),
            env=environment({}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.4, 1) * whole)
        process.kill()
        process.wait(30)
        now = prod.contents()
        assert set(now["rows"]) & set(TABLES) in (set(), set(TABLES))
        assert without(now, TABLES) == before
        said = shell(*RUN)
        assert (said.code, said.json["state"]) == (0, "verified"), said
        assert without(prod.contents(), TABLES) == before
        assert set(TABLES) <= prod.tables()
