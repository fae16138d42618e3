"""Who is put off: whoever has been counted a moment ago, where a counter is to be set."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.units import Units
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines.systems.referrals.schema import creator, member
from maintenance_pipelines.systems.referrals.webhook import Webhook, utc_now
from maintenance_pipelines_tests.systems.referrals.live import Traffic
from maintenance_pipelines_tests.systems.referrals.loading import session, write

AGO = timedelta(seconds=20)


def busy(job: Job, database: Database, scope: Scope) -> set[str]:
    """Those who would be put off, of everybody."""
    assert isinstance(job.change, Units)
    found: set[str] = set()
    with session(database) as connection:
        for part, table in zip(job.change.parts, (member, creator), strict=True):
            assert part.busy is not None
            among = sa.select(table.c.id).subquery("among")
            found |= set(connection.scalars(part.busy(scope, among)))
    return found


@pytest.fixture
def traffic(app: Database, app_url: str) -> Traffic:
    made = Traffic(app, app_url)
    made.populate(members=3)
    return made


def event(url: str, traffic: Traffic, what: str) -> None:
    """Something that the app counted twenty seconds ago."""
    with psycopg.connect(url, autocommit=True) as connection:
        hook = Webhook(connection, clock=lambda: utc_now() - AGO)
        if what == "payment":
            ((payer,),) = connection.execute(PAYER).fetchall()
            hook.pay(payer, 990, "lately")
        elif what == "refund":
            hook.refund("before 0")
        else:
            hook.sign_up("c1", by="m0")


PAYER = """SELECT id FROM "Member" WHERE "referredBy" = 'm0' """


@pytest.mark.parametrize(
    ("what", "who"),
    [("payment", {"m0", "c1"}), ("refund", {"m0", "c1"}), ("referral", {"m0"})],
)
def test_a_payment_a_refund_and_a_referral_make_busy(
    traffic: Traffic, app_url: str, what: str, who: set[str]
) -> None:
    event(app_url, traffic, what)
    scope, running = traffic.scope(settle_seconds=120), traffic.running(settle_seconds=120)
    assert busy(monthly_stats_reset, traffic.database, scope) == who
    assert busy(monthly_stats_recalculation, traffic.database, running) == who


@pytest.mark.parametrize("seconds", [10, 0])
def test_nobody_is_busy_who_has_settled_or_where_it_is_switched_off(
    traffic: Traffic, app_url: str, seconds: int
) -> None:
    for what in ("payment", "refund", "referral"):
        event(app_url, traffic, what)
    scope = traffic.scope(settle_seconds=seconds)
    assert busy(monthly_stats_reset, traffic.database, scope) == set()


def test_where_no_counter_is_to_be_set_nobody_is_busy(traffic: Traffic, app_url: str) -> None:
    event(app_url, traffic, "payment")
    write(
        traffic.database,
        f"""UPDATE "Member" SET "lastMonthReset" = '{traffic.closed.end}'""",
        f"""UPDATE "Creator" SET "lastMonthReset" = '{traffic.closed.end}'""",
    )
    scope = traffic.scope(settle_seconds=120)
    assert busy(monthly_stats_reset, traffic.database, scope) == set()
    assert busy(monthly_stats_recalculation, traffic.database, scope) == set()


def test_without_a_table_of_refunds_none_is_looked_at(
    app_without_refunds: Database, app_url: str
) -> None:
    traffic = Traffic(app_without_refunds, app_url)
    traffic.populate(members=1)
    event(app_url, traffic, "payment")
    scope = traffic.scope(settle_seconds=120, ignore_refunds=True)
    assert busy(monthly_stats_reset, app_without_refunds, scope) == {"m0", "c1"}
