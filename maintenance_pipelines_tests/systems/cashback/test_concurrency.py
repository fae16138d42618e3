"""Beside an application that holds locks and writes all the while."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance
from maintenance_pipelines_tests.systems.cashback.app_process import App
from maintenance_pipelines_tests.systems.cashback.conftest import MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import Lending


def test_an_application_that_writes_all_the_while_loses_nothing_and_is_never_refused(
    lending: Lending,
) -> None:
    before = len(lending.contents()["rows"]["payment"])
    with App(lending.url) as app:
        app.tell("busy")
        found = lending.migrate()
        time.sleep(0.2)
        undone = lending.roll_back(found.run)
        again = lending.migrate()
        figures = app.figures()
    assert (found.run.state, undone.run.state, again.run.state) == ("verified",) * 3
    assert figures["refused"] == 0
    assert figures["written"] > 10
    assert len(lending.contents()["rows"]["payment"]) == before + figures["written"]
    assert set(TABLES) <= lending.tables()


def lock(lending: Lending) -> tuple[str, ...]:
    """What the application does to keep the migration out."""
    return ("begin", "write") if lending.instance.kind == "SQLite" else ("begin", PARENT_LOCK)


PARENT_LOCK = "LOCK TABLE loan IN ROW EXCLUSIVE MODE"


def test_a_lock_that_is_held_for_too_long_is_refused_and_nothing_is_written(
    lending: Lending,
) -> None:
    run = lending.plan()
    lending.back_up(run)
    before = lending.contents()
    with App(lending.url) as app:
        app.tell(*lock(lending))
        with pytest.raises(Guarded, match="stop the application and try again") as refusal:
            lending.apply(run)
        assert "Nothing was written" in str(refusal.value)
        app.tell("rollback")
    assert lending.contents() == before
    refused = runs.find(lending.ledger, run.id)
    assert (refused.state, refused.error) == ("planned", str(refusal.value))
    assert lending.apply(run).state == "applied"


def test_a_lock_that_is_let_go_in_time_is_waited_for(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    with App(lending.url) as app:
        app.tell(*lock(lending))
        later = threading.Timer(0.3, app.tell, ["commit"])
        later.start()
        assert lending.apply(run).state == "applied"
        later.join()


def test_a_reader_that_stays_keeps_a_commit_in_rollback_mode_out_and_no_other_reader(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("delete")
    run = lending.plan()
    lending.back_up(run)
    with App(lending.url) as reader, App(lending.url) as other:
        reader.tell("begin", "read")
        with pytest.raises(Guarded, match="is locked by its application"):
            lending.apply(run)
        assert other.tell("read") == "done"
        reader.tell("commit")
        assert lending.apply(run).state == "applied"


def test_a_reader_that_stays_is_no_trouble_in_wal_mode(make_lending: MakeLending) -> None:
    lending = make_lending("wal")
    with App(lending.url) as reader:
        reader.tell("begin", "read")
        assert lending.migrate().run.state == "verified"
        assert reader.tell("read") == "done"


def test_the_journal_mode_stays_as_it_was(file: Lending) -> None:
    mode = file.instance.journal_mode()
    file.roll_back(file.migrate().run)
    file.migrate()
    assert file.instance.journal_mode() == mode


def test_a_pause_that_was_asked_for_while_it_waits_is_kept(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("delete")
    assert isinstance(lending.instance, SqliteInstance)
    lending = replace(lending, instance=replace(lending.instance, patience_s=5))
    run = lending.plan()
    lending.back_up(run)

    def pause() -> None:
        while runs.find(lending.ledger, run.id).state != "applying":
            time.sleep(0.02)
        runs.request_pause(lending.ledger, run.id)

    with App(lending.url) as app:
        app.tell("begin", "write")
        person = threading.Thread(target=pause)
        person.start()
        assert lending.apply(run).state == "paused"
        person.join()
        app.tell("rollback")
    with pytest.raises(Guarded, match="is paused"):
        lending.plan()
    assert lending.verify(lending.apply(run)).run.state == "verified"


def test_two_runs_of_one_instance_end_with_six_tables_made_once(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    ends: list[str] = []

    def apply() -> None:
        try:
            ends.append(lending.apply(run).state)
        except Guarded as refusal:
            ends.append(type(refusal).__name__)

    threads = [threading.Thread(target=apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["Guarded", "Guarded", "Guarded", "applied"]
    assert lending.verify(runs.find(lending.ledger, run.id)).run.state == "verified"


def test_a_process_whose_run_was_taken_over_writes_nothing(
    lending: Lending, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lending.plan()
    lending.back_up(run)
    before = lending.contents()
    transaction = type(lending.instance).transaction

    def lose_the_run_first(self: object) -> object:
        if lending.ledger.engine.pool.checkedout() == 0:  # type: ignore[attr-defined]
            with lending.ledger.engine.begin() as book:
                taken = "UPDATE maintenance.run SET owner = 'somebody|1|1|else'"
                book.execute(sa.text(taken))
        return transaction(self)  # type: ignore[arg-type]

    monkeypatch.setattr(type(lending.instance), "transaction", lose_the_run_first)
    with pytest.raises(Guarded, match="taken over by another process"):
        lending.apply(run)
    assert lending.contents() == before
