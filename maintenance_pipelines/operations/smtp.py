"""SMTP: one dialogue with a mail server, in steps that say exactly when a message is handed over.

Until the server has said 354 to `DATA` it has nothing, and whatever happens the mail can be tried
again. Once the message is on its way, only the server's answer tells what became of it.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from dataclasses import dataclass, field
from email.errors import NonASCIILocalPartDefect
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import Any
from urllib.parse import unquote, urlsplit

from maintenance_pipelines.engine.refusals import Misconfigured

PORTS = {"smtp": 587, "smtps": 465}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")


class Refused(Exception):
    """The server has said no. Its text is the code: the words may quote an address."""

    def __init__(self, code: int, words: bytes) -> None:
        status = STATUS.match(words.decode("ascii", "replace"))
        super().__init__(f"SMTP {code}{f' {status[0]}' if status else ''}")
        self.permanent = code >= 500
        self.closing = code == 421


class Lost(Exception):
    """The dialogue has broken: no connection, no answer in time, or none that makes sense."""


@dataclass(frozen=True)
class MailServer:
    """Where mails go out, and who they are from. `timeout_s` bounds each wait for an answer."""

    host: str
    port: int
    encrypted: bool
    sender: Address
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 30.0

    @classmethod
    def parse(cls, url: str, sender: str, timeout_s: float = 30.0) -> MailServer:
        """From `MAINTENANCE_SMTP_URL` (`smtp://user:password@host:587`, or `smtps://` where TLS
        comes first) and `MAINTENANCE_MAIL_FROM` (`Name <address>`); refuses bad ones by name.
        """
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
        except ValueError:
            host, port = None, None
            parts = urlsplit("")
        if parts.scheme not in PORTS or not host or not port:
            raise Misconfigured(
                "MAINTENANCE_SMTP_URL is not the address of a mail server; write it like "
                "smtp://user:password@host:587, or smtps://… where TLS comes first."
            )
        own = only_address(sender)
        if own is None:
            raise Misconfigured(
                "MAINTENANCE_MAIL_FROM is not a sender; write it like "
                "Trading Journal <no-reply@example.com>."
            )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(host, port, parts.scheme == "smtps", own, user, password, timeout_s)


@dataclass(frozen=True)
class Message:
    """A message, and the bare address that it goes to."""

    recipient: str
    content: EmailMessage


def only_address(text: str) -> Address | None:
    """The one address that a text is, with its name; None where it is none, or several."""
    if not text.strip().isprintable():
        return None
    header: Any = HeaderRegistry()("To", text.strip())
    addresses: tuple[Address, ...] = header.addresses
    faults = [one for one in header.defects if not isinstance(one, NonASCIILocalPartDefect)]
    if faults or len(addresses) != 1 or not (addresses[0].username and addresses[0].domain):
        return None
    return addresses[0]


class Dialogue:
    """One connection, over which mails go one after the other."""

    def __init__(self, server: MailServer) -> None:
        """Connects, turns encryption on where the server offers it, and logs in.

        Raises `Lost` where there is no dialogue to be had, `Misconfigured` where the password
        would be readable on its way or is not accepted.
        """
        self.server = server
        self.served = 0
        """Mails to which the server has said yes or no."""
        try:
            self._smtp = self._connect()
        except Refused as refusal:
            raise Lost(str(refusal)) from None
        except (smtplib.SMTPException, OSError) as error:
            raise Lost(type(error).__name__) from None

    def offer(self, recipient: str) -> None:
        """Goes as far as the server's word that it is ready for a message to that address.

        Raises `Refused` or `Lost`; in either case the server has nothing.
        """
        self.served += 1
        options = [] if recipient.isascii() else ["SMTPUTF8"]
        if options and not self._smtp.has_extn("smtputf8"):
            raise Refused(553, b"5.6.7")
        try:
            self._expect(250, *self._smtp.mail(self.server.sender.addr_spec, options))
            self._expect(250, *self._smtp.rcpt(recipient))
            self._expect(354, *self._smtp.docmd("DATA"))
        except Refused as refusal:
            self._reset(refusal)
            raise
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Lost(type(error).__name__) from None

    def hand_over(self, message: Message) -> None:
        """Sends the message and waits for the answer; returns where it has been accepted.

        Raises `Refused` where the server has declined it, `Lost` where nobody knows.
        """
        policy = SMTP if message.recipient.isascii() else SMTPUTF8
        lines = message.content.as_bytes(policy=policy).removesuffix(b"\r\n") + b"\r\n"
        try:
            self._smtp.send(re.sub(rb"(?m)^\.", b"..", lines) + b".\r\n")
            self._expect(250, *self._smtp.getreply())
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Lost(type(error).__name__) from None

    @property
    def closed(self) -> bool:
        """Whether either side has hung up, as far as is known."""
        return self._smtp.sock is None

    def close(self) -> None:
        """Hangs up, whatever state it is in. A message that was not handed over is then nothing."""
        self._smtp.close()

    def goodbye(self) -> None:
        """Ends the dialogue as one should."""
        try:
            self._smtp.quit()
        except (smtplib.SMTPException, OSError):
            self.close()

    def _connect(self) -> smtplib.SMTP:
        server, context = self.server, ssl.create_default_context()
        own_name = server.sender.domain
        if server.encrypted:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, own_name, timeout=server.timeout_s, context=context
            )
        else:
            smtp = smtplib.SMTP(server.host, server.port, own_name, timeout=server.timeout_s)
        try:
            smtp.ehlo_or_helo_if_needed()
            if not server.encrypted and smtp.has_extn("starttls"):
                smtp.starttls(context=context)
                smtp.ehlo()
            elif server.password and not server.encrypted and server.host not in LOOPBACK:
                raise Misconfigured(
                    "The mail server offers no encryption, so the password is not sent; use "
                    "smtps:// in MAINTENANCE_SMTP_URL, or leave the password out."
                )
            if server.user:
                self._login(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _login(self, smtp: smtplib.SMTP) -> None:
        try:
            smtp.login(self.server.user, self.server.password)
        except smtplib.SMTPAuthenticationError:
            raise Misconfigured(
                "The mail server does not accept the user name and password in "
                "MAINTENANCE_SMTP_URL."
            ) from None

    def _expect(self, wanted: int, code: int, words: bytes) -> None:
        if code == wanted or (wanted == 250 and code == 251):
            return
        if not 400 <= code <= 599:
            raise smtplib.SMTPException
        raise Refused(code, words)

    def _reset(self, refusal: Refused) -> None:
        """Makes ready for another mail, or hangs up."""
        try:
            if not refusal.closing:
                self._expect(250, *self._smtp.rset())
                return
        except (smtplib.SMTPException, OSError, Refused):
            pass
        self.close()
