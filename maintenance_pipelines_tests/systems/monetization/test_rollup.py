"""discipline_stats_rollup: the counts beside an oracle of their own; beside the app; back again."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.systems.monetization.discipline import COUNTS
from maintenance_pipelines.systems.monetization.rollup import discipline_stats_rollup as job
from maintenance_pipelines.systems.monetization.rollup import outdated
from maintenance_pipelines.systems.monetization.schema import (
    aims,
    shots,
    targets,
    user_discipline_stats,
    users,
)
from maintenance_pipelines_tests.systems.monetization import people, working
from maintenance_pipelines_tests.systems.monetization.people import LONG_AGO, NOW

Counts = tuple[int, ...]
ZEROS = (0,) * len(COUNTS)


def oracle(database: Database, leave_out_deleted: bool = False) -> dict[Any, Counts]:
    """The counts of every user, one row after the other, as the facts have the formula."""

    def kept(table: Any) -> dict[Any, people.Row]:
        return {
            row["id"]: row
            for row in people.rows(database, table)
            if not (leave_out_deleted and row["deleted_at"])
        }

    of_targets, of_aims = kept(targets), kept(aims)
    counts: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in of_targets.values():
        mine = counts[row["user_id"]]
        if row["abort_triggered"]:
            mine["abort_trigger_honored_count"] += 1
        if row["abort_trigger"] is not None and row["abort_triggered"] is False:
            mine["abort_trigger_ignored_count"] += 1
    for row in kept(shots).values():
        aim = of_aims.get(row["aim_id"])
        target = of_targets.get(aim["target_id"]) if aim else None
        if target is None:
            continue
        mine = counts[target["user_id"]]
        mine["total_shots"] += 1
        for answer in ("stop_loss", "profit_target"):
            if row[f"{answer}_honored"] is True:
                mine[f"{answer}_honored_count"] += 1
            elif row[f"{answer}_honored"] is False:
                mine[f"{answer}_ignored_count"] += 1
    return {
        row["id"]: tuple(counts[row["id"]][name] for name in COUNTS)
        for row in people.rows(database, users)
    }


def stats(database: Database) -> dict[Any, Counts]:
    """What the app's table says."""
    return {
        row["user_id"]: tuple(row[name] for name in COUNTS)
        for row in people.rows(database, user_discipline_stats)
    }


def has_stats(database: Database, of: uuid.UUID, **values: Any) -> None:
    """Statistics of an earlier night."""
    row = {"user_id": of, "updated_at": LONG_AGO, **values}
    people.write(database, user_discipline_stats.insert().values(row))


def trades(database: Database, seed: int, people_there: int = 12) -> list[uuid.UUID]:
    """Users with targets, aims and shots in every state there is; the first has none."""
    chance = random.Random(seed)
    there = [people.user(database) for _ in range(people_there)]

    def deleted() -> dict[str, Any]:
        return {"deleted_at": chance.choice([None, None, None, LONG_AGO])}

    def answer() -> bool | None:
        return chance.choice([None, True, False])

    for one in there[1:]:
        for _ in range(chance.randint(0, 3)):
            told = {"abort_trigger": chance.choice([None, "", "Below 90"])}
            state = {"abort_triggered": answer()}
            target = people.target(database, one, **told, **state, **deleted())
            for _ in range(chance.randint(0, 2)):
                aim = people.aim(database, target, **deleted())
                for _ in range(chance.randint(0, 3)):
                    answers = {"stop_loss_honored": answer(), "profit_target_honored": answer()}
                    people.shot(database, aim, **answers, **deleted())
    people.shot(database, None, stop_loss_honored=True)
    return there


