"""A month that was never reset leaves no failed run behind: the data tell of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.orchestration import unclosed
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems.referrals import demo
from maintenance_pipelines_tests.conftest import MakeDatabase, MakeUrl

NOVEMBER = datetime(2025, 11, 1, tzinfo=UTC)


@pytest.fixture
def storage(make_database: MakeDatabase, make_url: MakeUrl) -> Database:
    made: Database = make_database(make_url())
    alert_book.prepare(made)
    return made


@pytest.fixture
def settings(
    make_database: MakeDatabase, make_url: MakeUrl, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    url = make_url()
    with make_database(url).transaction() as connection:
        demo.build(connection, "public")
    monkeypatch.setenv("REFERRALS_DATABASE_URL", url)
    return Settings.load()


def titles(storage: Database) -> list[str]:
    with storage.transaction() as connection:
        return [cause.title for cause in alert_book.open_causes(connection)]


def test_the_latest_month_without_a_snapshot_is_told_of_an_hour_after_its_end(
    settings: Settings, storage: Database
) -> None:
    unclosed.watch(settings, storage, NOVEMBER.replace(minute=59))
    assert titles(storage) == ["2025-09 was never closed"]
    unclosed.watch(settings, storage, NOVEMBER.replace(hour=2))
    assert titles(storage) == ["2025-10 was never closed"]


def test_it_passes_once_the_months_are_closed(settings: Settings, storage: Database) -> None:
    unclosed.watch(settings, storage, NOVEMBER.replace(hour=2))
    engine = sa.create_engine(
        sa.make_url(settings.url("referrals")).set(drivername="postgresql+psycopg")
    )
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                'INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "createdAt")'
                " SELECT c.id || m, to_char(m, 'YYYY-MM'), c.id, now() FROM \"Creator\" c,"
                " generate_series(timestamp '2020-01-01', '2025-10-01', '1 month') m"
            )
        )
    engine.dispose()
    unclosed.watch(settings, storage, NOVEMBER.replace(hour=4))
    assert titles(storage) == []


def test_it_looks_once_an_hour_and_is_silent_without_a_database(
    settings: Settings, storage: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFERRALS_DATABASE_URL")
    unclosed.watch(Settings.load(), storage, NOVEMBER.replace(hour=2))
    assert titles(storage) == []
    unclosed.watch(settings, storage, NOVEMBER.replace(hour=2, minute=30))
    assert titles(storage) == []
