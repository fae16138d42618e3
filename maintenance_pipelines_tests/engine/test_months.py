"""Months as partitions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance_pipelines.engine.months import Month, Months
from maintenance_pipelines.engine.refusals import BadInput

NOW = datetime(2025, 9, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2025", "2025-8", "2025-13", "2025-00", "25-08", "2025/08", "2025-08-01"),
        *(" 2025-08", "2025-08\n", "0000-01", "-2025-08", "\u0662\u0660\u0662\u0665-08"),
    ],
)
def test_what_is_not_a_month_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="write it as YYYY-MM, like 2025-08"):
        Month.parse(text)


@given(st.integers(1, 9998), st.integers(1, 12))
def test_a_month_is_read_as_it_is_written(year: int, number: int) -> None:
    assert Month.parse(str(Month(year, number))) == Month(year, number)


@given(st.integers(500, 9000), st.integers(1, 12), st.integers(-5000, 5000))
def test_months_later_and_earlier_lead_back(year: int, number: int, months: int) -> None:
    month = Month(year, number)
    assert month.plus(months).plus(-months) == month
    assert (month.plus(months) > month) == (months > 0)


@given(st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1)))
def test_a_month_is_half_open(moment: datetime) -> None:
    month = Month.of(moment)
    assert month.start <= moment < month.end
    assert month.end == month.plus(1).start


def test_december_ends_with_the_year() -> None:
    assert Month.parse("2024-12").end == datetime(2025, 1, 1)
    assert Month.parse("2025-01").plus(-1) == Month(2024, 12)


def test_the_partitions_reach_from_the_first_to_the_running_month() -> None:
    months = Months(since="2024-11").until(datetime(2025, 2, 28, 23, 59, tzinfo=UTC))
    assert [str(month) for month in months] == ["2024-11", "2024-12", "2025-01", "2025-02"]
    assert Months(since="2025-10").until(NOW) == []


def test_the_running_month_is_a_partition_and_the_next_is_not() -> None:
    assert Months("2025-01").check("2025-09", NOW) == Month(2025, 9)
    with pytest.raises(BadInput, match="2025-10 is in the future; the last one is 2025-09"):
        Months("2025-01").check("2025-10", NOW)


def test_a_month_before_the_first_is_refused() -> None:
    assert Months("2025-01").check("2025-01", NOW) == Month(2025, 1)
    with pytest.raises(BadInput, match="2024-12 is before 2025-01"):
        Months("2025-01").check("2024-12", NOW)