@pytest.mark.parametrize("leave_out_deleted", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_user_has_the_counts_that_the_oracle_finds(
    app: Database, seed: int, leave_out_deleted: bool
) -> None:
    there = trades(app, seed)
    has_stats(app, there[3], total_shots=99)
    scope = people.scope_of(leave_out_deleted=leave_out_deleted)
    verification = working.carry_out(job, app, scope)
    assert verification.run.state == "verified"
    assert stats(app) == oracle(app, leave_out_deleted)
    assert verification.run.planned == len(there)


def test_soft_deleted_records_make_a_difference(app: Database) -> None:
    trades(app, 1)
    assert oracle(app) != oracle(app, leave_out_deleted=True)


def test_a_user_without_targets_has_a_row_of_zeros(app: Database) -> None:
    one = people.user(app)
    working.carry_out(job, app)
    assert stats(app) == {one: ZEROS}


def test_honoured_ignored_and_unknown_are_told_apart(app: Database) -> None:
    one = people.user(app)
    aim = people.aim(app, people.target(app, one))
    for answer in (True, False, False, None, None, None):
        people.shot(app, aim, stop_loss_honored=answer)
    working.carry_out(job, app)
    assert stats(app)[one][:5] == (6, 1, 2, 0, 0)


def test_a_shot_whose_aim_was_deleted_belongs_to_nobody(app: Database) -> None:
    one = people.user(app)
    aim = people.aim(app, people.target(app, one))
    people.shot(app, aim, stop_loss_honored=True)
    people.write(app, aims.delete())
    working.carry_out(job, app)
    assert stats(app) == {one: ZEROS}


def test_only_rows_that_really_differ_are_written(app: Database) -> None:
    there = trades(app, 4)
    working.carry_out(job, app)
    before = people.rows(app, user_discipline_stats)
    aim = people.aim(app, people.target(app, there[0]))
    people.shot(app, aim)
    later = NOW + timedelta(days=1)
    run = working.carry_out(job, app, people.scope_of(later)).run
    assert run.planned == 1
    changed = [row for row in people.rows(app, user_discipline_stats) if row not in before]
    assert [(row["user_id"], row["updated_at"]) for row in changed] == [(there[0], later)]


def test_a_second_run_writes_nothing(app: Database) -> None:
    trades(app, 5)
    working.carry_out(job, app)
    before = people.rows(app, user_discipline_stats)
    again = working.plan(job, app, people.scope_of(NOW + timedelta(days=1)))
    assert (again.state, again.planned) == ("verified", 0)
    assert people.rows(app, user_discipline_stats) == before


def test_statistics_that_the_app_writes_between_detection_and_the_write_are_left(
    app: Database,
) -> None:
    changed, created, deleted, plain = (people.user(app) for _ in range(4))
    has_stats(app, changed, total_shots=7)
    has_stats(app, plain, total_shots=7)
    run = working.plan(job, app)
    theirs = user_discipline_stats.c.user_id == changed
    people.write(app, user_discipline_stats.update().where(theirs).values(total_shots=8))
    has_stats(app, created, total_shots=3)
    people.write(app, users.delete().where(users.c.id == deleted))
    verification = working.finish(job, app, run)
    assert (verification.run.state, working.counts(verification.run)) == ("verified", (1, 0, 3, 0))
    assert stats(app) == {
        changed: (8, *ZEROS[1:]),
        created: (3, *ZEROS[1:]),
        plain: ZEROS,
    }


def test_a_rollback_restores_what_was_there_exactly(app: Database) -> None:
    there = trades(app, 6)
    for one in there[2:5]:
        has_stats(app, one, total_shots=50, stop_loss_ignored_count=4)
    before = people.rows(app, user_discipline_stats)
    run = working.carry_out(job, app).run
    assert len(stats(app)) == len(there)
    assert working.take_back(job, app, run).run.state == "verified"
    assert people.rows(app, user_discipline_stats) == before


def test_a_rollback_leaves_statistics_that_the_app_has_changed_since(app: Database) -> None:
    one, other = people.user(app), people.user(app)
    has_stats(app, other, total_shots=2)
    run = working.carry_out(job, app).run
    people.write(app, user_discipline_stats.update().values(total_shots=1))
    undo = working.take_back(job, app, run)
    assert working.left_alone(job, app, undo.run) == {str(one): "touched", str(other): "touched"}


def test_asked_about_some_users_it_says_of_them_what_it_says_of_all(app: Database) -> None:
    there = trades(app, 7)
    chosen = {there[0], there[4], uuid.uuid4()}
    among = users.select().where(users.c.id.in_(chosen)).subquery()
    renamed = among.select().with_only_columns(among.c.id.label("user_id")).subquery()
    with people.session(app) as connection:
        everybody = {
            row.user_id: row for row in connection.execute(outdated(people.scope_of(), None))
        }
        some = connection.execute(outdated(people.scope_of(), renamed)).all()
    assert {row.user_id: row for row in some} == {
        one: everybody[one] for one in chosen if one in everybody
    }


def test_asked_with_the_counts_of_a_plan_it_looks_at_the_rows_to_be_written_only(
    app: Database,
) -> None:
    """Counting ten million shots again for every batch would tell of another instant."""
    there = trades(app, 8)
    has_stats(app, there[1], total_shots=9)
    has_stats(app, there[2], total_shots=5)
    planned = [sa.literal(5 if name == "total_shots" else 0) for name in COUNTS]
    columns = [count.label(f"new_{name}") for count, name in zip(planned, COUNTS, strict=True)]
    among = sa.select(users.c.id.label("user_id"), *columns).subquery()
    with people.session(app) as connection:
        found = connection.execute(outdated(people.scope_of(), among)).all()
    assert {row.user_id for row in found} == set(there) - {there[2]}
    assert {row.new_total_shots for row in found} == {5}
    assert [row.old_total_shots for row in found if row.user_id == there[1]] == [9]


def test_no_batch_holds_every_row_against_every_other_whatever_the_statistics_say(
    app: Database,
) -> None:
    people.write(app, "INSERT INTO users (email, authentik_sub) VALUES ('a@example.com', 'a')")
    working.carry_out(job, app)
    # By now each user is known to have a row, so that the planner expects no first one.
    people.write(
        app,
        "INSERT INTO users (email, authentik_sub)"
        " SELECT n || '@example.com', n::text FROM generate_series(1, 5000) AS n",
    )
    run = working.plan(job, app)
    people.write(app, "ANALYZE")
    loops: list[dict[str, Any]] = []

    def explain(connection: Any, cursor: Any, statement: str, values: Any, *rest: Any) -> None:
        if "_seen AS" in statement:
            cursor.execute("EXPLAIN (FORMAT JSON) " + statement, values)
            loops.extend(loops_of_many(cursor.fetchone()[0][0]["Plan"]))

    sa.event.listen(app.engine, "before_cursor_execute", explain)
    assert working.finish(job, app, run).run.state == "verified"
    assert loops == []


def loops_of_many(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Nested loops of which neither side is found by an index."""
    parts = plan.get("Plans", [])
    inner = next((part for part in parts if part.get("Parent Relationship") == "Inner"), None)
    if plan["Node Type"] == "Nested Loop" and inner and "Index" not in inner["Node Type"]:
        yield plan
    for part in parts:
        yield from loops_of_many(part)
