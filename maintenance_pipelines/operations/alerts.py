"""What an alert says: what happened, what was and was not written, which run, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from maintenance_pipelines.engine.faults import E_MAIL

HOUSE = "maintenance"
"""The system of an alert that is about this project itself and not about one of the systems."""

ADDRESS = re.compile(r"\b[A-Za-z][\w+.-]*://\S+")
SECRET = re.compile(
    r"(?i)\b([\w-]*(?:password|passwd|pwd|secret|token|api[_-]?key))\b(\s*[=:]\s*)\S+"
)


class Severity(StrEnum):
    """How much it matters: somebody has to act, should look, or may want to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Alert:
    """One thing that is off, or worth knowing.

    `cause` identifies it: as long as it lasts it is told once, and again where `changes` is
    another text than before. What is not `lasting` cannot pass: it is told once, without a
    recovery. `run` is the ledger's id or Dagster's; `next_step` a command.
    """

    cause: str
    severity: Severity
    system: str
    title: str
    happened: str
    written: str = "Nothing was written."
    run: str = ""
    next_step: str = "./maintenance runs"
    link: str = ""
    changes: str = ""
    lasting: bool = field(default=True, compare=False)

    @property
    def subject(self) -> str:
        """The alert in one line."""
        return scrub(f"{self.severity.upper()} {self.system}: {self.title}")

    @property
    def body(self) -> str:
        """The alert in full, as plain text without anything secret or personal."""
        lines = [
            ("What happened", scrub(self.happened)),
            ("What was written", scrub(self.written)),
            ("Run", scrub(self.run)),
            ("Next", scrub(self.next_step)),
            # The only address that an alert may hold; it comes from the settings, for that purpose.
            ("See", self.link),
        ]
        return "\n".join(f"{name}: {text}" for name, text in lines if text)


def scrub(text: str) -> str:
    """A text without addresses of any kind, e-mail addresses, passwords and tokens."""
    text = ADDRESS.sub("<address>", text)
    text = E_MAIL.sub("<e-mail>", text)
    return SECRET.sub(r"\1\2<hidden>", text)
