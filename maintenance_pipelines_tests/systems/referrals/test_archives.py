"""Reports of snapshots and of the audit log."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals import archives
from maintenance_pipelines_tests.systems.referrals.loading import session, write

SNAPSHOTS = """
INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "memberId", "monthlyReferrals",
    "monthlyEarnings")
SELECT 's{0}' || id, '2025-{0}', "creatorId", id, {0}, {0} + 0.05 FROM "Member"
 WHERE "createdAt" < '2025-08-01'
"""
OF_CREATORS = """
INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "monthlyReferrals", "monthlyRevenue")
SELECT 's{0}' || id, '2025-{0}', id, 40, 1234.5 FROM "Creator"
"""
AUDITED = """
INSERT INTO "AuditLog" (id, entity, "entityId", field, "oldValue", "newValue", "triggeredBy",
    "createdAt")
SELECT 'a' || m.id || cause || month, 'Member', m.id, 'monthlyReferred', '3', '0', cause,
       make_date(2025, month, 1)
  FROM (SELECT id FROM "Member" ORDER BY id LIMIT 5) AS m,
       unnest(ARRAY['cron', 'recalculation']) AS cause, generate_series(10, 11) AS month
"""


def archive(database: Database) -> None:
    for month in ("08", "09"):
        write(database, SNAPSHOTS.format(month), OF_CREATORS.format(month))


def first(connection: sa.Connection, table: str) -> str:
    return str(connection.execute(sa.text(f'SELECT min(id) FROM "{table}"')).scalar_one())


def test_a_members_months_the_latest_first(stale: Database) -> None:
    archive(stale)
    with session(stale) as connection:
        report = archives.of_member(first(connection, "Member"))
        rows = connection.execute(report).all()
        shown = archives.markdown(connection, "A member", report)
    assert [(row.month, row.referrals, str(row.earnings)) for row in rows] == [
        ("2025-09", 9, "9.05"),
        ("2025-08", 8, "8.05"),
    ]
    assert shown.startswith("**A member**\n\n| month")


def test_a_creators_months_beside_its_members(stale: Database) -> None:
    archive(stale)
    with session(stale) as connection:
        creator = first(connection, "Creator")
        rows = connection.execute(archives.of_creator(creator)).mappings().all()
        count = sa.text(
            """SELECT count(*) FROM "Member"
                WHERE "creatorId" = :c AND "createdAt" < '2025-08-01'"""
        )
        members = connection.execute(count, {"c": creator}).scalar_one()
    assert [row["month"] for row in rows] == ["2025-09", "2025-08"]
    assert (rows[0]["referrals"], str(rows[0]["revenue"])) == (40, "1234.50")
    assert rows[0]["members archived"] == members
    assert rows[0]["their referrals"] == 9 * members
    assert rows[0]["their earnings"] * 100 == 905 * members


def test_a_month_by_community(stale: Database) -> None:
    archive(stale)
    with session(stale) as connection:
        rows = connection.execute(archives.of_month(Month(2025, 9))).mappings().all()
        assert connection.execute(archives.of_month(Month(2025, 7))).all() == []
    assert [row["community"] for row in rows] == sorted(row["community"] for row in rows)
    assert {(row["snapshots"], row["referrals"]) for row in rows} == {(1, 40)}


def test_how_much_of_a_month_is_archived(stale: Database) -> None:
    write(stale, SNAPSHOTS.format("08"))
    with session(stale) as connection:
        august = connection.execute(archives.coverage(Month(2025, 8))).one()
        july = connection.execute(archives.coverage(Month(2025, 7))).one()
        before = connection.execute(archives.coverage(Month(2024, 7))).one()
    assert 0 < august.archived < august.due
    assert july.archived == 0 < july.due == august.archived
    assert (before.due, before.archived) == (0, 0)


def test_changes_are_counted_by_entity_field_cause_and_month(stale: Database) -> None:
    write(stale, AUDITED)
    with session(stale) as connection:
        rows = connection.execute(archives.changes(None)).all()
        assert [(row.month, row.cause, row.changes, row.entities) for row in rows] == [
            ("2025-11", "cron", 5, 5),
            ("2025-11", "recalculation", 5, 5),
            ("2025-10", "cron", 5, 5),
            ("2025-10", "recalculation", 5, 5),
        ]
        october = archives.changes(Month(2025, 10))
        assert [row.changes for row in connection.execute(october)] == [5, 5]
        assert connection.execute(archives.changes(Month(2025, 9))).all() == []


def test_the_changes_of_one(stale: Database) -> None:
    write(stale, AUDITED)
    with session(stale) as connection:
        rows = connection.execute(archives.changes_of(first(connection, "Member"))).all()
    assert len(rows) == 4
    assert [row.at for row in rows] == sorted((row.at for row in rows), reverse=True)
    assert (rows[0][2], rows[0][3]) == ("3", "0")
