"""The validation plays its scenarios, finds what a database does differently, leaves nothing."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.referrals.schema import TABLES
from maintenance_pipelines.systems.referrals.validation import validate
from maintenance_pipelines_tests.systems.referrals.loading import write

NAMES = ["new_referral", "recurring_payment", "organic_member"]


def contents(database: Database) -> list[object]:
    with database.transaction() as connection:
        return [
            connection.execute(
                sa.text(f"""SELECT count(*), sum(hashtext(t::text)) FROM "{table.name}" AS t""")
            ).one()
            for table in TABLES
        ]


def test_all_three_pass_and_nothing_is_left_behind(stale: Database) -> None:
    before = contents(stale)
    scenarios = validate(stale)
    assert [(one.name, one.passed) for one in scenarios] == [(name, True) for name in NAMES]
    assert contents(stale) == before


def test_they_pass_without_a_table_of_refunds(app_without_refunds: Database) -> None:
    assert all(one.passed for one in validate(app_without_refunds))


COUNTS_TWICE = (
    """CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN UPDATE "Member" SET "monthlyReferred" = "monthlyReferred" + 1 WHERE id = NEW."memberId";
    RETURN NEW; END $$""",
    """CREATE TRIGGER twice AFTER INSERT ON "Commission" FOR EACH ROW EXECUTE FUNCTION twice()""",
)


def test_a_trigger_that_counts_as_well_is_found(stale: Database) -> None:
    write(stale, *COUNTS_TWICE)
    before = contents(stale)
    first, *others = validate(stale)
    assert not first.passed
    assert first.differences == ("month is 2, not 1",)
    assert [one.differences for one in others] == [("the one before failed",)] * 2
    assert contents(stale) == before


@pytest.mark.parametrize("table", ["Creator", "Member", "Commission"])
def test_a_database_that_wants_more_columns_says_which(stale: Database, table: str) -> None:
    write(stale, f"ALTER TABLE \"{table}\" ADD COLUMN extra text NOT NULL DEFAULT ''")
    write(stale, f'ALTER TABLE "{table}" ALTER COLUMN extra DROP DEFAULT')
    before = contents(stale)
    first = validate(stale)[0]
    assert not first.passed
    assert "extra" in first.differences[0]
    assert contents(stale) == before
