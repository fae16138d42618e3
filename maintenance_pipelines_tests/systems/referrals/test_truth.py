"""The truth's SQL against the reference, in both of its forms."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.schema import commission, member
from maintenance_pipelines_tests.systems.referrals import reference
from maintenance_pipelines_tests.systems.referrals.loading import load, session
from maintenance_pipelines_tests.systems.referrals.reference import Commission, Member, World
from maintenance_pipelines_tests.systems.referrals.situations import (
    CREATORS,
    END,
    IDS,
    MONTH,
    START,
    YEAR,
    worlds,
)

DECEMBER = Month(YEAR, MONTH)
ZONES = ("UTC", "America/Los_Angeles", "Pacific/Kiritimati")
DAY = timedelta(days=1)
ALWAYS_MANY, NEVER_MANY = 1_000_000, -1_000_000
"""For which number of members a batch is one of many: a table never analyzed has -1 of them."""

thorough = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def asked(ids: tuple[str, ...]) -> sa.CTE:
    rows = [sa.select(sa.literal(id, sa.Text).label("id")) for id in (*ids, "nobody")]
    return sa.union_all(*rows).cte("asked")


def answers(
    connection: sa.Connection, statement: sa.Select[tuple[str, int, int]]
) -> dict[str, tuple[int, int]]:
    rows = connection.execute(statement).all()
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: (row.referrals, row.cents) for row in rows}


@thorough
@given(world=worlds(sound=True), ignore=st.booleans(), zone=st.sampled_from(ZONES))
def test_everybodys_truth_is_the_references(
    app: Database, world: World, ignore: bool, zone: str
) -> None:
    members = reference.of_members(world, YEAR, MONTH, with_refunds=not ignore)
    creators = reference.of_creators(world, CREATORS, YEAR, MONTH, with_refunds=not ignore)
    with session(app, zone) as connection:
        load(connection, world)
        found = truth.members(DECEMBER, ignore_refunds=ignore)
        assert answers(connection, found) == members
        found = truth.creators(DECEMBER, ignore_refunds=ignore)
        assert answers(connection, found) == creators
        total = connection.execute(truth.referrals(DECEMBER)).scalar_one()
    assert total == sum(referrals for referrals, _ in members.values())


@thorough
@given(
    world=worlds(sound=True),
    ignore=st.booleans(),
    ids=st.sets(st.sampled_from(IDS)),
    many=st.sampled_from((ALWAYS_MANY, NEVER_MANY)),
)
def test_the_truth_of_a_batch_is_that_of_everybody(
    app: Database, world: World, ignore: bool, ids: set[str], many: int
) -> None:
    members = reference.of_members(world, YEAR, MONTH, with_refunds=not ignore)
    creators = reference.of_creators(world, CREATORS, YEAR, MONTH, with_refunds=not ignore)
    with session(app) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(truth, "MANY", many)
        load(connection, world)
        some = asked(tuple(ids))
        found = truth.members(DECEMBER, ignore_refunds=ignore, among=some)
        assert answers(connection, found) == {id: members[id] for id in ids}
        first = asked(CREATORS[:1])
        found = truth.creators(DECEMBER, ignore_refunds=ignore, among=first)
        assert answers(connection, found) == {CREATORS[0]: creators[CREATORS[0]]}


def test_without_a_table_of_refunds_there_are_none(app_without_refunds: Database) -> None:
    world = World((Member("m1", "m1", "c1", START),), (paid("k1", 4999),))
    with session(app_without_refunds) as connection:
        load(connection, world, with_refunds=False)
        for among in (None, asked(("m1",))):
            found = truth.members(DECEMBER, ignore_refunds=True, among=among)
            assert answers(connection, found) == {"m1": (0, 500)}


def paid(id: str, sale: int) -> Commission:
    return Commission(id, "m1", "c1", START + DAY, sale, (sale // 10 + 1, 0, 0))


def test_ten_thousand_tenths_add_up_exactly(app: Database) -> None:
    tenths = (Commission(f"k{n}", "m1", "c1", START, 10, (10, 0, 0)) for n in range(10_000))
    with session(app) as connection:
        load(connection, World((Member("m1", "m1", "c1", START),), tuple(tenths)))
        assert answers(connection, truth.members(DECEMBER)) == {"m1": (0, 100_000)}
        floats = connection.execute(sa.select(sa.func.sum(commission.c.memberShare))).scalar_one()
    assert floats != 1000.0


@pytest.mark.parametrize("cents", [0, 1, 29, 57, 58, 115, 1013, 4035, -1, -57, 123_456_789_01])
def test_an_amount_becomes_cents_and_back(app: Database, cents: int) -> None:
    with session(app) as connection:
        value = sa.cast(sa.literal(cents / 100), sa.Double)
        there = connection.execute(sa.select(truth.cents(value))).scalar_one()
        back = connection.execute(sa.select(truth.amount(sa.literal(cents)))).scalar_one()
    assert (there, back) == (cents, cents / 100)


def test_every_amount_up_to_a_thousand_becomes_its_cents(app: Database) -> None:
    number = sa.func.generate_series(0, 100_000).column_valued("n")
    spelled = sa.cast(sa.cast(number, sa.Numeric) / 100, sa.Double)
    wrong = sa.select(sa.func.count()).where(truth.cents(spelled) != number)
    with session(app) as connection:
        assert connection.execute(wrong).scalar_one() == 0


def test_what_is_no_number_is_refused(app: Database) -> None:
    nothing = sa.cast(sa.literal("NaN"), sa.Double)
    with session(app) as connection, pytest.raises(sa.exc.DBAPIError, match="out of range"):
        connection.execute(sa.select(truth.cents(nothing)))


def test_a_batch_is_looked_up_by_index(stale: Database) -> None:
    ids = sa.select(member.c.id).order_by(member.c.id).limit(5).cte("asked")
    statement = truth.members(Month(2025, 10), among=ids)
    with session(stale) as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        compiled = statement.compile(
            dialect=connection.dialect, compile_kwargs={"literal_binds": True}
        )
        text = str(compiled).replace(":", "\\:")
        plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {text}")))
    assert "Commission_memberId_status_createdAt_idx" in plan
    assert "Member_referredBy_createdAt_idx" in plan


@pytest.mark.parametrize(("asked_for", "looked_up"), [(5, True), (500, False)])
def test_few_are_looked_up_and_of_many_the_month_is_read(
    stale: Database, asked_for: int, looked_up: bool
) -> None:
    ids = sa.select(member.c.id).order_by(member.c.id).limit(asked_for).cte("asked")
    with session(stale) as connection:
        statement = truth.members(Month(2025, 10), among=ids)
        carried_out = carried_out_by(connection, statement)
    of_one = [line for line in carried_out if "Member_referredBy_createdAt_idx" in line]
    assert bool(of_one) == looked_up


def carried_out_by(
    connection: sa.Connection, statement: sa.Select[tuple[str, int, int]]
) -> list[str]:
    """The steps of a statement's plan that it has really taken."""
    text = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    explained = sa.text(f"EXPLAIN ANALYZE {text}".replace(":", "\\:"))
    return [line for line in connection.scalars(explained) if "never executed" not in line]


def test_months_are_half_open(app: Database) -> None:
    world = World((Member("m1", "m1", "c1", START),), (paid("k1", 100),))
    with session(app) as connection:
        load(connection, world)
        for moment, expected in ((START, 1), (END, 0), (END - DAY / 86_400_000, 1)):
            connection.execute(member.update().values(createdAt=moment, referredBy="m1"))
            assert answers(connection, truth.members(DECEMBER))["m1"][0] == expected
