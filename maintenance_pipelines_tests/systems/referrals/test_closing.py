"""Which months were never reset."""

from __future__ import annotations

from datetime import datetime

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals.closing import months_never_reset
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.systems.referrals.jobs import carry_out, scope_of
from maintenance_pipelines_tests.systems.referrals.loading import session, write

NOVEMBER = scope_of("2025-10", datetime(2025, 11, 1, 0, 5))


def never_reset(database: Database) -> list[str]:
    with session(database) as connection:
        return [str(month) for month in months_never_reset(connection, NOVEMBER)]


def test_every_month_since_the_first_member_that_is_over(stale: Database) -> None:
    assert never_reset(stale) == [f"2025-{number:02}" for number in range(2, 11)]


def test_a_month_that_was_reset_is_not_among_them(stale: Database) -> None:
    for month in ("2025-04", "2025-10"):
        carry_out(monthly_stats_reset, stale, scope_of(month, datetime(2025, 11, 1, 0, 5)))
    assert never_reset(stale) == ["2025-02", "2025-03"] + [f"2025-{n:02}" for n in range(5, 10)]


def test_of_an_app_without_members_there_is_none(app: Database) -> None:
    assert never_reset(app) == []


def test_a_date_long_before_the_app_does_not_make_it_long(stale: Database) -> None:
    write(stale, """UPDATE "Creator" SET "createdAt" = '1970-01-01'""")
    assert never_reset(stale)[0] == "2020-01"
