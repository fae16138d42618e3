"""How disciplined each user has been, counted from the records: one statement over all of them.

The formula is in docs/monetization.md ("Discipline"). A yes or no that the app has not given is
counted in neither; shots without an aim belong to nobody.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.monetization.options import options
from maintenance_pipelines.systems.monetization.schema import aims, shots, targets

OF_SHOTS = (
    "total_shots",
    "stop_loss_honored_count",
    "stop_loss_ignored_count",
    "profit_target_honored_count",
    "profit_target_ignored_count",
)
OF_TARGETS = ("abort_trigger_honored_count", "abort_trigger_ignored_count")
COUNTS = (*OF_SHOTS, *OF_TARGETS)
"""The counts as `user_discipline_stats` names them."""

Condition = sa.ColumnElement[bool]


def by_shots(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """`user_id` and the counts of `OF_SHOTS`, of every user who has any shot.

    Shots are first counted by aim: most are there with others of their aim, and what is then left
    to join is a fraction of them.
    """
    by_aim = (
        sa.select(
            shots.c.aim_id,
            sa.func.count().label("total_shots"),
            *_yes_and_no(shots.c.stop_loss_honored, "stop_loss"),
            *_yes_and_no(shots.c.profit_target_honored, "profit_target"),
        )
        .where(shots.c.aim_id.is_not(None), *_counted(scope, shots))
        .group_by(shots.c.aim_id)
    )
    if among is not None:
        mine = sa.select(aims.c.id).join(targets, targets.c.id == aims.c.target_id)
        by_aim = by_aim.where(shots.c.aim_id.in_(mine.where(_among(targets.c.user_id, among))))
    counted = by_aim.subquery("by_aim")
    path = counted.join(aims, aims.c.id == counted.c.aim_id).join(
        targets, targets.c.id == aims.c.target_id
    )
    return (
        sa.select(
            targets.c.user_id,
            *(sa.cast(sa.func.sum(counted.c[name]), sa.Integer).label(name) for name in OF_SHOTS),
        )
        .select_from(path)
        .where(*_counted(scope, aims), *_counted(scope, targets))
        .group_by(targets.c.user_id)
    )


def by_targets(scope: Scope, among: sa.FromClause | None) -> sa.Select[Any]:
    """`user_id` and the counts of `OF_TARGETS`, of every user who has any target."""
    ignored = sa.and_(
        targets.c.abort_trigger.is_not(None), targets.c.abort_triggered.is_(sa.false())
    )
    columns = (
        targets.c.user_id,
        _count(targets.c.abort_triggered, "abort_trigger_honored_count"),
        _count(ignored, "abort_trigger_ignored_count"),
    )
    found = sa.select(*columns).where(*_counted(scope, targets)).group_by(targets.c.user_id)
    return found if among is None else found.where(_among(targets.c.user_id, among))


def of_nobody(scope: Scope) -> sa.Select[Any]:
    """The number of shots without an aim."""
    shot = sa.select(sa.func.count()).select_from(shots)
    return shot.where(shots.c.aim_id.is_(None), *_counted(scope, shots))


def _yes_and_no(answer: sa.ColumnElement[Any], of: str) -> tuple[sa.ColumnElement[int], ...]:
    return _count(answer, f"{of}_honored_count"), _count(sa.not_(answer), f"{of}_ignored_count")


def _count(condition: Condition, name: str) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.count().filter(condition), sa.Integer).label(name)


def _counted(scope: Scope, table: sa.Table) -> tuple[Condition, ...]:
    return (table.c.deleted_at.is_(None),) if options(scope).leave_out_deleted else ()


def _among(user_id: sa.ColumnElement[Any], among: sa.FromClause) -> Condition:
    return user_id.in_(sa.select(among.c.user_id))
