"""Guarantee 11: addresses as people have them, and refusals that never repeat a password."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database, parse_url
from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Refusal, Unreachable
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.engine import toy
from maintenance_pipelines_tests.support.clusters import ThrowawayCluster

PASSWORD = "hunter2sesame"


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"],
)
def test_any_postgresql_scheme_works(
    make_database: MakeDatabase, app_url: str, scheme: str
) -> None:
    _, _, rest = app_url.partition("://")
    assert toy.rows(make_database(f"{scheme}://{rest}"), "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "parameters",
    [
        "schema=public",
        "pgbouncer=true",
        "schema=public&connection_limit=5&pool_timeout=10&socket_timeout=3&sslaccept=strict",
        "statement_cache_size=0&pgbouncer=true",
        "sslmode=prefer&application_name=mine",
        "options=-c%20work_mem%3D1MB",
    ],
)
def test_parameters_of_other_client_libraries_are_no_obstacle(
    make_database: MakeDatabase, app_url: str, parameters: str
) -> None:
    joint = "&" if "?" in app_url else "?"
    assert toy.rows(make_database(f"{app_url}{joint}{parameters}"), "SELECT 1") == [(1,)]


def test_a_url_may_be_surrounded_by_blanks(make_database: MakeDatabase, app_url: str) -> None:
    assert toy.rows(make_database(f" {app_url}\n"), "SELECT 1") == [(1,)]


def test_the_schema_is_public_or_the_one_that_the_url_names() -> None:
    assert parse_url("postgres://u@h/d", "X")[1] == "public"
    assert parse_url("postgres://u@h/d?schema=", "X")[1] == "public"
    assert parse_url("postgres://u@h/d?schema=app%20one&sslmode=require", "X")[1] == "app one"


def test_an_address_keeps_its_user_password_host_port_and_database() -> None:
    address, _ = parse_url("postgres://us%40er:p%40ss%2Fword@db.example.org:6543/the%20db", "X")
    assert (address.username, address.password) == ("us@er", "p@ss/word")
    assert (address.host, address.port) == ("db.example.org", 6543)
    assert address.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "localhost/app",
        f"mysql://user:{PASSWORD}@host/app",
        f"sqlite:///{PASSWORD}",
        f"postgresql:/user:{PASSWORD}@host/app",
        f"postgresql://user:{PASSWORD}@host:port/app",
        f"postgresql://user:{PASSWORD}@host:54x2/app",
        f"user:{PASSWORD}@host/app",
    ],
)
def test_a_malformed_address_is_refused_by_its_variable_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput) as refusal:
        Database.connect(url, "BENEFITS_DATABASE_URL")
    assert str(refusal.value).startswith("BENEFITS_DATABASE_URL ")
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def demand_refusal(url: str, kind: type[Refusal]) -> str:
    """Connects, which has to be refused so; returns the sentence."""
    database = Database.connect(url, "X")
    with pytest.raises(kind) as refusal, database.transaction():
        pass
    database.dispose()
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.__suppress_context__
    return str(refusal.value)


def test_a_parameter_that_nobody_knows_is_refused(app_url: str) -> None:
    joint = "&" if "?" in app_url else "?"
    sentence = demand_refusal(f"{app_url}{joint}nonsense=1", Misconfigured)
    assert "parameter that PostgreSQL does not know" in sentence


def test_an_unknown_database_is_refused(app_url: str) -> None:
    url = sa.make_url(app_url).set(database="no_such_db").render_as_string(hide_password=False)
    assert "does not exist" in demand_refusal(url, Misconfigured)


def test_an_unknown_user_is_refused(app_url: str) -> None:
    url = sa.make_url(app_url).set(username="nobody_here", password=PASSWORD)
    demand_refusal(url.render_as_string(hide_password=False), Misconfigured)


def test_a_wrong_password_is_refused_and_not_repeated(own_server: ThrowawayCluster) -> None:
    own_server.create("app")
    url = sa.make_url(own_server.url("app"))
    database = Database.connect(own_server.url("app"), "X")
    toy.write(database, "CREATE ROLE bob LOGIN PASSWORD 'right'")
    hba = own_server.folder / "pg_hba.conf"
    hba.write_text(f"local all bob scram-sha-256\nlocal all carl reject\n{hba.read_text()}")
    toy.write(database, "CREATE ROLE carl LOGIN")
    toy.write(database, "SELECT pg_reload_conf()")
    database.dispose()

    def as_(user: str, password: str) -> str:
        return url.set(username=user, password=password).render_as_string(hide_password=False)

    assert "user name and password" in demand_refusal(as_("bob", PASSWORD), Misconfigured)
    demand_refusal(as_("carl", PASSWORD), Misconfigured)
    welcome = Database.connect(as_("bob", "right"), "X")
    assert toy.rows(welcome, "SELECT current_user::text") == [("bob",)]
    welcome.dispose()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{PASSWORD}@127.0.0.1:1/app",
        f"postgresql://user:{PASSWORD}@/app?host=/no/such/folder",
        f"postgresql://user:{PASSWORD}@no-such-host.invalid/app",
    ],
)
def test_a_server_that_is_not_there_is_unreachable(url: str) -> None:
    sentence = demand_refusal(url, Unreachable)
    assert sentence.startswith("The database cannot be reached")
    assert Unreachable.exit_code == 3


def test_a_stopped_server_is_unreachable(own_server: ThrowawayCluster) -> None:
    own_server.create("app")
    url = own_server.url("app")
    own_server.stop()
    demand_refusal(url, Unreachable)
    own_server.restart()


def test_no_password_stands_in_what_a_database_looks_like() -> None:
    database = Database.connect(f"postgres://user:{PASSWORD}@host/app", "X")
    assert PASSWORD not in repr(database)
