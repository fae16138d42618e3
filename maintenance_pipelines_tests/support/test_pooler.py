"""The pooler breaks what it is there to break, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from maintenance_pipelines_tests.support.pooler import PROGRAMS, pooler


@pytest.fixture(params=PROGRAMS)
def pooled_url(request: pytest.FixtureRequest, app_url: str) -> Iterator[str]:
    with pooler(app_url, request.param) as running:
        yield running.url


@pytest.fixture
def strict_url(app_url: str) -> Iterator[str]:
    with pooler(app_url) as running:
        yield running.url


def test_a_transaction_keeps_one_session(pooled_url: str) -> None:
    with psycopg.connect(pooled_url, connect_timeout=5, prepare_threshold=None) as connection:
        pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for _ in range(5)}
    assert len(pids) == 1


def test_transactions_of_one_client_use_the_sessions_in_turn(strict_url: str) -> None:
    with psycopg.connect(
        strict_url, connect_timeout=5, prepare_threshold=None, autocommit=True
    ) as connection:
        pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for _ in range(6)}
    assert len(pids) == 2


def test_a_session_setting_is_gone_in_another_transaction(strict_url: str) -> None:
    with psycopg.connect(
        strict_url, connect_timeout=5, prepare_threshold=None, autocommit=True
    ) as connection:
        connection.execute("SET application_name = 'mine'")
        seen = {connection.execute("SHOW application_name").fetchone() for _ in range(6)}
    assert len(seen) == 2


def test_a_transaction_left_open_is_rolled_back_when_its_client_goes(
    pooled_url: str, app_url: str
) -> None:
    with psycopg.connect(app_url, connect_timeout=5, autocommit=True) as direct:
        direct.execute("CREATE TABLE t (n int)")
        client = psycopg.connect(pooled_url, connect_timeout=5, prepare_threshold=None)
        client.execute("INSERT INTO t VALUES (1)")
        client.pgconn.finish()
        with psycopg.connect(pooled_url, connect_timeout=5, prepare_threshold=None) as other:
            other.execute("LOCK TABLE t")
            assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_rows_and_copies_of_any_size_pass_through(pooled_url: str) -> None:
    with psycopg.connect(pooled_url, connect_timeout=5, prepare_threshold=None) as connection:
        connection.execute("CREATE TEMP TABLE t (n int, text text) ON COMMIT DROP")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for n in range(5_000):
                copy.write_row((n, "x" * 100))
        rows = connection.execute("SELECT n, text FROM t ORDER BY n").fetchall()
    assert len(rows) == 5_000
    assert rows[-1] == (4_999, "x" * 100)


def test_more_clients_than_sessions_wait_for_their_turn(pooled_url: str) -> None:
    clients = [
        psycopg.connect(pooled_url, connect_timeout=5, prepare_threshold=None, autocommit=True)
        for _ in range(8)
    ]
    for round_ in range(3):
        for client in clients:
            assert client.execute("SELECT %s::int", [round_]).fetchone() == (round_,)
    for client in clients:
        client.close()
