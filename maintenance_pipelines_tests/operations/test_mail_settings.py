"""Where mails go out: read from two settings, refused by name."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations.smtp import Dialogue, MailServer
from maintenance_pipelines_tests.operations import readers
from maintenance_pipelines_tests.support.mailserver import Mailbox


@pytest.mark.parametrize(
    ("url", "host", "port", "encrypted"),
    [
        ("smtp://mail.example.com", "mail.example.com", 587, False),
        ("smtp://mail.example.com:25", "mail.example.com", 25, False),
        ("smtps://mail.example.com", "mail.example.com", 465, True),
        ("smtps://[::1]:2465", "::1", 2465, True),
    ],
)
def test_an_address_says_host_port_and_encryption(
    url: str, host: str, port: int, encrypted: bool
) -> None:
    server = MailServer.parse(url, readers.SENDER)
    assert (server.host, server.port, server.encrypted) == (host, port, encrypted)


def test_user_and_password_may_have_any_character_and_are_not_shown() -> None:
    server = MailServer.parse("smtp://a%40b:p%2Fw%3A@mail.example.com", readers.SENDER)
    assert (server.user, server.password) == ("a@b", "p/w:")
    assert "p/w" not in repr(server)


@pytest.mark.parametrize(
    "url", ["", "mail.example.com", "http://mail.example.com", "smtp://", "smtp://host:port"]
)
def test_what_is_no_address_of_a_mail_server_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Misconfigured, match="MAINTENANCE_SMTP_URL is not") as refusal:
        MailServer.parse(url or " ", readers.SENDER)
    assert "host:port" not in str(refusal.value)


@pytest.mark.parametrize("sender", ["", "nobody", "Name <>", "a@b, c@d", "Name <nobody>"])
def test_what_is_no_sender_is_refused(sender: str) -> None:
    with pytest.raises(Misconfigured, match="MAINTENANCE_MAIL_FROM is not"):
        MailServer.parse("smtp://mail.example.com", sender)


def test_a_password_is_not_sent_to_a_server_that_offers_no_encryption(mailbox: Mailbox) -> None:
    mailbox.extensions.append("AUTH PLAIN LOGIN")
    # Another name of this very machine, which does not say that the way there is safe.
    url = f"smtp://user:sesame@127.1:{mailbox.port}"
    with pytest.raises(Misconfigured, match="password is not sent") as refusal:
        Dialogue(MailServer.parse(url, readers.SENDER, 5))
    assert "sesame" not in str(refusal.value)
