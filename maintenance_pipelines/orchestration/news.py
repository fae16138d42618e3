"""What a watch has to say: an alert, or that a cause is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from maintenance_pipelines.operations import alert_book
from maintenance_pipelines.operations.alerts import Alert


@dataclass(frozen=True)
class Passed:
    """A cause that is over, and how one knows."""

    cause: str
    says: str


def enter(connection: sa.Connection, news: Alert | Passed, now: datetime) -> None:
    """Writes an alert or a recovery into the book."""
    if isinstance(news, Alert):
        alert_book.raise_(connection, news, now)
    else:
        alert_book.recover(connection, news.cause, now, news.says)
