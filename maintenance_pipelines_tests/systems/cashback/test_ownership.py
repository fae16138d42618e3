"""On PostgreSQL the application's own role can use the new tables, whoever creates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines_tests.conftest import MakeDatabase
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.lending import Lending, postgres_lending

Hire = Callable[[str], str]


@pytest.fixture
def admin(app_url: str) -> Iterator[sa.Engine]:
    """The administrator of the database."""
    url = sa.make_url(app_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def execute(engine: sa.Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def hire(admin: sa.Engine) -> Iterator[Hire]:
    """A function that makes a role of this database and returns its quoted name."""
    with ExitStack() as stack:

        def make(name: str) -> str:
            role = f'"{name} of {admin.url.database}"'
            execute(admin, f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'")
            leave = f"DROP OWNED BY {role} CASCADE"
            stack.callback(execute, admin, leave, f"DROP ROLE {role}")
            return role

        yield make


def url_of(admin: sa.Engine, role: str) -> str:
    url = admin.url.set(drivername="postgresql", username=role.strip('"'), password="sesame")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def app_role(hire: Hire) -> str:
    """The role that the application connects as."""
    return hire("app")


def owned(admin: sa.Engine) -> set[str]:
    """Who owns the six tables, quoted."""
    statement = sa.text(
        "SELECT DISTINCT quote_ident(tableowner) FROM pg_tables WHERE tablename = ANY(:tables)"
    )
    with admin.connect() as connection:
        return set(connection.scalars(statement, {"tables": list(TABLES)}))


def use_as(url: str) -> None:
    """The application at work, under its own role."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        app_models.use_cashback(session)
    engine.dispose()


def made_by(
    role: str, admin: sa.Engine, tmp_path: Path, make_database: MakeDatabase, app_url: str
) -> Lending:
    """An instance whose tables that role has made; the project is the administrator."""
    execute(admin, f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    postgres_lending(tmp_path, make_database(app_url), url_of(admin, role))
    return postgres_lending(tmp_path, make_database(app_url), app_url, ())


def migrating_as(lending: Lending, url: str, make_database: MakeDatabase) -> Lending:
    """The same instance, but the project is another role."""
    return postgres_lending(lending.folder, make_database(url), url, ())


def test_the_tables_belong_to_the_owner_of_the_parents(
    admin: sa.Engine, app_role: str, tmp_path: Path, make_database: MakeDatabase, app_url: str
) -> None:
    lending = made_by(app_role, admin, tmp_path, make_database, app_url)
    assert lending.migrate().run.state == "verified"
    assert owned(admin) == {app_role}
    use_as(url_of(admin, app_role))


def test_a_member_of_the_owner_creates_them_as_the_owner(
    admin: sa.Engine,
    app_role: str,
    hire: Hire,
    tmp_path: Path,
    make_database: MakeDatabase,
    app_url: str,
) -> None:
    lending = made_by(app_role, admin, tmp_path, make_database, app_url)
    mine = hire("maintenance")
    execute(
        admin,
        f"GRANT {app_role} TO {mine}",
        f'GRANT CREATE ON DATABASE "{admin.url.database}" TO {mine}',
    )
    lending = migrating_as(lending, url_of(admin, mine), make_database)
    found = lending.migrate()
    assert found.run.state == "verified"
    assert owned(admin) == {app_role}
    use_as(url_of(admin, app_role))
    assert lending.roll_back(found.run, force=True).run.state == "verified"


def test_a_stranger_creates_them_as_itself_and_copies_the_grants(
    admin: sa.Engine,
    app_role: str,
    hire: Hire,
    tmp_path: Path,
    make_database: MakeDatabase,
    app_url: str,
) -> None:
    lending = made_by(app_role, admin, tmp_path, make_database, app_url)
    mine, reader = hire("maintenance"), hire("reader")
    execute(
        admin,
        f"GRANT CREATE ON SCHEMA public TO {mine}",
        f'GRANT CREATE ON DATABASE "{admin.url.database}" TO {mine}',
        f"GRANT SELECT, REFERENCES ON ALL TABLES IN SCHEMA public TO {mine}",
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {mine}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}",
    )
    lending = migrating_as(lending, url_of(admin, mine), make_database)
    assert lending.migrate().run.state == "verified"
    assert owned(admin) == {mine}
    use_as(url_of(admin, app_role))
    rights = "SELECT has_table_privilege(:role, 'tracker_entry', :right)"
    with admin.connect() as connection:
        found = {
            right: connection.execute(
                sa.text(rights), {"role": reader.strip('"'), "right": right}
            ).scalar_one()
            for right in ("SELECT", "INSERT", "DELETE")
        }
    assert found == {"SELECT": True, "INSERT": False, "DELETE": False}


