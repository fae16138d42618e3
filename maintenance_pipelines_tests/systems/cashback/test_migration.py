"""The whole way: plan, backup, migration, verification."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from maintenance_pipelines.engine import runs
from maintenance_pipelines.engine.proof import ProofFailed
from maintenance_pipelines.engine.refusals import Guarded, Misconfigured
from maintenance_pipelines.systems.cashback import migration, reports
from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.conftest import MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import Lending, without


def test_all_six_tables_are_created_and_nothing_else_changes(lending: Lending) -> None:
    before = lending.contents()
    found = lending.migrate()
    assert found.run.state == "verified"
    assert all(check.passed for check in found.checks)
    after = lending.contents()
    assert set(after["rows"]) - set(before["rows"]) == set(TABLES)
    assert all(after["rows"][table] == [] for table in TABLES)
    assert without(after, TABLES) == before


def test_the_application_finds_its_tables_just_as_it_would_have_made_them(
    lending: Lending,
) -> None:
    lending.migrate()
    engine = lending.engine()
    app_models.create(engine, [*app_models.BEFORE, *app_models.CASHBACK])
    with Session(engine) as session:
        app_models.use_cashback(session)
    found = lending.contents()["rows"]
    assert [len(found[table]) for table in TABLES] == [1] * 6
    assert lending.plan().planned == 0


def test_detection_changes_not_one_byte_and_leaves_no_file(file: Lending) -> None:
    before = file.files()
    run = file.plan()
    assert (run.state, run.planned) == ("planned", 6)
    assert file.files() == before


def test_detection_on_postgresql_writes_to_its_ledger_alone(make_lending: MakeLending) -> None:
    lending = make_lending("postgres")
    before = lending.contents()
    assert lending.plan().planned == 6
    assert lending.contents() == before


def test_a_second_run_has_nothing_to_do_and_writes_nothing(lending: Lending) -> None:
    lending.migrate()
    before = lending.contents()
    again = lending.migrate()
    assert (again.run.state, again.run.planned) == ("verified", 0)
    assert [check.name for check in again.checks] == [
        "nothing_left_missing",
        "new_tables_as_specified",
    ]
    assert again.run.excluded == {"already_existed": 6}
    assert lending.contents() == before


def test_nothing_to_do_means_no_byte_is_written_to_a_file(file: Lending) -> None:
    file.migrate()
    before = file.files()
    assert file.migrate().run.state == "verified"
    assert file.files() == before


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [*(("delete", table) for table in TABLES), *(("postgres", table) for table in TABLES[:2])],
)
def test_of_five_tables_the_sixth_alone_is_created(
    make_lending: MakeLending, kind: str, left_out: str
) -> None:
    five = [name for name in app_models.CASHBACK if name != left_out]
    engine_cannot = kind == "postgres" and left_out in (
        "cashback_transaction",
        "user_payment_method",
    )
    if engine_cannot:
        five.remove("cashback_redemption")  # PostgreSQL demands what a key refers to
    lending = make_lending(kind, [*app_models.BEFORE, *five])
    engine = lending.engine()
    with Session(engine) as session:
        user = session.scalars(sa.select(app_models.User).limit(1)).one()
        session.add(app_models.UserPaymentMethod(user_id=user.id, payment_type="upi"))
        if left_out != "user_payment_method":
            session.commit()
    before = lending.contents()
    found = lending.migrate()
    assert found.run.state == "verified"
    created = lending.tables() - set(before["rows"])
    assert created == {left_out, *({"cashback_redemption"} if engine_cannot else ())}
    now = lending.contents()["rows"]
    assert {name: now[name] for name in before["rows"]} == before["rows"]


def test_the_first_few_of_an_earlier_attempt_are_left_alone(make_lending: MakeLending) -> None:
    lending = make_lending("delete", [*app_models.BEFORE, *app_models.CASHBACK[:3]])
    assert lending.migrate().run.excluded == {"already_existed": 3}
    assert set(TABLES) <= lending.tables()


def test_a_plan_says_exactly_what_is_then_executed(make_lending: MakeLending) -> None:
    lending = make_lending("wal")
    run = lending.plan()
    planned = {c.table: c.statement for c in migration.detection_of(lending.ledger, run).creations}
    lending.back_up(run)
    lending.apply(run)
    engine = lending.engine()
    with engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT name, sql FROM sqlite_schema")).all()
    assert planned == {name: sql for name, sql in kept if name in TABLES}


def test_a_plan_is_refused_with_another_digest(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    with pytest.raises(Guarded, match="another digest"):
        lending.apply(run, digest="0" * 64)
    assert lending.apply(run, digest=run.digest[:12]).state == "applied"


def test_a_plan_that_was_altered_in_the_ledger_is_refused(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    with lending.ledger.transaction() as book:
        altered = f"UPDATE maintenance.plan_{run.id} SET new_statement = 'DROP TABLE loan'"
        book.execute(sa.text(altered))
    with pytest.raises(Guarded, match="its digest differs"):
        lending.apply(run)
    assert not set(TABLES) & lending.tables()


def test_without_a_backup_there_is_no_migration(lending: Lending) -> None:
    run = lending.plan()
    with pytest.raises(Guarded, match="no verified backup"):
        lending.apply(run)
    lending.back_up(run).unlink()
    with pytest.raises(Guarded, match="no longer in"):
        lending.apply(run)
    assert not set(TABLES) & lending.tables()
    assert lending.migrate().run.state == "verified"


def test_a_table_that_appears_after_the_plan_makes_it_stale(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    lending.execute("CREATE TABLE tracker_entry (id INTEGER PRIMARY KEY)")
    with pytest.raises(Guarded, match="tracker_entry has appeared since"):
        lending.apply(run)
    assert not (set(TABLES) - {"tracker_entry"}) & lending.tables()


def test_a_parent_that_changes_after_the_plan_makes_it_stale(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    lending.execute("ALTER TABLE loan ADD COLUMN colour VARCHAR(10)")
    with pytest.raises(Guarded, match="have changed since it was planned"):
        lending.apply(run)
    again = lending.migrate()
    assert again.run.state == "verified"


def test_a_newer_plan_makes_an_older_one_stale(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    newer = lending.plan()
    for step in (lending.apply, lending.back_up):
        with pytest.raises(Guarded, match=f"run {newer.id} was planned after it"):
            step(run)


def test_a_rehearsal_leaves_nothing(lending: Lending) -> None:
    before = lending.contents()
    run = lending.plan()
    assert lending.apply(run, rehearse=True).state == "planned"
    assert lending.contents() == before


def test_a_rehearsal_does_not_change_the_file(file: Lending) -> None:
    before = file.files()
    file.apply(file.plan(), rehearse=True)
    assert file.files() == before


def test_more_tables_than_expected_are_refused(lending: Lending) -> None:
    run = lending.plan(expected_rows=(0, 5))
    for step in (lending.apply, lending.back_up):
        with pytest.raises(Guarded, match=r"plans 6 tables, expected were 0\.\.5"):
            step(run)


def test_a_second_person_approves_where_that_is_asked_for(lending: Lending) -> None:
    run = lending.plan(approval_above=5)
    for step in (lending.apply, lending.back_up):
        with pytest.raises(Guarded, match="a second person"):
            step(run)
    runs.approve(lending.ledger, run.id, "somebody else")
    lending.back_up(run)
    assert lending.apply(run).state == "applied"


MEDDLING = (
    """
    CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN ALTER TABLE interest_rate ADD COLUMN IF NOT EXISTS meddled integer; END $$
    """,
    "CREATE EVENT TRIGGER meddle ON ddl_command_end WHEN TAG IN ('CREATE TABLE')"
    " EXECUTE FUNCTION meddle()",
)


def test_another_table_that_changes_along_with_the_new_ones_rolls_all_of_it_back(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("postgres")
    before = lending.contents()
    run = lending.plan()
    lending.back_up(run)
    lending.execute(*MEDDLING)
    with pytest.raises(ProofFailed, match="interest_rate"):
        lending.apply(run)
    assert lending.contents() == before
    lending.execute("DROP EVENT TRIGGER meddle")
    assert lending.migrate().run.applied == 6


def test_a_failure_halfway_leaves_nothing(
    lending: Lending, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lending.contents()
    run = lending.plan()
    lending.back_up(run)
    execute, seen = type(lending.instance).execute, []

    def fail_at_the_fourth(self: object, connection: sa.Connection, change: object) -> None:
        seen.append(change)
        if len(seen) == 4:
            connection.exec_driver_sql("SELECT * FROM there_is_no_such_table")
        execute(self, connection, change)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(type(lending.instance), "execute", fail_at_the_fourth)
        with pytest.raises((sa.exc.DBAPIError, Misconfigured)):
            lending.apply(run)
    assert lending.contents() == before
    assert lending.migrate().run.state == "verified"


def test_anything_else_that_changes_rolls_all_of_it_back(
    lending: Lending, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lending.contents()
    run = lending.plan()
    lending.back_up(run)
    execute = type(lending.instance).execute

    def write_as_well(self: object, connection: sa.Connection, change: object) -> None:
        connection.exec_driver_sql("UPDATE loan SET admin_notes = 'oops'")
        execute(self, connection, change)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(type(lending.instance), "execute", write_as_well)
        with pytest.raises(Exception, match="changed something else"):
            lending.apply(run)
    assert lending.contents() == before
    assert runs.find(lending.ledger, run.id).state == "interrupted"
    assert lending.migrate().run.id == run.id


def test_a_table_altered_since_fails_the_verification(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    run = lending.apply(run)
    lending.execute("ALTER TABLE interest_rate ADD COLUMN colour VARCHAR(10)")
    found = lending.verify(run)
    assert found.run.state == "failed"
    assert {check.name for check in found.checks if not check.passed} == {"other_tables_unchanged"}


def test_a_table_dropped_since_fails_the_verification(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    run = lending.apply(run)
    lending.execute("DROP TABLE loan_cashback_config")
    found = lending.verify(run)
    assert found.run.state == "failed"
    assert found.run.checks["nothing_left_missing"] is False


def test_an_application_that_goes_on_writing_is_no_alarm(lending: Lending) -> None:
    run = lending.plan()
    lending.back_up(run)
    run = lending.apply(run)
    with Session(lending.engine()) as session:
        app_models.use_cashback(session)
    lending.execute("DELETE FROM payment", "CREATE TABLE news (id INTEGER PRIMARY KEY)")
    found = lending.verify(run)
    assert found.run.state == "verified"
    assert found.run.touched_since == 6
    assert found.run.appeared_since >= 1


def test_a_run_is_what_json_promises(lending: Lending) -> None:
    found = lending.migrate().run.json()
    assert (found["job"], found["partition"]) == ("cashback_migration", "prod")
    assert (found["planned"], found["applied"], found["state"]) == (6, 6, "verified")
    assert found["checks"] and all(found["checks"].values())


def test_the_reports_say_what_exists_what_is_created_and_what_to_do_next(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("delete", [*app_models.BEFORE, "cashback_transaction"])
    run = lending.plan()
    found = migration.detection_of(lending.ledger, run)
    plan = reports.before("prod", found, run)
    for line in (
        "nothing was changed",
        "Tables that already exist: 1",
        "Tables that would be created: 5",
        "CREATE TABLE cashback_redemption (",
        "| payment |",
        "| journal mode | rollback",
    ):
        assert line in plan
    done = lending.migrate()
    backup = migration.backup_of(done.run)
    after = reports.after("prod", found, done.run, done.checks, backup)
    for line in ("Tables created: 5", "Already existed: 1", "What to do next", "verified"):
        assert line in after
