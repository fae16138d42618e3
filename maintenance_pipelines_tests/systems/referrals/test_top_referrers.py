"""The table of top referrers, and what makes it fast."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals.absent import absent
from maintenance_pipelines.systems.referrals.schema import TABLES
from maintenance_pipelines.systems.referrals.top_referrers import markdown, top_referrers
from maintenance_pipelines_tests.systems.referrals.loading import session, write

WANTED = "index on Member (totalReferred, monthlyReferred)"


def plan(connection: sa.Connection, statement: sa.Select[tuple[object, ...]]) -> str:
    text = str(
        statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    )
    return "\n".join(connection.scalars(sa.text(f"EXPLAIN {text}")))


def missing(database: Database) -> dict[str, str]:
    with database.transaction() as connection:
        return {one.what: one.ddl for one in absent(connection, database.schema)}


def create(database: Database, *ddl: str) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in ddl:
            connection.execute(sa.text(statement))


def test_whoever_referred_most_comes_first_and_the_month_decides_ties(healthy: Database) -> None:
    with session(healthy) as connection:
        rows = connection.execute(top_referrers(200)).all()
    order = [(-row.total, -row[3], row.id) for row in rows]
    assert order == sorted(order)
    assert len(rows) == 200


def test_one_creators_members_only(healthy: Database) -> None:
    with session(healthy) as connection:
        ours = sa.text(
            """SELECT id FROM "Member" WHERE "creatorId" = (SELECT min(id) FROM "Creator")
            ORDER BY "totalReferred" DESC, "monthlyReferred" DESC, id LIMIT 10"""
        )
        creator = connection.execute(sa.text('SELECT min(id) FROM "Creator"')).scalar_one()
        rows = connection.execute(top_referrers(10, creator)).all()
        assert [row.id for row in rows] == list(connection.scalars(ours))


def test_the_table_has_ranks_and_no_address(healthy: Database) -> None:
    with session(healthy) as connection:
        shown = markdown(connection, 3)
    assert shown.startswith("**Top referrers**")
    assert len(shown.splitlines()) == 7
    assert "@" not in shown


def test_the_wanted_index_is_missing_until_its_ddl_has_run(stale: Database) -> None:
    found = missing(stale)
    assert list(found) == [WANTED]
    create(stale, *found.values())
    assert missing(stale) == {}
    with session(stale) as connection:
        assert "Member_totalReferred_monthlyReferred_idx" in plan(connection, top_referrers())


def test_one_creators_table_is_answered_by_the_apps_own_index(stale: Database) -> None:
    with session(stale) as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        creator = connection.execute(sa.text('SELECT min(id) FROM "Creator"')).scalar_one()
        shown = plan(connection, top_referrers(10, creator))
    assert "Member_creatorId_totalReferred_idx" in shown


def test_every_index_and_table_that_is_dropped_is_offered_again(stale: Database) -> None:
    names = {str(index.name) for table in TABLES for index in table.indexes}
    write(
        stale,
        'ALTER TABLE "Member" DROP CONSTRAINT "Member_referredBy_fkey"',
        *(f'DROP INDEX "{name}"' for name in names),
        'DROP TABLE "MonthlySnapshot"',
        'DROP TABLE "AuditLog"',
    )
    found = missing(stale)
    assert list(found)[:2] == ["table MonthlySnapshot", "table AuditLog"]
    # One that begins with the other's columns serves for both.
    assert len(found) == 2 + len(names) + 1
    create(stale, *found.values())
    assert missing(stale) == {}
    assert set(sa.inspect(stale.engine).get_table_names()) == {table.name for table in TABLES}


def test_a_longer_index_and_one_of_another_name_serve_as_well(stale: Database) -> None:
    write(
        stale,
        'DROP INDEX "Member_creatorId_idx"',
        'ALTER INDEX "Member_createdAt_idx" RENAME TO another',
        'CREATE INDEX ON "Member" ("totalReferred", "monthlyReferred", "createdAt")',
    )
    assert missing(stale) == {}


def test_a_partial_index_does_not_serve(stale: Database) -> None:
    write(
        stale,
        'DROP INDEX "Commission_createdAt_idx"',
        'DROP INDEX "Commission_createdAt_paymentType_idx"',
        """CREATE INDEX ON "Commission" ("createdAt") WHERE status = 'paid'""",
    )
    assert "index on Commission (createdAt)" in missing(stale)


def test_the_ddl_names_the_schema(app_database: Database) -> None:
    with app_database.engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "My App"'))
        offered = absent(connection, "My App")
        assert [one.what for one in offered[:2]] == ["table MonthlySnapshot", "table AuditLog"]
        assert 'CREATE TABLE "My App"."MonthlySnapshot"' in offered[0].ddl
        assert 'REFERENCES "My App"."Creator"' in offered[0].ddl
