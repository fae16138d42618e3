"""Letters: what a system declares about a kind of mail, and the message that it becomes.

The outbox knows ids only. Whom a mail goes to, and whether it still should, is read from the app's
tables at the moment of sending, and goes nowhere but into the message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from functools import cached_property
from typing import Any

import jinja2
from sqlalchemy import FromClause, Select

ADDRESS, WITHHELD = "address", "withheld"
"""The columns that every letter's recipients have."""


@dataclass(frozen=True)
class Letter:
    """A kind of mail.

    `recipients` is given the moment of sending and mails of the outbox (`id`, `stage`, `subject`,
    `deadline`); it selects, for each whose recipient still exists, `id`, `address`, `withheld`
    (why it is not to be sent any more, NULL where it is) and what the templates speak of.

    `package` has the templates in its folder `templates`: `<kind>.txt.j2` and `<kind>.html.j2`.
    `title` is the template of the subject line. All three know the recipients' columns but the
    address, `stage` and `deadline`, and the filter `moment`.
    """

    kind: str
    title: str
    package: str
    recipients: Callable[[datetime, FromClause], Select[Any]]

    def write(self, facts: Mapping[str, Any]) -> EmailMessage:
        """The message for a recipient, without sender and recipient."""
        message = EmailMessage()
        message["Subject"] = self._templates.from_string(self.title).render(facts)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self._render("txt", facts))
        message.add_alternative(self._render("html", facts), subtype="html")
        return message

    def _render(self, form: str, facts: Mapping[str, Any]) -> str:
        return self._templates.get_template(f"{self.kind}.{form}.j2").render(facts)

    @cached_property
    def _templates(self) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader(self.package),
            autoescape=lambda name: name is not None and name.endswith(".html.j2"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["moment"] = in_words
        return environment


def in_words(moment: datetime) -> str:
    """A moment (UTC) as people write it, `2 November 2025, 09:00 UTC`."""
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
