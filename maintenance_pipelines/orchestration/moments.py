"""The job's *now*: a moment in UTC, never in the future."""

from __future__ import annotations

from datetime import UTC, datetime

from maintenance_pipelines.engine.refusals import BadInput


def utc_now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def as_of(text: str | None, now: datetime) -> datetime:
    """The moment that an ISO 8601 text names, UTC unless it says otherwise; `now` without one.

    Refuses what is malformed or lies after `now`.
    """
    if text is None:
        return now
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(
            f"{text!r} is not a moment in ISO 8601; write it like 2025-09-01T00:00:00Z."
        ) from None
    if moment > now:
        raise BadInput(f"{text} is in the future; now it is {now:%Y-%m-%dT%H:%M:%SZ}.")
    return moment