def test_an_application_that_does_not_own_its_tables_can_use_the_new_ones(
    admin: sa.Engine,
    app_role: str,
    hire: Hire,
    tmp_path: Path,
    make_database: MakeDatabase,
    app_url: str,
) -> None:
    owner = hire("owner")
    lending = made_by(owner, admin, tmp_path, make_database, app_url)
    execute(
        admin, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app_role}"
    )
    assert lending.migrate().run.state == "verified"
    assert owned(admin) == {owner}
    use_as(url_of(admin, app_role))


def test_whoever_may_use_only_some_of_the_parents_gets_no_right_on_what_refers_to_others(
    admin: sa.Engine,
    app_role: str,
    hire: Hire,
    tmp_path: Path,
    make_database: MakeDatabase,
    app_url: str,
) -> None:
    lending = made_by(app_role, admin, tmp_path, make_database, app_url)
    some = hire("some")
    execute(admin, f'GRANT SELECT ON "user", loan TO {some}')
    lending.migrate()
    with admin.connect() as connection:
        allowed = {
            table
            for table in TABLES
            if connection.execute(
                sa.text("SELECT has_table_privilege(:role, :table, 'SELECT')"),
                {"role": some.strip('"'), "table": table},
            ).scalar_one()
        }
    assert allowed == {"loan_cashback_config", "user_payment_method"}


def test_a_missing_privilege_is_named_before_anything_starts(
    admin: sa.Engine,
    app_role: str,
    hire: Hire,
    tmp_path: Path,
    make_database: MakeDatabase,
    app_url: str,
) -> None:
    lending = made_by(app_role, admin, tmp_path, make_database, app_url)
    before = lending.contents()
    mine = hire("maintenance")
    execute(
        admin,
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {mine}",
        f'GRANT CREATE ON DATABASE "{admin.url.database}" TO {mine}',
    )
    lending = migrating_as(lending, url_of(admin, mine), make_database)
    with pytest.raises(Misconfigured, match="lacks CREATE on schema public"):
        lending.plan()
    execute(admin, f"GRANT CREATE ON SCHEMA public TO {mine}")
    with pytest.raises(Misconfigured, match="lacks REFERENCES on user, loan, payment, daily_tr"):
        lending.plan()
    assert lending.contents() == before


def test_a_right_that_is_taken_away_since_fails_the_verification(
    admin: sa.Engine, app_role: str, tmp_path: Path, make_database: MakeDatabase, app_url: str
) -> None:
    owner_url = app_url
    lending = postgres_lending(tmp_path, make_database(owner_url), owner_url)
    execute(admin, f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {app_role}")
    run = lending.plan()
    lending.back_up(run)
    run = lending.apply(run)
    execute(admin, f"REVOKE INSERT ON tracker_entry FROM {app_role}")
    found = lending.verify(run)
    assert found.run.state == "failed"
    (failed,) = (check for check in found.checks if not (check.passed or check.warning))
    assert failed.name == "usable_by_the_application"
    assert failed.sample == (f"{app_role} lacks INSERT on tracker_entry",)


def test_a_schema_of_any_name_is_meant_where_the_url_names_it(
    admin: sa.Engine, tmp_path: Path, make_database: MakeDatabase, app_url: str
) -> None:
    lending = postgres_lending(tmp_path, make_database(app_url), app_url)
    moved = [f'ALTER TABLE public."{name}" SET SCHEMA "The App"' for name in app_models.BEFORE]
    execute(admin, 'CREATE SCHEMA "The App"', *moved)
    elsewhere = f"{app_url}&schema=The%20App"
    lending = migrating_as(lending, elsewhere, make_database)
    found = lending.migrate()
    assert found.run.state == "verified"
    with admin.connect() as connection:
        schemas = connection.scalars(
            sa.text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = ANY(:tables)"),
            {"tables": list(TABLES)},
        ).all()
    assert schemas == ["The App"]
    assert lending.plan().planned == 0
    assert lending.roll_back(found.run).run.state == "verified"
