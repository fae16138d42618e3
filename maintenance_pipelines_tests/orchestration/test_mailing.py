"""The asset and the verb that send a system's mails."""

from __future__ import annotations

import dagster as dg
import pytest

from maintenance_pipelines.definitions import build
from maintenance_pipelines.engine import applying, planning
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.planning import Request
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.orchestration.moments import utc_now
from maintenance_pipelines.orchestration.posting import send
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.systems.monetization import demo
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.trials import trial_reminder
from maintenance_pipelines_tests.conftest import MakeDatabase, MakeUrl
from maintenance_pipelines_tests.support.mailserver import mailserver


@pytest.fixture
def queued(make_database: MakeDatabase, make_url: MakeUrl, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many reminders a run has put into the outbox of the demo's database."""
    url = make_url()
    monkeypatch.setenv("MONETIZATION_DATABASE_URL", url)
    database = make_database(url)
    with database.transaction() as connection:
        demo.build(connection, "public")
    now = utc_now()
    scope = Scope(now, None, MonetizationOptions())
    run = planning.plan(trial_reminder, database, scope, Request("ann"))
    return applying.apply(trial_reminder, database, run, Order())[0].applied


def test_without_a_mail_server_nothing_goes_out(queued: int) -> None:
    maintenance = Maintenance()
    with (
        maintenance.database("monetization") as database,
        pytest.raises(Misconfigured, match="MAINTENANCE_SMTP_URL"),
    ):
        send(maintenance, "monetization", database)


def test_the_asset_sends_what_is_due_and_says_how_many(
    queued: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mailserver() as mailbox:
        monkeypatch.setenv("MAINTENANCE_SMTP_URL", mailbox.url)
        maintenance = Maintenance()
        job = build(maintenance).resolve_job_def("monetization_mails")
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(instance=instance)
    (event,) = result.get_asset_materialization_events()
    sent = event.materialization.metadata["sent"].value
    assert queued > 0
    assert sent == len(mailbox.received) == queued
