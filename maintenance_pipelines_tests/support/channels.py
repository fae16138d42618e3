"""Real servers that alerts are sent to: HTTP as webhooks have it, and SMTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Hook:
    """A webhook's server. `status` is what it answers; `port` outlives a stop."""

    port: int
    status: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        """The channel as Apprise has it, with a token that nobody may see."""
        return f"json://127.0.0.1:{self.port}/s3cr3t-t0ken"

    @property
    def titles(self) -> list[str]:
        """The subjects, in the order in which they came."""
        return [each["title"] for each in self.received]

    def start(self) -> None:
        """Listens."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(hook.status)
                self.end_headers()
                if hook.status == 200:
                    hook.received.append(json.loads(body))

            def log_message(self, format: str, *arguments: object) -> None:
                """Keeps the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Does not listen any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def webhook() -> Iterator[Hook]:
    """A webhook that listens."""
    hook = Hook(free_port())
    hook.start()
    try:
        yield hook
    finally:
        hook.stop()


@dataclass
class Mailbox:
    """An SMTP server and the messages that it took."""

    port: int
    received: list[EmailMessage] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The channel as Apprise has it."""
        return f"mailto://127.0.0.1:{self.port}?from=maintenance@example.com&to=oncall@example.com"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Takes a message, as aiosmtpd hands it over."""
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """An SMTP server that listens."""
    box = Mailbox(free_port())
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
