"""A database of readers with an outbox, and a mail server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.operations import readers
from maintenance_pipelines_tests.support.mailserver import Mailbox, mailserver


@pytest.fixture
def reading(app_database: Database) -> Database:
    """A database of readers; nobody has a mail yet."""
    ledger.install(app_database)
    with app_database.transaction() as connection:
        readers.metadata.create_all(connection)
    return app_database


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server that is friendly until it is told otherwise."""
    with mailserver() as running:
        yield running
