"""The eight rules: against the reference, and each broken by one row among many."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.consistency import Consistency, Finding
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.referrals import truth
from maintenance_pipelines.systems.referrals.options import scope_on
from maintenance_pipelines.systems.referrals.rules import RULES
from maintenance_pipelines.systems.referrals.story import OCTOBER
from maintenance_pipelines_tests.systems.referrals import reference
from maintenance_pipelines_tests.systems.referrals.loading import load, scope_of, session, write
from maintenance_pipelines_tests.systems.referrals.reference import World
from maintenance_pipelines_tests.systems.referrals.situations import MONTH, YEAR, worlds

NOW = datetime(2025, 10, 25, 23)
NAMES = [rule.name for rule in RULES]
ONE = '(SELECT min(id) FROM "Member" WHERE "totalReferred" > 1 AND "monthlyReferred" = 0)'
"""A member who has referred somebody, but not in October."""
OTHER = '(SELECT max(id) FROM "Member" WHERE "memberOrigin" = \'organic\')'

thorough = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@thorough
@given(world=worlds(sound=False), running=st.booleans())
def test_the_rules_find_whom_the_reference_finds(
    app_without_keys: Database, world: World, running: bool
) -> None:
    as_of = datetime(2025, 12, 20) if running else datetime(2026, 2, 3)
    scope = scope_of(as_of, "2025-12")
    with session(app_without_keys) as connection:
        load(connection, world)
        found = {}
        for rule in RULES:
            rows = connection.execute(rule.offenders(scope)).mappings().all()
            found[rule.name] = {(row["id"], row.get("severity", rule.severity)) for row in rows}
            assert len(found[rule.name]) == len(rows)
    assert found == reference.offenders(world, YEAR, MONTH, running)


def judged(database: Database, month: str | None = None, now: datetime = NOW) -> Consistency:
    return consistency.judge(database, scope_of(now, month), RULES)


def broken(found: Consistency) -> dict[str, Finding]:
    return {finding.rule.name: finding for finding in found.findings if not finding.passed}


def test_all_hold_on_healthy_data(healthy: Database) -> None:
    found = judged(healthy)
    assert broken(found) == {}
    assert found.valid
    assert [finding.rule.name for finding in found.findings] == NAMES


ALONE = {
    "monthly_sum_equals_referrals": (
        f'UPDATE "Member" SET "monthlyReferred" = 1 WHERE id = {ONE}',
        "error",
    ),
    "no_month_above_total": (
        # Two counts change, so that the sum does not.
        'UPDATE "Member" SET "totalReferred" = "monthlyReferred" - 1 WHERE id ='
        ' (SELECT min(id) FROM "Member" WHERE "monthlyReferred" > 0)',
        "error",
    ),
    "no_negative_values": (
        'UPDATE "Member" SET "monthlyEarnings" = -0.01 WHERE id = (SELECT min(id) FROM "Member"'
        ' WHERE "monthlyEarnings" = 0)',
        "error",
    ),
    "splits_add_up": (
        'UPDATE "Commission" SET "platformShare" = "platformShare" + 0.01'
        ' WHERE id = (SELECT max(id) FROM "Commission")',
        "error",
    ),
    "earnings_equal_records": (
        f'UPDATE "Member" SET "monthlyEarnings" = "monthlyEarnings" + 0.02 WHERE id = {ONE}',
        "warning",
    ),
    "referral_codes_unique": (
        f'UPDATE "Member" SET "referralCode" = (SELECT lower("referralCode") FROM "Member"'
        f" WHERE id = {ONE}) WHERE id = {OTHER}",
        "warning",
    ),
    "organic_without_referrer": (
        f'UPDATE "Member" SET "referredBy" = (SELECT "referralCode" FROM "Member" WHERE id = {ONE})'
        f" WHERE id = {OTHER}",
        "error",
    ),
    "referred_with_referrer": (
        """UPDATE "Member" SET "memberOrigin" = 'referred' WHERE id = (SELECT min(id)
            FROM "Member" WHERE "memberOrigin" = 'organic')""",
        "warning",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_one_row_among_many_breaks_one_rule(healthy: Database, name: str) -> None:
    statement, severity = ALONE[name]
    write(healthy, statement)
    found = judged(healthy)
    assert list(broken(found)) == [name]
    finding = broken(found)[name]
    assert finding.severity == severity
    assert finding.count == (2 if name == "referral_codes_unique" else 1)
    assert found.valid == (severity == "warning")
    assert f"{name}: " in found.json()[f"{severity}s"][0]


def test_all_are_found_when_all_are_broken(healthy: Database) -> None:
    write(healthy, *(statement for statement, _ in ALONE.values()))
    found = judged(healthy)
    assert set(broken(found)) == set(NAMES)
    assert not found.valid
    assert len(found.json()["errors"]) + len(found.json()["warnings"]) == len(NAMES)


def test_two_with_the_same_code_are_an_error(healthy: Database) -> None:
    write(
        healthy,
        "SET LOCAL session_replication_role = replica",
        'ALTER TABLE "Member" DROP CONSTRAINT "Member_referredBy_fkey"',
        'DROP INDEX "Member_referralCode_key"',
        f'UPDATE "Member" SET "referralCode" = (SELECT "referralCode" FROM "Member"'
        f" WHERE id = {ONE}) WHERE id = {OTHER}",
    )
    finding = broken(judged(healthy))["referral_codes_unique"]
    assert (finding.errors, finding.warnings) == (2, 0)


def test_a_code_that_nobody_has_is_found(healthy: Database) -> None:
    write(
        healthy,
        'ALTER TABLE "Member" DROP CONSTRAINT "Member_referredBy_fkey"',
        """UPDATE "Member" SET "referredBy" = 'nobody' WHERE id = (SELECT max(id) FROM "Member"
            WHERE "memberOrigin" = 'referred' AND "createdAt" < '2025-10-01')""",
    )
    found = broken(judged(healthy))
    assert list(found) == ["referred_with_referrer"]
    assert found["referred_with_referrer"].first[0].detail == "nobody has its referrer's code"


def test_five_too_many_and_five_too_few_is_no_matter_of_the_sum(healthy: Database) -> None:
    write(
        healthy,
        f'UPDATE "Member" SET "monthlyReferred" = 1 WHERE id = {ONE}',
        """UPDATE "Member" SET "monthlyReferred" = "monthlyReferred" - 1 WHERE id =
            (SELECT max(id) FROM "Member" WHERE "monthlyReferred" > 1)""",
    )
    assert broken(judged(healthy)) == {}


def test_a_deleted_referrer_does_not_upset_the_sum(healthy: Database) -> None:
    write(healthy, 'DELETE FROM "Member" WHERE "monthlyReferred" = 3')
    assert list(broken(judged(healthy))) == ["referred_with_referrer"]


def test_earnings_that_refunds_made_negative_are_a_warning(healthy: Database) -> None:
    refunded = """INSERT INTO "Refund" SELECT 'r', id, "saleAmount", "memberShare",
        "creatorShare", "platformShare", '2025-10-20' FROM "Commission" WHERE id =
        (SELECT max(c.id) FROM "Commission" c JOIN "Member" m ON m.id = c."memberId"
          WHERE m."monthlyEarnings" = 0)"""
    counted = """UPDATE "Member" m SET "monthlyEarnings" = -"memberShare" FROM "Commission" c
        JOIN "Refund" r ON r."commissionId" = c.id WHERE r.id = 'r' AND m.id = c."memberId" """
    write(healthy, refunded, counted)
    found = judged(healthy)
    assert list(broken(found)) == ["no_negative_values"]
    assert broken(found)["no_negative_values"].severity == "warning"
    assert found.valid


def test_the_noise_of_adding_doubles_is_nothing(healthy: Database) -> None:
    write(
        healthy,
        'UPDATE "Member" SET "monthlyEarnings" = "monthlyEarnings" + 0.1 + 0.2 - 0.3 - 1e-12',
        'UPDATE "Commission" SET "saleAmount" = "saleAmount" + 1e-12',
    )
    assert broken(judged(healthy)) == {}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_amount_is_found(healthy: Database, value: str) -> None:
    write(
        healthy,
        f"""UPDATE "Commission" SET "saleAmount" = '{value}', "creatorShare" = '{value}'
            WHERE id = (SELECT max(id) FROM "Commission")""",
        f"""UPDATE "Member" SET "monthlyEarnings" = '{value}' WHERE id = {ONE}""",
    )
    found = broken(judged(healthy))
    assert {"splits_add_up", "earnings_equal_records"} <= set(found)


def test_every_split_wrong_is_counted_to_the_last(healthy: Database) -> None:
    write(healthy, 'UPDATE "Commission" SET "memberShare" = "memberShare" + 1')
    with healthy.transaction() as connection:
        all_of_them = connection.execute(sa.text('SELECT count(*) FROM "Commission"')).scalar_one()
    finding = broken(judged(healthy))["splits_add_up"]
    assert finding.errors == all_of_them
    assert len(finding.first) == consistency.SAMPLE
    assert [one.id for one in finding.first] == sorted(one.id for one in finding.first)


SNAPSHOTS = """
INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "memberId", "monthlyReferrals",
    "monthlyEarnings")
