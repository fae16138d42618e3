"""The job's now: to the microsecond, in UTC, never in the future."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.orchestration.moments import as_of

NOW = datetime(2025, 11, 2, 9, 0, 0, 123456, UTC)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2025-11-02T09:00:00.000001Z", 1),
        ("2025-11-02T04:00:00.000001-05:00", 1),
        ("2025-11-02T09:00:00.000001", 1),
        ("2025-11-02T09:00", 0),
    ],
)
def test_a_moment_is_read_to_the_microsecond_in_utc(text: str, microsecond: int) -> None:
    assert as_of(text, NOW) == datetime(2025, 11, 2, 9, 0, 0, microsecond, UTC)


def test_without_one_it_is_now() -> None:
    assert as_of(None, NOW) == NOW


@pytest.mark.parametrize("text", ["2025-11-02T09:00:00.123457Z", "2026-01-01", "soon"])
def test_the_future_and_the_unreadable_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=text):
        as_of(text, NOW)
