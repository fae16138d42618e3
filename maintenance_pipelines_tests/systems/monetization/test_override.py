"""The override's value, read without trusting it: whatever it is, nothing is raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.override import OVERRIDE, override
from maintenance_pipelines.systems.monetization.schema import create_app_tables, global_config
from maintenance_pipelines_tests.support.clusters import Cluster
from maintenance_pipelines_tests.support.clusters import database as temporary
from maintenance_pipelines_tests.systems.monetization import people

NO_OBJECT = "its value is not an object"
NO_TIER = 'its "tier" is none of free, premium, premium_plus'
NO_EXPIRY = 'it has no "expires_at" that is a text'
NO_ZONE = 'its "expires_at" has no time zone'
NO_TIME = 'its "expires_at" is not a time'


@pytest.fixture(scope="module")
def shared(server: Cluster, worker_id: str) -> Iterator[Database]:
    """The app's tables, in which every test leaves no trace."""
    with temporary(server, f"test_{worker_id}") as name:
        made = Database.connect(server.url(name), "TEST_DATABASE_URL")
        with made.engine.begin() as connection:
            create_app_tables(connection, made.schema)
        yield made
        made.dispose()


def read(database: Database, value: str, time_zone: str = "UTC") -> sa.Row[Any]:
    """What is made of a value, in a session of some time zone."""
    with people.session(database, time_zone) as connection:
        spelled = sa.cast(sa.literal(value, sa.Text), global_config.c.value.type)
        connection.execute(global_config.insert().values(key=OVERRIDE, value=spelled))
        return connection.execute(override()).one()


def until(text: str) -> str:
    return f'{{"tier": "premium", "expires_at": "{text}"}}'


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2025-11-02T09:00:00.123456Z", datetime(2025, 11, 2, 9, 0, 0, 123456)),
        ("2025-11-02T09:00:00.000Z", datetime(2025, 11, 2, 9)),
        ("2025-11-02T09:00Z", datetime(2025, 11, 2, 9)),
        ("2025-11-02 09:00:00+00", datetime(2025, 11, 2, 9)),
        ("2025-11-02T10:30:00+0130", datetime(2025, 11, 2, 9)),
        ("2025-11-02T03:15:00-05:45", datetime(2025, 11, 2, 9)),
        ("2024-02-29T23:59:59z", datetime(2024, 2, 29, 23, 59, 59)),
    ],
)
def test_an_expiry_with_a_time_zone_is_read_as_what_it_is(
    shared: Database, text: str, means: datetime, zone: str
) -> None:
    found = read(shared, until(text), zone)
    assert (found.tier, found.complaint) == ("premium", None)
    assert found.expires_at == means.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("[]", NO_OBJECT),
        ("null", NO_OBJECT),
        ("true", NO_OBJECT),
        ('"{\\"tier\\": \\"premium\\"}"', NO_OBJECT),
        ("{}", NO_TIER),
        ('{"tier": null, "expires_at": "2025-11-02T09:00:00Z"}', NO_TIER),
        ('{"tier": "gold", "expires_at": "2025-11-02T09:00:00Z"}', NO_TIER),
        ('{"tier": ["premium"], "expires_at": "2025-11-02T09:00:00Z"}', NO_TIER),
        ('{"tier": "premium"}', NO_EXPIRY),
        ('{"tier": "premium", "expiresAt": "2025-11-02T09:00:00Z"}', NO_EXPIRY),
        ('{"tier": "premium", "expires_at": null}', NO_EXPIRY),
        ('{"tier": "premium", "expires_at": 1762074000}', NO_EXPIRY),
        (until("2025-11-02T09:00:00"), NO_ZONE),
        (until("2025-11-02 09:00"), NO_ZONE),
        (until(""), NO_TIME),
        (until("soon"), NO_TIME),
        (until("infinity"), NO_TIME),
        (until("2025-11-02"), NO_TIME),
        (until("2025-02-29T09:00:00Z"), NO_TIME),
        (until("2025-13-01T09:00:00Z"), NO_TIME),
        (until("2025-00-01T09:00:00Z"), NO_TIME),
        (until("2025-11-00T09:00:00Z"), NO_TIME),
        (until("0000-11-02T09:00:00Z"), NO_TIME),
        (until("2025-11-02T24:00:00Z"), NO_TIME),
        (until("2025-11-02T09:60:00Z"), NO_TIME),
        (until("2025-11-02T09:00:61Z"), NO_TIME),
        (until("2025-11-02T09:00:00+25:00"), NO_TIME),
        (until("2025-11-02T09:00:00+01:99"), NO_TIME),
        (until("2025-11-02T09:00:00Z and more"), NO_TIME),
        (until("02/11/2025 09:00Z"), NO_TIME),
        ('{"tier": "premium", "expires_at": "\\u0000"}', NO_OBJECT),
        ('{"tier": "\\ud800", "expires_at": "2025-11-02T09:00:00Z"}', NO_OBJECT),
    ],
)
def test_what_cannot_be_read_has_one_clear_complaint(
    shared: Database, value: str, complaint: str
) -> None:
    assert tuple(read(shared, value)) == (OVERRIDE, None, None, complaint)


def test_escapes_that_do_stand_for_a_character_are_no_complaint(shared: Database) -> None:
    value = (
        '{"tier": "\\u0070remium", "expires_at": "2025-11-02T09:00:00Z",'
        ' "note": "\\ud83d\\ude00 \\\\u0000"}'
    )
    assert read(shared, value).complaint is None


def test_a_key_given_twice_counts_as_it_does_for_the_app(shared: Database) -> None:
    value = (
        '{"tier": "gold", "tier": "premium", "expires_at": "x",'
        ' "expires_at": "2025-11-02T09:00:00Z"}'
    )
    assert read(shared, value).complaint is None


def test_another_key_of_the_configuration_is_none_of_ours(shared: Database) -> None:
    with people.session(shared) as connection:
        connection.execute(global_config.insert().values(key="theme", value="dark"))
        assert connection.execute(override()).all() == []


digits = st.integers(0, 99).map("{:02}".format)
times = st.builds(
    "{}-{}-{}{}{}:{}:{}{}".format,
    st.sampled_from(["2025", "2024", "0000", "1900", "9999", "0001"]),
    *(digits, digits, st.sampled_from(["T", " "]), digits, digits, digits),
    st.sampled_from(["Z", "", "+02:00", "-09", "+9999", ".5Z", ".1234567890Z", "+15:00"]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | times,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tier", "expires_at", "x"]), inner, max_size=3)
        | st.fixed_dictionaries({"tier": st.sampled_from(["premium", "x"]), "expires_at": inner})
    ),
    max_leaves=5,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(value=values)
def test_no_value_at_all_makes_the_reading_fail(shared: Database, value: object) -> None:
    found = read(shared, json.dumps(value))
    assert (found.complaint is None) == (found.expires_at is not None)
