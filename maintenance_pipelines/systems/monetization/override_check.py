"""The job: a global override that has expired is taken away."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import PLACE, AssetNames, Job, Outcome, Scope, Summary
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import DeleteRows, place, seen_at, whole_row
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.override import override
from maintenance_pipelines.systems.monetization.results import stamped
from maintenance_pipelines.systems.monetization.rules import OVERRIDE_READABLE, after_a_run
from maintenance_pipelines.systems.monetization.schema import (
    global_config,
    instant,
    relied_on,
    users,
)


def overrides(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """The override, whole: due where it has expired, else `active` or `malformed`."""
    read = override().subquery("read")
    found = sa.select(
        read.c.key,
        read.c.tier,
        read.c.expires_at,
        whole_row(global_config).label("row"),
        sa.case(
            (read.c.complaint.is_not(None), "malformed"),
            (read.c.expires_at >= instant(scope.as_of), "active"),
        ).label("reason"),
        place(global_config).label(PLACE),
    ).join_from(read, global_config, global_config.c.key == read.c.key)
    return found if among is None else found.join(among, among.c.key == read.c.key)


def cleared(work: Work) -> sa.Select[Any]:
    """The row that is deleted."""
    unit = work.units.c
    return sa.select(unit.position, unit.key, unit.row, *seen_at(work))


def state(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """What there is, whether or not it is due; no row where there is no override."""
    read = override().subquery("read")
    left = read.c.expires_at - instant(scope.as_of)
    return sa.select(
        sa.case(
            (read.c.complaint.is_not(None), read.c.complaint),
            (left >= timedelta(0), "active"),
            else_="expired",
        ).label("state"),
        read.c.tier,
        read.c.expires_at.label("expires"),
        sa.cast(sa.case((left >= timedelta(0), left)), sa.Text).label("remaining"),
    )


def result(outcome: Outcome) -> Mapping[str, Any]:
    """`action`, and of which tier, until when."""
    scope, gone = outcome.scope, outcome.facts["override"]
    was = outcome.connection.execute(sa.select(gone.c.tier, gone.c.expires_at)).one_or_none()
    if was is not None:
        expired = was.expires_at.isoformat()
        return stamped(scope, action="cleared", previousTier=was.tier, expiredAt=expired)
    now = outcome.connection.execute(override()).one_or_none()
    if now is None or now.expires_at is None:
        return stamped(scope, action="none")
    return stamped(scope, action="active", tier=now.tier, expiresAt=now.expires_at.isoformat())


global_override_check = Job(
    name="global_override_check",
    system="monetization",
    says="A global tier override that has expired is taken away",
    assets=AssetNames(
        detected="expired_override",
        materialized="cleared_override",
        verified="verified_override",
    ),
    schedule="0 * * * *",
    options=MonetizationOptions,
    # Who has set it: a deleted row can be put back as long as they exist.
    relies_on=(relied_on(global_config, "key", "value"), relied_on(users, "id")),
    change=Units(
        parts=(
            Part(
                name="override",
                says="overrides",
                key="key",
                due=overrides,
                writes=(DeleteRows(global_config, cleared),),
                locks=(Lock(global_config, "key", "update"),),
                rules=(after_a_run(OVERRIDE_READABLE, named_by="detail"),),
                summaries=(Summary("The global override", state),),
            ),
        )
    ),
    # An override that nobody can read is never due, and has to be heard of all the same.
    judged_when_empty=True,
    result=result,
    priority=5,
    time_limit=timedelta(seconds=5),
)
