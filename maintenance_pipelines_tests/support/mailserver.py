"""A mail server of the tests' own: it speaks SMTP over a socket, and misbehaves as it is told."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Literal

Stage = Literal["greeting", "mail", "rcpt", "data", "content", "answer"]
HANG, DIE, LEAVE, HOLD = "hang", "die", "leave", "hold"
"""What the server can do at a stage, beside answering with a line of its own: say nothing ever,
hang up at once, answer and then hang up, or answer only when the test lets it `go`.
"""


@dataclass
class Received:
    """A message that the server has got whole, whether or not it has said so."""

    recipient: str
    content: EmailMessage


@dataclass
class Mailbox:
    """What came in, and how the server is to behave.

    `script` has what it does at a stage, the next first; once that is used up it is friendly.
    `reached` is set when a scripted stage is reached, `over` when the server stops.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    script: dict[Stage, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    extensions: list[str] = field(default_factory=lambda: ["SMTPUTF8"])
    connections: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address."""
        return f"smtp://127.0.0.1:{self.port}"

    def then(self, stage: Stage, does: str, times: int = 1) -> None:
        """Next time, at that stage: a line like `451 4.7.1 Later`, or HANG or DIE."""
        self.script[stage].extend([does] * times)

    def recipients(self) -> list[str]:
        """To whom messages came in."""
        return sorted(message.recipient for message in self.received)


class _Dead(Exception):
    pass


@contextmanager
def mailserver() -> Iterator[Mailbox]:
    """A server that runs until the end."""
    mailbox = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(_Dead, OSError):
                _Session(mailbox, self).serve()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        mailbox.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield mailbox
        finally:
            mailbox.over.set()
            server.shutdown()
            thread.join()


class _Session:
    def __init__(self, mailbox: Mailbox, handler: socketserver.StreamRequestHandler) -> None:
        self.mailbox, self.handler = mailbox, handler
        self.recipient = ""

    def serve(self) -> None:
        self.mailbox.connections += 1
        self._answer("greeting", "220 ready")
        while line := self.handler.rfile.readline():
            words = line.decode().strip()
            match words.upper().split(":")[0].split(" ")[0]:
                case "EHLO":
                    lines = ["test", *self.mailbox.extensions]
                    last = len(lines) - 1
                    for place, text in enumerate(lines):
                        self._say(f"250{' ' if place == last else '-'}{text}")
                case "MAIL":
                    self._answer("mail", "250 fine")
                case "RCPT":
                    self.recipient = words.partition("<")[2].partition(">")[0]
                    self._answer("rcpt", "250 fine")
                case "DATA":
                    if self._answer("data", "354 go on"):
                        self._take_message()
                case "QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("250 fine")

    def _take_message(self) -> None:
        lines: list[bytes] = []
        while (line := self.handler.rfile.readline()) != b".\r\n":
            if not line:
                raise _Dead
            if len(lines) == 2:
                self._misbehave("content")
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        if self.mailbox.script["answer"] and self.mailbox.script["answer"][0][:1] in "45":
            self._answer("answer", "")
            return
        content = message_from_bytes(b"".join(lines), policy=default)
        assert isinstance(content, EmailMessage)
        self.mailbox.received.append(Received(self.recipient, content))
        self._answer("answer", "250 queued")

    def _answer(self, stage: Stage, kindly: str) -> bool:
        """Says what is to be said at a stage; whether it was the friendly answer."""
        said = self._misbehave(stage)
        if said == LEAVE:
            self._say(kindly)
            self._hang_up()
        self._say(said or kindly)
        return said is None

    def _misbehave(self, stage: Stage) -> str | None:
        script = self.mailbox.script[stage]
        if not script:
            return None
        does = script.popleft()
        self.mailbox.reached.set()
        if does == HANG:
            self.mailbox.over.wait(30)
            raise _Dead
        if does == DIE:
            self._hang_up()
        if does == HOLD:
            self.mailbox.go.wait(30)
            return None
        return does

    def _hang_up(self) -> None:
        self.handler.connection.shutdown(socket.SHUT_RDWR)
        raise _Dead

    def _say(self, line: str) -> None:
        self.handler.wfile.write(f"{line}\r\n".encode())
