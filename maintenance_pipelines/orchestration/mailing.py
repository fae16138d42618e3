"""The mails of a system's outbox as an asset: what is due is sent, each mail once."""

from collections.abc import Iterator

import dagster as dg

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured, Unreachable
from maintenance_pipelines.operations.outbox import Delivery, send_due
from maintenance_pipelines.operations.smtp import MailServer
from maintenance_pipelines.orchestration.endings import refusals_fail_the_run
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.settings import Settings
from maintenance_pipelines.systems import registry

EVERY_TEN_MINUTES = "*/10 * * * *"

Results = Iterator[dg.MaterializeResult[None]]


def send(settings: Settings, system: str, database: Database, maintenance: Maintenance) -> Delivery:
    """Sends what is due of a system's mails; refuses where no mail server is set."""
    if settings.smtp_url is None:
        raise Misconfigured(
            "MAINTENANCE_SMTP_URL is not set, so no mail goes out; write it like "
            "smtp://user:password@host:587, or smtps://… where TLS comes first."
        )
    server = MailServer.parse(settings.smtp_url.get_secret_value(), settings.mail_from)
    ledger.ensure(database)
    return send_due(database, registry.LETTERS[system], server, maintenance.clock())


def mails_asset(system: str) -> dg.AssetsDefinition:
    """The asset `<system>/sent_mails`; its metadata are the numbers of the delivery."""

    @dg.asset(
        key=dg.AssetKey([system, "sent_mails"]),
        group_name=system,
        description=f"The mails that are due in the outbox of {system}, sent by SMTP.",
    )
    def sent_mails(
        context: dg.AssetExecutionContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> Results:
        with refusals_fail_the_run(), maintenance.database(system) as database:
            delivery = send(maintenance.settings(), system, database, maintenance)
            numbers = {name: n for name, n in delivery.json().items() if isinstance(n, int)}
            yield dg.MaterializeResult(metadata=numbers)
            if delivery.trouble is not None:
                raise Unreachable(delivery.trouble)

    return sent_mails


def mails_schedule(system: str) -> dg.ScheduleDefinition:
    """Every ten minutes, stopped until somebody starts it, and with it the Dagster job."""
    job = dg.define_asset_job(
        f"{system}_mails",
        selection=[dg.AssetKey([system, "sent_mails"])],
        description=f"Sends the mails that are due in the outbox of {system}.",
    )
    return dg.ScheduleDefinition(
        name=f"{system}_mails_schedule",
        job=job,
        cron_schedule=EVERY_TEN_MINUTES,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
