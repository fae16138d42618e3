"""The app's tables, empty and with the demo's members in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals import demo, truth
from maintenance_pipelines.systems.referrals.schema import (
    create_app_tables,
    create_unkeyed_app_tables,
    creator,
    member,
    refund,
)
from maintenance_pipelines.systems.referrals.story import OCTOBER
from maintenance_pipelines_tests.support.clusters import Cluster
from maintenance_pipelines_tests.support.templates import Templates


@pytest.fixture
def app_url(request: pytest.FixtureRequest, server: Cluster, templates: Templates) -> Iterator[str]:
    """The URL of a copy of what a test wants: the demo's members, the app's tables, or nothing."""
    wanted = set(request.fixturenames)
    if "stale" in wanted or "healthy" in wanted:
        name = templates.copy("referrals_demo", demo.build, with_ledger=False)
    elif "app" in wanted:
        name = templates.copy("referrals", create_app_tables, with_ledger=False)
    else:
        make_url = request.getfixturevalue("make_url")
        yield make_url()
        return
    yield server.url(name)
    templates.drop(name)


def _with(database: Database, create: Callable[[sa.Connection, str], None]) -> Database:
    with database.engine.begin() as connection:
        create(connection, database.schema)
    return database


@pytest.fixture
def app(app_database: Database) -> Database:
    """An empty database of the app."""
    return app_database


@pytest.fixture
def app_without_refunds(app_database: Database) -> Database:
    """An empty database of a version without a table of refunds."""
    return _with(app_database, lambda c, schema: create_app_tables(c, schema, with_refunds=False))


@pytest.fixture
def app_without_keys(app_database: Database) -> Database:
    """An empty database in which nothing stops codes that double or dangle."""
    return _with(app_database, create_unkeyed_app_tables)


@pytest.fixture
def stale(app_database: Database) -> Database:
    """The demo's database: every counter holds eight months.

    Built here for tests of other rooms, whose databases are no copies of the template.
    """
    with app_database.engine.begin() as connection:
        there = sa.inspect(connection).has_table(member.name, app_database.schema)
    return app_database if there else _with(app_database, demo.build)


@pytest.fixture
def healthy(stale: Database) -> Database:
    """The demo's members with counters that are October's; no refunds and no orphans."""
    with stale.engine.begin() as connection:
        connection.execute(refund.delete())
        members = truth.members(OCTOBER).subquery()
        connection.execute(
            member.update()
            .values(
                monthlyReferred=members.c.referrals, monthlyEarnings=truth.amount(members.c.cents)
            )
            .where(member.c.id == members.c.id)
        )
        creators = truth.creators(OCTOBER).subquery()
        connection.execute(
            creator.update()
            .values(monthlyRevenue=truth.amount(creators.c.cents))
            .where(creator.c.id == creators.c.id)
        )
        orphans = (member.c.memberOrigin == "referred") & member.c.referredBy.is_(None)
        connection.execute(member.update().values(memberOrigin="organic").where(orphans))
    return stale
