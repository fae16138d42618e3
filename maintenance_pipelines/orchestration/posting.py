"""Posting: what is due in a system's outbox goes out by the mail server of the settings."""

from __future__ import annotations

from maintenance_pipelines.engine import ledger
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations.outbox import Delivery, send_due
from maintenance_pipelines.operations.smtp import MailServer
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.systems import registry


def send(maintenance: Maintenance, system: str, database: Database) -> Delivery:
    """Sends what is due of a system's mails; refuses where no mail server is set."""
    settings = maintenance.settings()
    if settings.smtp_url is None:
        raise Misconfigured(
            "MAINTENANCE_SMTP_URL is not set, so no mail goes out; write it like "
            "smtp://user:password@host:587, or smtps://… where TLS comes first."
        )
    server = MailServer.parse(settings.smtp_url.get_secret_value(), settings.mail_from)
    ledger.ensure(database)
    return send_due(database, registry.LETTERS[system], server, maintenance.clock())
