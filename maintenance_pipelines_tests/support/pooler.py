"""A transaction pooler in front of a test database: a strict one of our own, or pgbouncer.

Our own hands every transaction to the other of two server sessions and resets nothing in
between, so that whatever relies on session state fails. pgbouncer is the real thing, where it
is installed, but lets a lone client have the same session again and again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines_tests.support.own_pooler import OwnPooler

OWN = "own"
PROGRAMS = (OWN, "pgbouncer")

_PGBOUNCER = """
[databases]
{database} = host={host} port={server_port} dbname={database} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_round_robin = 1
ignore_startup_parameters = extra_float_digits,options
"""


@dataclass(frozen=True)
class Pooler:
    """A running pooler; `url` is the address that clients use instead of the database's."""

    url: str


@contextmanager
def pooler(url: str, program: str = OWN) -> Iterator[Pooler]:
    """Pools the database at a URL that names a socket's folder, with one of `PROGRAMS`."""
    address = sa.make_url(url)
    if "host" not in address.query:
        pytest.skip("the pooler needs the server's socket")
    found = shutil.which(program)
    if program != OWN and found is None:
        pytest.skip(f"{program} is not installed")
    with _pgbouncer(address, found) if found else _own(address) as port:
        public = address.set(host="127.0.0.1", port=port, query={})
        yield Pooler(public.render_as_string(hide_password=False))


@contextmanager
def _own(address: sa.URL) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    ready: list[int] = []
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        where = f"{address.query['host']}/.s.PGSQL.{address.query.get('port', '5432')}"
        serving = OwnPooler(where, address.username or "postgres", address.database or "")
        listening = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
        ready.append(listening.sockets[0].getsockname()[1])
        started.set()
        await stop.wait()
        listening.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="pooler", daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@contextmanager
def _pgbouncer(address: sa.URL, program: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = str(address.query["host"])
    # It refuses root too; the owner of the server's socket may connect to it.
    owner = Path(host).stat()
    identity: dict[str, Any] = (
        {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        if os.geteuid() == 0
        else {}
    )
    with tempfile.TemporaryDirectory(prefix="maintenance-pooler-") as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            _PGBOUNCER.format(
                database=address.database,
                host=host,
                server_port=address.query.get("port", "5432"),
                port=port,
                user=address.username,
            )
        )
        process = subprocess.Popen(
            [program, "--quiet", settings],
            **identity,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
