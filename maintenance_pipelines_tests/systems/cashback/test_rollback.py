"""Rollback: exactly the tables of one run, and no row that nobody has exported."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from maintenance_pipelines.engine import pruning, runs
from maintenance_pipelines.engine.execution import Order
from maintenance_pipelines.engine.refusals import Guarded, Misconfigured
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.systems.cashback import reports, rollback
from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.conftest import KINDS, MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import ME, Lending


def use(lending: Lending) -> None:
    engine = lending.engine()
    with Session(engine) as session:
        app_models.use_cashback(session)
    engine.dispose()


def now(lending: Lending, run: Run) -> Run:
    return runs.find(lending.ledger, run.id)


def test_it_leaves_the_instance_as_it_was_before_the_run(lending: Lending) -> None:
    before = lending.contents()
    run = lending.migrate().run
    undone = lending.roll_back(run)
    assert (undone.run.state, undone.run.applied) == ("verified", 6)
    assert all(check.passed for check in undone.checks)
    assert lending.contents() == before
    assert (now(lending, run).state, now(lending, run).held) == ("rolled_back", True)
    with pytest.raises(Guarded, match="already been rolled back"):
        lending.roll_back(run)


def test_schedules_leave_the_instance_alone_until_a_person_runs_it_again(
    lending: Lending,
) -> None:
    lending.roll_back(lending.migrate().run)
    with pytest.raises(Guarded, match="is held since its rollback"):
        lending.plan(by_person=False)
    assert lending.migrate().run.applied == 6
    assert lending.plan(by_person=False).planned == 0


@pytest.mark.parametrize("kind", KINDS)
def test_tables_that_were_there_before_the_run_stay(make_lending: MakeLending, kind: str) -> None:
    there = [*app_models.BEFORE, "cashback_transaction", "tracker_entry"]
    lending = make_lending(kind, there)
    before = lending.contents()
    lending.roll_back(lending.migrate().run)
    assert lending.contents() == before


def test_a_table_that_referred_to_a_missing_one_before_does_not_stand_in_the_way(
    make_lending: MakeLending,
) -> None:
    five = [name for name in app_models.CASHBACK if name != "user_payment_method"]
    lending = make_lending("delete", [*app_models.BEFORE, *five])
    before = lending.contents()
    lending.roll_back(lending.migrate().run)
    assert lending.contents() == before


def test_tables_that_hold_rows_are_not_dropped(lending: Lending) -> None:
    run = lending.migrate().run
    use(lending)
    before = lending.contents()
    with pytest.raises(Guarded, match=r"hold rows by now: cashback_redemption \(1\), ") as refusal:
        lending.roll_back(run)
    assert "Nothing was written" in str(refusal.value)
    assert lending.contents() == before
    assert now(lending, run).state == "verified"
    undo = rollback.plan_rollback(lending.instance, lending.ledger, run, ME)
    stake = rollback.rows_at_stake(lending.instance, lending.ledger, undo)
    assert stake == dict.fromkeys(TABLES, 1)
    assert "| tracker_entry | 1 |" in reports.undone(undo, stake, ())


def test_forced_it_exports_the_rows_first(lending: Lending) -> None:
    run = lending.migrate().run
    use(lending)
    rows = lending.contents()["rows"]
    undone = lending.roll_back(run, force=True)
    assert undone.run.state == "verified"
    assert not set(TABLES) & lending.tables()
    exported = {path.stem: path for path in (lending.folder / "exports").rglob("*.csv")}
    assert set(exported) == set(TABLES)
    for table, path in exported.items():
        assert path.stat().st_mode & 0o077 == 0
        (found,) = csv.DictReader(path.open(encoding="utf-8", newline=""))
        assert len(found) == len(rows[table][0])
    (earned,) = csv.DictReader(exported["cashback_transaction"].open(encoding="utf-8"))
    assert earned["notes"] == 'She said: "thanks", and left'
    assert ',"",' in exported["cashback_transaction"].read_text()  # an empty text is not nothing


def test_rows_that_cannot_be_exported_are_not_dropped(lending: Lending) -> None:
    run = lending.migrate().run
    use(lending)
    (lending.folder / "exports").write_text("a file")
    before = lending.contents()
    with pytest.raises(Misconfigured, match=r"cannot be exported.*Nothing was dropped"):
        lending.roll_back(run, force=True)
    assert lending.contents() == before


def test_a_table_that_somebody_has_altered_is_not_dropped(lending: Lending) -> None:
    run = lending.migrate().run
    lending.execute("ALTER TABLE tracker_entry ADD COLUMN colour TEXT")
    with pytest.raises(Guarded, match="tracker_entry has been altered since"):
        lending.roll_back(run)
    assert set(TABLES) <= lending.tables()
    lending.roll_back(run, force=True)
    assert not set(TABLES) & lending.tables()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW points AS SELECT * FROM cashback_transaction",
        "CREATE TABLE audit (id INTEGER PRIMARY KEY,"
        " of_id INTEGER REFERENCES cashback_transaction (id))",
    ],
)
def test_what_would_be_left_hanging_stands_in_the_way(lending: Lending, statement: str) -> None:
    run = lending.migrate().run
    lending.execute(statement)
    before = lending.contents()
    for force in (False, True):
        with pytest.raises(Guarded):
            lending.roll_back(run, force)
    assert lending.contents() == before


def test_a_table_that_is_gone_already_is_no_trouble(lending: Lending) -> None:
    run = lending.migrate().run
    lending.execute("DROP TABLE tracker_entry")
    undone = lending.roll_back(run)
    assert (undone.run.applied, undone.run.excluded) == (5, {"already_gone": 1})
    assert not set(TABLES) & lending.tables()


def test_a_run_that_created_nothing_takes_nothing_back(lending: Lending) -> None:
    lending.migrate()
    nothing = lending.migrate().run
    lending.roll_back(nothing)
    assert set(TABLES) <= lending.tables()
    assert now(lending, nothing).state == "rolled_back"


def test_a_run_that_was_only_planned_cannot_be_rolled_back(lending: Lending) -> None:
    with pytest.raises(Guarded, match="only what was applied"):
        lending.roll_back(lending.plan())


def test_a_pruned_run_cannot_be_rolled_back(lending: Lending) -> None:
    run = lending.migrate().run
    with lending.ledger.transaction() as book:
        book.execute(sa.text("UPDATE maintenance.run SET finished_at = '2020-01-01'"))
    assert run.id in pruning.prune(lending.ledger, 90)
    with pytest.raises(Guarded, match="pruned"):
        lending.roll_back(run)


def test_planned_alone_it_changes_nothing(lending: Lending, tmp_path: Path) -> None:
    run = lending.migrate().run
    before = lending.contents()
    undo = rollback.plan_rollback(lending.instance, lending.ledger, run, ME)
    assert (undo.state, undo.planned, undo.reverts) == ("planned", 6, run.id)
    order = Order(rehearse=True)
    rollback.rollback(lending.instance, lending.ledger, run, ME, order, tmp_path)
    assert lending.contents() == before
