"""Every job of every system, by name, and the checks of the systems that have rules.

Most jobs are a `Job`: rows of one database, changed by the engine. A `Migration` adds tables to
several databases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

import sqlalchemy as sa
from pydantic import BaseModel

from maintenance_pipelines.engine.consistency import Consistency, ConsistencyRule
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Job, Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.operations.letters import Letter
from maintenance_pipelines.systems.benefits.backfill import benefit_status_backfill
from maintenance_pipelines.systems.cashback.declaration import Migration, cashback_migration
from maintenance_pipelines.systems.credits import diagnosis as credits_diagnosis
from maintenance_pipelines.systems.credits import letters as credits_letters
from maintenance_pipelines.systems.credits import options as credits_options
from maintenance_pipelines.systems.credits import rules as credits_rules
from maintenance_pipelines.systems.credits.expiry import credit_expiry
from maintenance_pipelines.systems.credits.reset import monthly_credits_reset
from maintenance_pipelines.systems.credits.warning import credit_expiry_warning
from maintenance_pipelines.systems.monetization import letters as monetization_letters
from maintenance_pipelines.systems.monetization import options as monetization_options
from maintenance_pipelines.systems.monetization import rules as monetization_rules
from maintenance_pipelines.systems.monetization.expiry import tier_expiration
from maintenance_pipelines.systems.monetization.override_check import global_override_check
from maintenance_pipelines.systems.monetization.promos import promo_cleanup
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup
from maintenance_pipelines.systems.monetization.trials import trial_reminder
from maintenance_pipelines.systems.referrals import absent as referrals_absent
from maintenance_pipelines.systems.referrals import closing as referrals_closing
from maintenance_pipelines.systems.referrals import diagnosis as referrals_diagnosis
from maintenance_pipelines.systems.referrals import options as referrals_options
from maintenance_pipelines.systems.referrals import rules as referrals_rules
from maintenance_pipelines.systems.referrals import views as referrals_views
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset

AnyJob = Job | Migration

JOBS: Mapping[str, Job] = MappingProxyType(
    {
        job.name: job
        for job in (
            benefit_status_backfill,
            monthly_stats_reset,
            monthly_stats_recalculation,
            tier_expiration,
            global_override_check,
            promo_cleanup,
            discipline_stats_rollup,
            trial_reminder,
            monthly_credits_reset,
            credit_expiry,
            credit_expiry_warning,
        )
    }
)
MIGRATIONS: Mapping[str, Migration] = MappingProxyType(
    {cashback_migration.name: cashback_migration}
)


class Diagnosis(Protocol):
    """All that a system knows of a month."""

    @property
    def consistency(self) -> Consistency:
        """The findings on the system's rules."""

    def json(self) -> dict[str, Any]:
        """For programs: the keys of the consistency answer, and the system's own."""

    def markdown(self) -> str:
        """For people."""


@dataclass(frozen=True)
class Checks:
    """What must hold of a system's data, whether or not a job has worked on it.

    `scope` is given the database, the moment that counts as now (aware, UTC), a month or None for
    the running one, and the settings read as `options`. `diagnose` refuses a future month; a
    system without months has none.
    """

    options: type[BaseModel]
    scope: Callable[[Database, datetime, str | None, Any], Scope]
    rules: tuple[ConsistencyRule, ...]
    diagnose: Callable[[Database, Scope], Diagnosis] | None = None


CHECKS: Mapping[str, Checks] = MappingProxyType(
    {
        "referrals": Checks(
            referrals_options.ReferralsOptions,
            referrals_options.scope_on,
            referrals_rules.RULES,
            referrals_diagnosis.diagnose,
        ),
        "credits": Checks(
            credits_options.CreditsOptions,
            credits_options.scope_on,
            credits_rules.RULES,
            credits_diagnosis.diagnose,
        ),
        "monetization": Checks(
            monetization_options.MonetizationOptions,
            monetization_options.scope_on,
            monetization_rules.RULES,
        ),
    }
)


@dataclass(frozen=True)
class View:
    """Something that people look at: Markdown from a database and a scope, nothing written.

    `of_one` is the same of one subject, by its id.
    """

    name: str
    says: str
    markdown: Callable[[Database, Scope], str]
    of_one: Callable[[Database, str], str] | None = None

    def shown(self, database: Database, scope: Scope, subject: str | None) -> str:
        """The view of everything, or of one subject; refuses one where it knows none."""
        if subject is None:
            return self.markdown(database, scope)
        if self.of_one is None:
            raise BadInput(f"The view {self.name} is not of single subjects; leave the id out.")
        return self.of_one(database, subject)


VIEWS: Mapping[str, tuple[View, ...]] = MappingProxyType(
    {
        "referrals": (
            View("top_referrers", "Who has referred the most.", referrals_views.top),
            View(
                "monthly_archive",
                "A month's snapshots by community, or all of one member or creator.",
                referrals_views.archive,
                referrals_views.archive_of,
            ),
            View(
                "audit_trail",
                "What jobs have changed, by cause, or all changes of one member or creator.",
                referrals_views.audit,
                referrals_views.audit_of,
            ),
            View(
                "webhook_validation",
                "Three webhook scenarios, played and rolled back: for a copy of the database.",
                referrals_views.validation,
            ),
        )
    }
)


CLOSED_BY: Mapping[str, Callable[[sa.Connection, Scope], list[Month]]] = MappingProxyType(
    {"monthly_stats_reset": referrals_closing.months_never_reset}
)
"""Jobs that close months, by name, and how the data tell which months none of them ever closed."""


class Absent(Protocol):
    """Something optional that a database lacks."""

    @property
    def what(self) -> str:
        """Which table or index."""

    @property
    def ddl(self) -> str:
        """The statement that makes it."""


ABSENT: Mapping[str, Callable[[sa.Connection, str], Sequence[Absent]]] = MappingProxyType(
    {"referrals": referrals_absent.absent}
)
"""What a system's database may lack, given its schema."""


LETTERS: Mapping[str, tuple[Letter, ...]] = MappingProxyType(
    {"credits": credits_letters.LETTERS, "monetization": monetization_letters.LETTERS}
)
"""The mails that systems send from their outbox."""


def every() -> list[AnyJob]:
    """All jobs, of either kind."""
    return [*JOBS.values(), *MIGRATIONS.values()]


def find(name: str) -> AnyJob:
    """The job of that name, with underscores or hyphens; refuses a name that no job has."""
    jobs = {job.name: job for job in every()}
    job = jobs.get(name.replace("-", "_"))
    if job is None:
        raise BadInput(f"There is no job {name!r}; the jobs are: {', '.join(sorted(jobs))}.")
    return job


def checks_of(system: str) -> Checks:
    """The checks of the system of that name; refuses a name without any."""
    checks = CHECKS.get(system)
    if checks is None:
        raise BadInput(
            f"There is no system {system!r} with rules of its own; "
            f"those that have them are: {', '.join(sorted(CHECKS))}."
        )
    return checks
