"""The mails of a system's outbox as an asset: what is due is sent, each mail once."""

import dagster as dg

from maintenance_pipelines.engine.refusals import Unreachable
from maintenance_pipelines.orchestration.endings import Results, refusals_fail_the_run
from maintenance_pipelines.orchestration.posting import send
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.orchestration.schedules import status

EVERY_TEN_MINUTES = "*/10 * * * *"


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
            delivery = send(maintenance, system, database)
            numbers = {name: n for name, n in delivery.json().items() if isinstance(n, int)}
            yield dg.MaterializeResult(metadata=numbers)
            if delivery.trouble is not None:
                raise Unreachable(delivery.trouble)

    return sent_mails


def mails_schedule(system: str, on: bool) -> dg.ScheduleDefinition:
    """Every ten minutes, and with it the Dagster job; skipped while no mail server is set."""
    job = dg.define_asset_job(
        f"{system}_mails",
        selection=[dg.AssetKey([system, "sent_mails"])],
        description=f"Sends the mails that are due in the outbox of {system}.",
    )

    @dg.schedule(
        name=f"{system}_mails_schedule",
        job=job,
        cron_schedule=EVERY_TEN_MINUTES,
        execution_timezone="UTC",
        default_status=status(on),
    )
    def send_mails(
        context: dg.ScheduleEvaluationContext, maintenance: dg.ResourceParam[Maintenance]
    ) -> dg.RunRequest | dg.SkipReason:
        if maintenance.settings().smtp_url is None:
            return dg.SkipReason("MAINTENANCE_SMTP_URL is not set: no mail goes out.")
        return dg.RunRequest()

    return send_mails
