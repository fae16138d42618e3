"""Which channels an alert goes to, by its system and severity, as the settings have it.

The most specific variable that is set decides: `BENEFITS_ALERTS_ERRORS`, `BENEFITS_ALERTS`,
`MAINTENANCE_ALERTS_ERRORS`, `MAINTENANCE_ALERTS`, for errors of the system benefits. Each holds
addresses as Apprise has them, with spaces between; `none` keeps silent.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.operations.alerts import HOUSE, Severity
from maintenance_pipelines.settings import Settings

VARIABLE = "ALERTS"
SILENCE = "none"


@dataclass(frozen=True)
class Channel:
    """One place where alerts go. `name` is a digest: the address holds tokens and passwords."""

    name: str
    service: str
    address: str = field(repr=False)


@dataclass(frozen=True)
class Routes:
    """The channels by variable."""

    channels: dict[str, tuple[Channel, ...]] = field(repr=False)

    @classmethod
    def load(cls, settings: Settings, systems: Iterable[str]) -> Routes:
        """Reads the variables; refuses an address that Apprise does not know, by its place."""
        found: dict[str, tuple[Channel, ...]] = {}
        for system in {HOUSE, *systems}:
            for variable in _variables(system, list(Severity)):
                secret = settings.variables.get(variable)
                if secret is not None:
                    found[variable] = tuple(_read(variable, secret.get_secret_value()))
        return cls(found)

    def of(self, system: str, severity: Severity) -> tuple[Channel, ...]:
        """Where an alert goes; nowhere where nothing is set."""
        chain = [*_variables(system, [severity]), *_variables(HOUSE, [severity])]
        return next((self.channels[name] for name in chain if name in self.channels), ())

    def all(self) -> dict[str, Channel]:
        """Every channel once, by its name."""
        return {each.name: each for some in self.channels.values() for each in some}


def _variables(system: str, severities: Iterable[Severity]) -> list[str]:
    general = f"{system.upper()}_{VARIABLE}"
    return [*(f"{general}_{severity.upper()}S" for severity in severities), general]


def keep_silent() -> None:
    """Keeps Apprise, and what it sends with, from writing the addresses into any log."""
    apprise = logging.getLogger("apprise")
    apprise.propagate = False
    apprise.setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)


def _read(variable: str, text: str) -> Iterator[Channel]:
    # Importing Apprise takes a moment, which verbs that tell nobody anything should not cost.
    from apprise import Apprise

    if text.strip().lower() == SILENCE:
        return
    keep_silent()
    for place, address in enumerate(text.split(), start=1):
        service = Apprise.instantiate(address, suppress_exceptions=True)
        if service is None:
            raise Misconfigured(
                f"{variable}: its address number {place} is none that Apprise knows; "
                "docs/unattended.md says how they are written."
            )
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        yield Channel(name, str(service.service_name), address)
