"""export: what a run has deleted is there as a file, to the last column."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from maintenance_pipelines.commands.exporting import export
from maintenance_pipelines.engine import applying, planning
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.systems.monetization import demo
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.schema import promo_redemptions
from maintenance_pipelines_tests.conftest import MakeDatabase, MakeUrl


@pytest.fixture
def cleaned(make_database: MakeDatabase, make_url: MakeUrl, monkeypatch: pytest.MonkeyPatch) -> Run:
    url = make_url()
    monkeypatch.setenv("MONETIZATION_DATABASE_URL", url)
    database = make_database(url)
    with database.transaction() as connection:
        demo.build(connection, "public")
    scope = Scope(utc_now(), None, MonetizationOptions())
    run = planning.plan(promo_cleanup, database, scope, Request("ann"))
    return applying.apply(promo_cleanup, database, run, Order())[0]


def test_deleted_rows_are_exported_whole(cleaned: Run, tmp_path: Path) -> None:
    files = [tmp_path / "redemptions.csv", tmp_path / "redemptions.parquet"]
    for file in files:
        assert export(cleaned.id, file, "redemption") == 0
    spelled, typed = pd.read_csv(files[0]), pd.read_parquet(files[1])
    assert list(spelled.columns) == [column.name for column in promo_redemptions.columns]
    assert 0 < len(spelled) == len(typed) < cleaned.applied
    assert set(spelled["id"]) == set(typed["id"])
    assert typed["redeemed_at"].max() < pd.Timestamp.now(tz="UTC") - pd.Timedelta(days=365)


def test_a_part_has_to_be_named_and_a_file_is_never_overwritten(
    cleaned: Run, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="code, redemption"):
        export(cleaned.id, tmp_path / "rows.csv", None)
    assert not list(tmp_path.iterdir())
    there = tmp_path / "there.csv"
    there.write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        export(cleaned.id, there, "code")
    assert there.read_text() == "mine"
    with pytest.raises(BadInput, match=r"\.csv or \.parquet"):
        export(cleaned.id, tmp_path / "rows.xlsx", "code")
