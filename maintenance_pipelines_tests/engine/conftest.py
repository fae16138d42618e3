"""Fixtures of the engine's tests: databases with gardens, and roles that may do little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy

Hiring = Callable[[str], str]


@pytest.fixture
def gardens(make_database: MakeDatabase, app_url: str) -> Database:
    """Ten gardens with five slots each; the first four have all their beds, so 30 are missing."""
    made = make_database(app_url, toy.SMALL)
    toy.plant(made, 10, 5, 4)
    return made


@pytest.fixture
def hire(app_url: str) -> Iterator[Hiring]:
    """A function that makes a role without any rights and returns a URL that connects as it."""
    address = sa.make_url(app_url)
    administration = sa.create_engine(
        address.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )

    def administer(statement: str) -> None:
        with administration.connect() as connection:
            connection.execute(sa.text(statement))

    def dismiss(role: str) -> None:
        administer(f'DROP OWNED BY "{role}" CASCADE')
        administer(f'DROP ROLE "{role}"')

    with ExitStack() as stack:
        stack.callback(administration.dispose)

        def make(name: str) -> str:
            role = f"{name} of {address.database}"
            administer(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'sesame'")
            stack.callback(dismiss, role)
            hired = address.set(username=role, password="sesame")
            return hired.render_as_string(hide_password=False)

        yield make
