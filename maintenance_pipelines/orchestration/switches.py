"""What is switched on for a system, by one setting each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maintenance_pipelines.engine.refusals import Misconfigured, Refusal
from maintenance_pipelines.operations.alert_routes import Routes
from maintenance_pipelines.orchestration import ledgers
from maintenance_pipelines.settings import Settings

SCHEDULES = "SCHEDULES"
"""`<SYSTEM>_SCHEDULES=on` starts the schedules of a system's jobs, and the sensors that make up
for runs that were missed."""

ON = frozenset({"on", "yes", "true", "1"})
OFF = frozenset({"off", "no", "false", "0"})


def is_on(settings: Settings, variable: str) -> bool:
    """Whether a variable says on; refuses what is neither on nor off. Absent is off."""
    secret = settings.variables.get(variable)
    text = secret.get_secret_value().strip().lower() if secret else "off"
    if text not in ON | OFF:
        raise Misconfigured(f"{variable} should be on or off.")
    return text in ON


def runs_unattended(settings: Settings, system: str) -> bool:
    """Whether a system's jobs run by themselves: it is switched on and has a database."""
    if not is_on(settings, f"{system.upper()}_{SCHEDULES}"):
        return False
    try:
        return system in ledgers.configured(settings)
    except Misconfigured:
        return False


@dataclass(frozen=True)
class Switches:
    """What is on when definitions are loaded: the systems whose jobs run by themselves, and
    whether anybody is to be told of alerts.
    """

    unattended: frozenset[str] = frozenset()
    told: bool = False

    @classmethod
    def of(cls, load: Callable[[], Settings]) -> Switches:
        """As the settings have it.

        Definitions load whatever the settings are: a bad one is refused by whoever needs it, and
        switches nothing on.
        """
        try:
            settings = load()
            unattended = (s for s in ledgers.systems() if runs_unattended(settings, s))
            return cls(frozenset(unattended), bool(Routes.load(settings, ledgers.systems()).all()))
        except Refusal:
            return cls()
