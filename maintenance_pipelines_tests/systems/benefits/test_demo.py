"""The demo's data: the same every time, with every awkward case in it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.benefits import demo, summaries
from maintenance_pipelines.systems.benefits.candidates import candidates
from maintenance_pipelines.systems.benefits.schema import TABLES, benefit, benefit_status, user
from maintenance_pipelines.systems.benefits.story import tell
from maintenance_pipelines_tests.systems.benefits.loading import found, scope_of, session

AUGUST = scope_of(Month(2025, 8))
ALL_REASONS = {
    "out_of_scope",
    "no_opened_date",
    "no_cycle_starts",
    "expired",
    "not_started",
    "created_after_cycle",
    "card_not_open",
    "invalid_occurrences",
    "already_present",
    "present_at_another_hour",
    "would_overlap",
}


@pytest.fixture
def demo_database(app_database: Database) -> Database:
    with app_database.engine.begin() as connection:
        demo.build(connection, app_database.schema)
    return app_database


def counts(database: Database) -> list[int]:
    with session(database) as connection:
        numbers = [sa.select(sa.func.count()).select_from(table) for table in TABLES]
        return [connection.execute(number).scalar_one() for number in numbers]


def test_the_same_seed_tells_the_same_story() -> None:
    assert tell(7) == tell(7)
    assert tell(7) != tell(8)


def test_about_two_hundred_users_lack_statuses_while_others_have_theirs(
    demo_database: Database,
) -> None:
    with session(demo_database) as connection:
        due, reasons = found(connection, AUGUST)
    assert 180 <= len({user for _, user, _, _ in due}) <= 220
    assert reasons["already_present"] > 300


def test_every_reason_occurs(demo_database: Database) -> None:
    with session(demo_database) as connection:
        _, reasons = found(connection, AUGUST)
    assert set(reasons) == ALL_REASONS


def test_one_occurrence_of_four_is_missing(demo_database: Database) -> None:
    with session(demo_database) as connection:
        due, _ = found(connection, AUGUST)
        four = connection.scalars(
            sa.select(benefit.c.id).where(benefit.c.occurrencesInCycle == 4)
        ).all()
    assert len(four) == 5
    assert {(key[0], key[3]) for key in due if key[0] in four} == {(id, 2) for id in four}


def test_nothing_of_july_is_missing(demo_database: Database) -> None:
    with session(demo_database) as connection:
        due, _ = found(connection, scope_of(Month(2025, 7)))
    third_of_four_and_never_due = {key[0] for key in due}
    assert not third_of_four_and_never_due


def test_nobody_in_it_is_real(demo_database: Database) -> None:
    with session(demo_database) as connection:
        addresses = connection.scalars(sa.select(user.c.email)).all()
    assert all(address.endswith("@example.com") for address in addresses)


def test_a_scale_multiplies_users_and_everything_of_theirs(
    demo_database: Database, make_database: Any
) -> None:
    other: Database = make_database()
    with other.engine.begin() as connection:
        demo.build(connection, other.schema, scale=3)
    assert counts(other) == [number * 3 for number in counts(demo_database)]
    assert counts(other)[0] == demo.users(3)
    with session(demo_database) as once, session(other) as thrice:
        due, reasons = found(once, AUGUST)
        all_due, all_reasons = found(thrice, AUGUST)
    assert len(all_due) == 3 * len(due)
    assert all_reasons == {reason: 3 * count for reason, count in reasons.items()}


def plan_of(connection: sa.Connection) -> sa.Subquery:
    rows = candidates(AUGUST, None).subquery()
    columns = [rows.c[name].label(f"new_{name}") for name in ("benefitId", "userId")]
    return sa.select(*columns).where(rows.c.reason.is_(None)).subquery()


def test_the_requests_counting_announces_what_the_request_announced(
    demo_database: Database,
) -> None:
    with session(demo_database) as connection:
        due, _ = found(connection, AUGUST)
        table = summaries.beside_the_old_counting(AUGUST, plan_of(connection))
        planned, began_before, announced = [row.statuses for row in connection.execute(table)]
    assert planned == len(due)
    assert announced == planned + began_before
    assert 1500 <= announced <= 3200


def test_the_summaries_account_for_every_planned_status(demo_database: Database) -> None:
    with session(demo_database) as connection:
        due, _ = found(connection, AUGUST)
        plan = plan_of(connection)
        for summary in (summaries.by_frequency, summaries.by_issuer):
            rows = connection.execute(summary(AUGUST, plan)).all()
            assert sum(row.statuses for row in rows) == len(due)
        affected = connection.execute(summaries.affected(AUGUST, plan)).one()
    assert affected.users == len({user for _, user, _, _ in due})
    assert affected.statuses == len(due)


@pytest.mark.parametrize("by", ["e-mail", "e-mail in capitals", "id"])
def test_one_users_statuses_are_shown_without_the_address(demo_database: Database, by: str) -> None:
    with session(demo_database) as connection:
        one = connection.execute(
            sa.select(user.c.id, user.c.email, sa.func.count().label("statuses"))
            .join(benefit_status, benefit_status.c.userId == user.c.id)
            .where(
                benefit_status.c.cycleStartDate < AUGUST.month.end,
                benefit_status.c.cycleEndDate >= AUGUST.month.start,
            )
            .group_by(user.c.id)
            .order_by(sa.desc("statuses"))
            .limit(1)
        ).one()
        who = {"e-mail": one.email, "e-mail in capitals": one.email.upper(), "id": one.id}[by]
        rows = connection.execute(summaries.statuses_of(AUGUST, who)).all()
    assert len(rows) == one.statuses
    assert one.email not in str(rows)


def test_the_estimate_is_explained_for_august_2025_only() -> None:
    assert "1,500 to 3,200" in summaries.notes(AUGUST)
    assert summaries.notes(scope_of(Month(2025, 9))) == ""
