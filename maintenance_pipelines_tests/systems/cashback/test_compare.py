"""By shape, not by name: what is there and not as defined is reported, and never touched."""

from __future__ import annotations

import pytest

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.systems.cashback.detection import detect
from maintenance_pipelines.systems.cashback.schema import PARENTS, TABLES
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.conftest import KINDS, MakeLending
from maintenance_pipelines_tests.systems.cashback.lending import Lending

ALL = [*app_models.BEFORE, *app_models.CASHBACK]
COLUMNS = """
    tracker_id INTEGER NOT NULL REFERENCES daily_tracker (id),
    user_id INTEGER NOT NULL REFERENCES "user" (id),
    cashback_type VARCHAR(20) NOT NULL,
    cashback_value NUMERIC(15, 4) NOT NULL,
"""


def refused(lending: Lending, *differences: str) -> None:
    """The instance is refused for just these differences, and stays as it is."""
    before = lending.contents()
    found = detect(lending.instance).comparison
    assert [*found.lacking, *found.differences] == [*differences]
    with pytest.raises(Misconfigured) as refusal:
        lending.plan()
    for difference in differences:
        assert difference in str(refusal.value)
    assert lending.contents() == before


@pytest.fixture(params=KINDS[1:])
def whole(request: pytest.FixtureRequest, make_lending: MakeLending) -> Lending:
    """An instance with all six tables, as the application made them."""
    return make_lending(request.param, ALL)


def remade(lending: Lending, table: str, statement: str) -> None:
    lending.execute(f"DROP TABLE {table}", statement)


def identity(lending: Lending) -> str:
    return "id INTEGER NOT NULL" if lending.instance.kind == "SQLite" else "id SERIAL"


def moment(lending: Lending) -> str:
    return "DATETIME" if lending.instance.kind == "SQLite" else "TIMESTAMP"


def config(lending: Lending, columns: str = COLUMNS, rest: str = "PRIMARY KEY (id)") -> str:
    """A `tracker_cashback_config` that is as defined but for what is given."""
    return (
        f"CREATE TABLE tracker_cashback_config ({identity(lending)}, {columns}"
        f" created_at {moment(lending)}, is_active BOOLEAN, {rest})"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_applications_own_six_tables_are_as_defined(
    make_lending: MakeLending, kind: str
) -> None:
    lending = make_lending(kind, ALL)
    found = detect(lending.instance).comparison
    assert (found.present, found.missing) == (TABLES, ())
    assert (found.differences, found.lacking) == ((), ())


def test_other_spellings_of_the_same_are_the_same(whole: Lending) -> None:
    columns = COLUMNS.replace("NUMERIC(15, 4)", "decimal(15,4)").replace("VARCHAR", "varchar")
    columns = columns.replace("user_id INTEGER", "user_id int")
    remade(whole, "tracker_cashback_config", config(whole, columns))
    assert detect(whole.instance).comparison.differences == ()


def test_identity_is_as_right_as_serial(make_lending: MakeLending) -> None:
    lending = make_lending("postgres", ALL)
    lending.execute(
        "ALTER TABLE tracker_entry ALTER id DROP DEFAULT",
        "ALTER TABLE tracker_entry ALTER id ADD GENERATED ALWAYS AS IDENTITY",
    )
    assert detect(lending.instance).comparison.differences == ()


def test_a_missing_column_is_a_difference(make_lending: MakeLending) -> None:
    for kind in KINDS:
        lending = make_lending(kind, ALL, name=kind)
        lending.execute("ALTER TABLE cashback_transaction DROP COLUMN user_notes")
        refused(lending, "cashback_transaction has no column user_notes")


def test_a_column_too_many_is_a_difference(whole: Lending) -> None:
    whole.execute("ALTER TABLE tracker_entry ADD COLUMN colour TEXT")
    refused(whole, "tracker_entry has the column colour, which is not in its definition")


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("VARCHAR(20)", "VARCHAR(30)", "cashback_type is VARCHAR(30), not VARCHAR(20)"),
        ("VARCHAR(20)", "VARCHAR", "cashback_type is VARCHAR, not VARCHAR(20)"),
        ("NUMERIC(15, 4)", "NUMERIC", "cashback_value is NUMERIC, not NUMERIC(15, 4)"),
        ("NUMERIC(15, 4)", "NUMERIC(15, 2)", "cashback_value is NUMERIC(15, 2), not NUMERIC"),
        ("tracker_id INTEGER", "tracker_id BIGINT", "tracker_id is BIGINT, not INTEGER"),
    ],
)
def test_another_type_is_a_difference(
    whole: Lending, before: str, after: str, difference: str
) -> None:
    remade(whole, "tracker_cashback_config", config(whole, COLUMNS.replace(before, after)))
    (found,) = detect(whole.instance).comparison.differences
    assert difference in found
    with pytest.raises(Misconfigured):
        whole.plan()


def test_a_column_that_may_be_null_and_one_that_must_not_are_differences(whole: Lending) -> None:
    columns = COLUMNS.replace("VARCHAR(20) NOT NULL", "VARCHAR(20)")
    statement = config(whole, columns).replace("BOOLEAN", "BOOLEAN NOT NULL")
    remade(whole, "tracker_cashback_config", statement)
    refused(
        whole,
        "tracker_cashback_config.cashback_type may be NULL, though by definition it must not",
        "tracker_cashback_config.is_active must not be NULL, though by definition it may",
    )


