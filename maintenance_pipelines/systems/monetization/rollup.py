"""The job: every user's discipline statistics are those of the records.

What is counted is one instant, that of the plan. Under the lock only the row that would be
overwritten is read again: whoever has written it since, wins, and tomorrow counts anew.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.identifiers import uuid_of
from maintenance_pipelines.engine.job import AssetNames, Job, Scope, Summary
from maintenance_pipelines.engine.units import Lock, Part, Units, Work
from maintenance_pipelines.engine.writes import InsertRows, UpdateRows
from maintenance_pipelines.systems.monetization import discipline
from maintenance_pipelines.systems.monetization.discipline import COUNTS, OF_SHOTS, OF_TARGETS
from maintenance_pipelines.systems.monetization.options import MonetizationOptions
from maintenance_pipelines.systems.monetization.results import stamped
from maintenance_pipelines.systems.monetization.schema import (
    aims,
    instant,
    relied_on,
    shots,
    targets,
    users,
)
from maintenance_pipelines.systems.monetization.schema import user_discipline_stats as stats

NEW = tuple(f"new_{name}" for name in COUNTS)


def outdated(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """Every user whose statistics differ from the records, or who has none, with both."""
    counted = _counted(scope, among).subquery("counted")
    same = [stats.c[name] == counted.c[f"new_{name}"] for name in COUNTS]
    return (
        sa.select(
            counted.c.user_id,
            stats.c.id.label("stats_id"),
            *(stats.c[name].label(f"old_{name}") for name in COUNTS),
            stats.c.updated_at.label("old_updated_at"),
            *(counted.c[name] for name in NEW),
            sa.cast(sa.null(), sa.Text).label("reason"),
        )
        .select_from(counted.outerjoin(stats, stats.c.user_id == counted.c.user_id))
        .where(sa.and_(stats.c.id.is_not(None), *same).is_not(sa.true()))
    )


def _counted(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """`user_id` and `new_<count>` of every user; zeros where there is nothing to count."""
    if among is not None and set(NEW) <= set(among.c.keys()):
        return sa.select(users.c.id.label("user_id"), *(among.c[name] for name in NEW)).join_from(
            users, among, among.c.user_id == users.c.id
        )
    by_shots = discipline.by_shots(scope, among).subquery("by_shots")
    by_targets = discipline.by_targets(scope, among).subquery("by_targets")
    columns = [by_shots.c[name] for name in OF_SHOTS] + [by_targets.c[n] for n in OF_TARGETS]
    everybody = users.outerjoin(by_shots, by_shots.c.user_id == users.c.id).outerjoin(
        by_targets, by_targets.c.user_id == users.c.id
    )
    counted = sa.select(
        users.c.id.label("user_id"),
        *(sa.func.coalesce(column, 0).label(f"new_{column.name}") for column in columns),
    ).select_from(everybody)
    if among is None:
        return counted
    return counted.where(users.c.id.in_(sa.select(among.c.user_id)))


def first_rows(work: Work) -> sa.Select[Any]:
    """A row for each user who has none."""
    unit = work.units.c
    return sa.select(
        unit.position,
        uuid_of(work, "stats").label("new_id"),
        unit.user_id.label("new_user_id"),
        *(unit[name] for name in NEW),
        instant(work.scope.stamp).label("new_updated_at"),
    ).where(unit.stats_id.is_(None))


def changed_rows(work: Work) -> sa.Select[Any]:
    """The counts of each user who has a row."""
    unit = work.units.c
    return sa.select(
        unit.position,
        unit.stats_id.label("id"),
        *(unit[f"old_{name}"] for name in COUNTS),
        *(unit[name] for name in NEW),
        unit.old_updated_at,
        instant(work.scope.stamp).label("new_updated_at"),
    ).where(unit.stats_id.is_not(None))


def first_and_changed(scope: Scope, plan: sa.FromClause) -> sa.Select[Any]:
    """How many users get their first row, how many another, and what their shots come to."""
    first = plan.c.stats_id.is_(None)
    columns: tuple[sa.ColumnElement[Any], ...] = (
        sa.func.count().filter(first).label("first rows"),
        sa.func.count().filter(~first).label("changed rows"),
        sa.func.coalesce(sa.func.sum(plan.c.new_total_shots), 0).label("their shots"),
        discipline.of_nobody(scope).scalar_subquery().label("shots without an aim"),
    )
    return sa.select(*columns).select_from(plan)


COUNTED = ("id", "deleted_at")

discipline_stats_rollup = Job(
    name="discipline_stats_rollup",
    system="monetization",
    says="Every user's discipline statistics are those of their shots and targets",
    assets=AssetNames(
        detected="outdated_discipline_stats",
        materialized="refreshed_discipline_stats",
        verified="verified_discipline_stats",
    ),
    schedule="0 1 * * *",
    options=MonetizationOptions,
    relies_on=(
        relied_on(users, "id"),
        relied_on(targets, *COUNTED, "user_id", "abort_trigger", "abort_triggered"),
        relied_on(aims, *COUNTED, "target_id"),
        relied_on(shots, *COUNTED, *("aim_id", "stop_loss_honored", "profit_target_honored")),
        relied_on(stats, "id", "user_id", *COUNTS, "updated_at"),
    ),
    change=Units(
        parts=(
            Part(
                name="user",
                says="users",
                key="user_id",
                due=outdated,
                writes=(
                    InsertRows(stats, first_rows, kept=("updated_at",)),
                    UpdateRows(stats, changed_rows, kept=("updated_at",)),
                ),
                locks=(Lock(stats, "user_id"),),
                summaries=(Summary("Rows and shots", first_and_changed),),
            ),
        )
    ),
    result=lambda outcome: stamped(outcome.scope, usersUpdated=outcome.applied["user"]),
    priority=5,
    time_limit=timedelta(minutes=5),
)
