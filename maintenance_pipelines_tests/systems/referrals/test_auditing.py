"""Taking a counter back: to the cent, whatever has been added in doubles since."""

from __future__ import annotations

from itertools import product

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals.auditing import taken_back
from maintenance_pipelines.systems.referrals.subjects import EARNED, REFERRED
from maintenance_pipelines_tests.systems.referrals.loading import session

CENTS = (0, 1, 29, 57, 1013, 4035, 12345, 99_999_99)


def answer(database: Database, *given: float) -> float:
    current, before, after = (sa.cast(sa.literal(value), sa.Double) for value in given)
    with session(database) as connection:
        taken = sa.select(taken_back(EARNED, current, before, after))
        return float(connection.execute(taken).scalar_one())


def test_what_was_added_since_stays_to_the_cent(app_database: Database) -> None:
    naive = 0
    with session(app_database) as connection:
        for before, after, added in product(CENTS, CENTS, CENTS[1:]):
            current = after / 100 + added / 100
            values = (current, before / 100, after / 100)
            given = [sa.cast(sa.literal(value), sa.Double) for value in values]
            found = connection.execute(sa.select(taken_back(EARNED, *given))).scalar_one()
            assert found == (before + added) / 100
            naive += current + before / 100 - after / 100 != (before + added) / 100
    assert naive > 100


def test_where_nothing_was_added_the_very_number_returns(app_database: Database) -> None:
    noisy = 0.1 + 0.2
    assert answer(app_database, 5.0, noisy, 5.0) == noisy


def test_referrals_are_whole_numbers(app_database: Database) -> None:
    with session(app_database) as connection:
        given = (sa.literal(number) for number in (4, 9, 1))
        assert connection.execute(sa.select(taken_back(REFERRED, *given))).scalar_one() == 12
