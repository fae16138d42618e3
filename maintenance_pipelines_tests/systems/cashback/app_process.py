"""The application as a process of its own, which works on its database and can be killed.

It is told what to do line by line: `begin`, `write`, `read`, `commit`, `exclusive`, `close`, or
`busy`, upon which it writes by itself until the next line. It answers each with one line. Run as
`python -m …app_process URL` with `sqlite:///PATH` or a PostgreSQL URL.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

PROJECT = Path(__file__).resolve().parents[3]
WRITE = "INSERT INTO payment (loan_id, amount, status) VALUES (1, 100.25, 'completed')"


class App:
    """The handle on such a process. Use it as a context manager; it ends with it."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=PROJECT,
        )
        assert self.answer() == "ready"

    def __enter__(self) -> App:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def tell(self, *lines: str) -> str:
        """Has it do one thing after another; returns the last answer."""
        answer = ""
        for line in lines:
            assert self.process.stdin is not None
            self.process.stdin.write(f"{line}\n")
            answer = self.answer()
        return answer

    def answer(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def figures(self) -> dict[str, Any]:
        """What it has done by itself since `busy`: writes, and refusals that it met."""
        found: dict[str, Any] = json.loads(self.tell("stop"))
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def _work(url: str) -> None:
    sqlite = url.startswith("sqlite")
    # Five seconds is what an application gets that asks for nothing in particular.
    options: dict[str, Any] = {"isolation_level": None} if sqlite else {"autocommit": True}
    engine = sa.create_engine(url, poolclass=sa.StaticPool, connect_args=options)
    connection = engine.connect()
    connection.exec_driver_sql("SELECT count(*) FROM loan").scalar_one()
    print("ready", flush=True)
    for line in sys.stdin:
        said = line.strip()
        if said == "busy":
            print("busy", flush=True)
            print(json.dumps(_busy(connection)), flush=True)
            continue
        if said == "close":
            connection.close()
            engine.dispose()
        elif said == "write":
            connection.exec_driver_sql(WRITE)
        elif said == "read":
            connection.exec_driver_sql("SELECT count(*) FROM payment").scalar_one()
        elif said == "spill":
            connection.exec_driver_sql("PRAGMA cache_size = 1")
            for _ in range(300):
                connection.exec_driver_sql(
                    "INSERT INTO payment (loan_id, amount, status, transaction_id)"
                    " VALUES (1, 1, 'completed', hex(randomblob(40)))"
                )
        else:
            connection.exec_driver_sql({"exclusive": "BEGIN EXCLUSIVE"}.get(said, said))
        print("done", flush=True)


def _busy(connection: sa.Connection) -> dict[str, int]:
    figures = {"written": 0, "refused": 0}
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        try:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(WRITE)
            connection.exec_driver_sql("UPDATE loan SET admin_notes = 'seen' WHERE id = 1")
            connection.exec_driver_sql("COMMIT")
            figures["written"] += 1
        except sa.exc.DBAPIError:
            connection.exec_driver_sql("ROLLBACK")
            figures["refused"] += 1
    sys.stdin.readline()
    return figures


if __name__ == "__main__":
    _work(sys.argv[1])