SELECT 's' || id, '2025-10', "creatorId", id, "monthlyReferred", "monthlyEarnings" FROM "Member"
"""
NOVEMBER = datetime(2025, 11, 3)


def archive(database: Database) -> None:
    write(database, SNAPSHOTS, 'UPDATE "Member" SET "monthlyReferred" = 0, "monthlyEarnings" = 0')


def test_a_past_month_is_judged_by_its_snapshots(healthy: Database) -> None:
    archive(healthy)
    assert broken(judged(healthy, "2025-10", NOVEMBER)) == {}
    assert broken(judged(healthy, None, NOVEMBER)) == {}
    one = 'WHERE "memberId" = (SELECT min("memberId") FROM "MonthlySnapshot")'
    write(
        healthy,
        f"""UPDATE "MonthlySnapshot" SET "monthlyReferrals" = 900, "monthlyEarnings" = -5 {one}""",
    )
    assert broken(judged(healthy, None, NOVEMBER)) == {}
    assert set(broken(judged(healthy, "2025-10", NOVEMBER))) == {
        "monthly_sum_equals_referrals",
        "no_month_above_total",
        "no_negative_values",
        "earnings_equal_records",
    }


def test_a_past_month_without_snapshots_is_warned_of(healthy: Database) -> None:
    found = judged(healthy, "2025-09", NOVEMBER)
    assert set(broken(found)) == {"monthly_sum_equals_referrals", "earnings_equal_records"}
    assert found.valid
    with session(healthy) as connection:
        records = connection.execute(truth.members(OCTOBER.plus(-1))).all()
    finding = broken(found)["monthly_sum_equals_referrals"]
    assert finding.warnings == sum(row.referrals > 0 for row in records)
    assert finding.first[0].detail.startswith("no snapshot, records ")


def test_without_a_table_of_snapshots_a_past_month_cannot_be_judged(healthy: Database) -> None:
    write(healthy, 'DROP TABLE "MonthlySnapshot"')
    found = judged(healthy, "2025-09", NOVEMBER)
    failures = [finding for finding in found.findings if finding.failure]
    assert len(failures) == 4
    assert not found.valid
    assert judged(healthy).valid


def test_a_database_without_refunds_is_judged_without_them(app_without_refunds: Database) -> None:
    scope = scope_on(app_without_refunds, NOW.replace(tzinfo=UTC))
    assert consistency.judge(app_without_refunds, scope, RULES).valid
    assert not judged(app_without_refunds).valid


def test_a_month_that_has_not_begun_is_refused(app: Database) -> None:
    with pytest.raises(BadInput, match="2025-11 is in the future; the running month is 2025-10"):
        judged(app, "2025-11")


def test_an_empty_app_is_in_order(app: Database) -> None:
    assert broken(judged(app)) == {}


def test_no_address_is_in_the_answer(healthy: Database) -> None:
    write(healthy, *(statement for statement, _ in ALONE.values()))
    assert "@" not in str(judged(healthy).json())