def test_no_primary_key_is_a_difference(whole: Lending) -> None:
    statement = config(whole, rest="CHECK (true)")
    remade(whole, "tracker_cashback_config", statement)
    refused(whole, "tracker_cashback_config has no primary key")


def test_another_primary_key_is_a_difference(whole: Lending) -> None:
    statement = config(whole, rest="PRIMARY KEY (id, user_id)")
    remade(whole, "tracker_cashback_config", statement)
    assert "tracker_cashback_config has the primary key (id, user_id)" in (
        detect(whole.instance).comparison.differences
    )


def test_an_id_that_the_database_would_not_fill_in_is_a_difference(
    make_lending: MakeLending,
) -> None:
    lending = make_lending("postgres", ALL)
    lending.execute("ALTER TABLE tracker_entry ALTER id DROP DEFAULT")
    refused(lending, "tracker_entry.id is not generated by the database")


def test_sqlite_fills_in_an_integer_primary_key_and_no_int(make_lending: MakeLending) -> None:
    lending = make_lending("delete", ALL)
    statement = config(lending).replace("id INTEGER NOT NULL,", "id INTEGER,", 1)
    remade(lending, "tracker_cashback_config", statement)
    assert detect(lending.instance).comparison.differences == ()
    statement = config(lending).replace("id INTEGER NOT NULL", "id INT NOT NULL", 1)
    remade(lending, "tracker_cashback_config", statement)
    refused(lending, "tracker_cashback_config.id is not generated by the database")


def test_a_unique_constraint_that_nobody_asked_for_is_a_difference(whole: Lending) -> None:
    statement = config(whole, rest="PRIMARY KEY (id), UNIQUE (tracker_id, user_id)")
    remade(whole, "tracker_cashback_config", statement)
    whole.execute("CREATE UNIQUE INDEX once ON tracker_entry (day) WHERE day > 0")
    refused(
        whole,
        "tracker_entry has a unique key (day), which is not in its definition",
        "tracker_cashback_config has a unique key (tracker_id, user_id), which is not in its "
        "definition",
    )


def test_an_index_that_is_not_unique_is_none(whole: Lending) -> None:
    whole.execute("CREATE INDEX quick ON tracker_entry (day)")
    assert whole.migrate().run.state == "verified"


def test_a_foreign_key_that_is_missing_or_goes_elsewhere_is_a_difference(whole: Lending) -> None:
    columns = COLUMNS.replace(" REFERENCES daily_tracker (id)", " REFERENCES loan (id)")
    columns = columns.replace(' REFERENCES "user" (id)', "")
    remade(whole, "tracker_cashback_config", config(whole, columns))
    refused(
        whole,
        "tracker_cashback_config.tracker_id does not refer to daily_tracker.id",
        "tracker_cashback_config.user_id does not refer to user.id",
        "tracker_cashback_config.tracker_id refers to loan.id, which is not in its definition",
    )


def test_a_rule_on_delete_is_a_difference(whole: Lending) -> None:
    columns = COLUMNS.replace('"user" (id)', '"user" (id) ON DELETE CASCADE')
    remade(whole, "tracker_cashback_config", config(whole, columns))
    refused(whole, "tracker_cashback_config.user_id has the rule ON DELETE CASCADE")


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_of_the_same_name_is_a_difference(make_lending: MakeLending, kind: str) -> None:
    lending = make_lending(kind)
    lending.execute("CREATE VIEW tracker_entry AS SELECT * FROM loan")
    refused(lending, "tracker_entry is a view, not a table")


def test_whatever_else_has_the_name_is_a_difference(make_lending: MakeLending) -> None:
    file = make_lending("delete")
    file.execute("CREATE INDEX tracker_entry ON loan (customer_id)")
    refused(file, "tracker_entry is an index, not a table")
    server = make_lending("postgres")
    server.execute("CREATE SEQUENCE tracker_entry")
    refused(server, "tracker_entry is a sequence, not a table")


def test_a_table_in_other_letters_is_the_table_to_sqlite(make_lending: MakeLending) -> None:
    lending = make_lending("delete", ALL)
    lending.execute(
        "ALTER TABLE tracker_entry RENAME TO for_a_moment",
        'ALTER TABLE for_a_moment RENAME TO "Tracker_Entry"',
    )
    refused(lending, "tracker_entry is there as Tracker_Entry")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_parent_is_named(make_lending: MakeLending, kind: str) -> None:
    lending = make_lending(kind, ["user", "loan", "payment"])
    refused(lending, "table daily_tracker does not exist")


def test_every_missing_parent_is_named(make_lending: MakeLending) -> None:
    lending = make_lending("delete", ["interest_rate"])
    refused(lending, *(f"table {parent} does not exist" for parent in PARENTS))


def test_a_parent_without_an_integer_id_is_named(make_lending: MakeLending) -> None:
    lending = make_lending("wal", ["user", "loan", "payment"])
    lending.execute("CREATE TABLE daily_tracker (id TEXT PRIMARY KEY)")
    refused(lending, "daily_tracker.id is not an integer")
    lending.execute("DROP TABLE daily_tracker", "CREATE TABLE daily_tracker (id INTEGER)")
    refused(lending, "the primary key of daily_tracker is not id")


def test_all_differences_are_named_at_once(make_lending: MakeLending) -> None:
    lending = make_lending("delete", ALL)
    lending.execute(
        "ALTER TABLE cashback_transaction DROP COLUMN user_notes",
        "ALTER TABLE tracker_entry DROP COLUMN rejection_reason",
    )
    refused(
        lending,
        "cashback_transaction has no column user_notes",
        "tracker_entry has no column rejection_reason",
    )
