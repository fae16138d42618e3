"""Instances of the lending application as the settings name them, for the layers above."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.conftest import MakeDatabase, MakeUrl
from maintenance_pipelines_tests.orchestration.fixtures import Terminal, typing
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.lending import (
    Lending,
    postgres_lending,
    sqlite_lending,
)

MIGRATION = "cashback_migration"


@dataclass
class Lenders:
    """Makes instances and gives them an address in the environment."""

    folder: Path
    storage: Database
    make_url: MakeUrl
    make_database: MakeDatabase
    patch: pytest.MonkeyPatch
    made: dict[str, Lending] = field(default_factory=dict)

    def add(
        self, name: str = "prod", kind: str = "delete", tables: Collection[str] = app_models.BEFORE
    ) -> Lending:
        """An instance of that name, made and filled by the application itself."""
        if kind == "postgres":
            url = self.make_url()
            lending = postgres_lending(self.folder, self.make_database(url), url, tables)
        else:
            lending = sqlite_lending(self.folder, self.storage, kind, tables, name)
            url = lending.url
        self.patch.setenv(f"CASHBACK_{name.upper()}_DATABASE_URL", url)
        self.made[name] = lending
        return lending

    @property
    def home(self) -> Path:
        """MAINTENANCE_HOME."""
        return self.folder / "home"

    def backups(self, name: str = "prod") -> list[Path]:
        """The backups of an instance."""
        return sorted((self.home / "backups" / name).glob("20*"))


@pytest.fixture
def lenders(
    dagster_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_url: MakeUrl,
    make_database: MakeDatabase,
) -> Iterator[Lenders]:
    """Settings without any instance yet, and an empty ledger in Dagster's storage."""
    storage = make_database(dagster_url)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_url)
    monkeypatch.setenv("MAINTENANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MAINTENANCE_OPERATOR", "ada")
    monkeypatch.setenv("CASHBACK_LOCK_PATIENCE_S", "1")
    for name in ("PROD", "DEV", "TESTING"):
        monkeypatch.delenv(f"CASHBACK_{name}_DATABASE_URL", raising=False)
    yield Lenders(tmp_path, storage, make_url, make_database, monkeypatch)
    with storage.transaction() as book:
        if sa.inspect(book).has_table("run", "maintenance"):
            book.execute(sa.text("TRUNCATE maintenance.run CASCADE"))


@pytest.fixture
def shell(lenders: Lenders, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Types a command in this process; returns what it said."""
    return typing(capsys)
