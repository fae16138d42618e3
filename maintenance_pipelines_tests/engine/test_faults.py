"""What an error means, and how it is described to a person."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.faults import Fault, describe, judge
from maintenance_pipelines.engine.refusals import Guarded, Unreachable

ERRORS = [
    ("23505", Fault.ROW),
    ("23503", Fault.ROW),
    ("22003", Fault.ROW),
    ("P0001", Fault.ROW),
    ("57014", Fault.ROW),
    ("55P03", Fault.TRANSIENT),
    ("40P01", Fault.TRANSIENT),
    ("40001", Fault.TRANSIENT),
    ("57P01", Fault.TRANSIENT),
    ("42501", Fault.SYSTEMIC),
    ("42P01", Fault.SYSTEMIC),
    ("25006", Fault.SYSTEMIC),
    ("53100", Fault.SYSTEMIC),
    ("0A000", Fault.SYSTEMIC),
    ("XX000", Fault.SYSTEMIC),
]


@pytest.mark.parametrize(("code", "fault"), ERRORS)
def test_an_error_is_judged_by_what_can_be_done_about_it(
    app_database: Database, code: str, fault: Fault
) -> None:
    raises = f"DO $$BEGIN RAISE 'so it is' USING ERRCODE = '{code}'; END$$"
    with pytest.raises(sa.exc.DBAPIError) as error, app_database.transaction() as connection:
        connection.execute(sa.text(raises))
    assert judge(error.value) is fault
    assert describe(error.value) == "so it is"


def test_what_is_no_database_error_stops_the_run() -> None:
    assert judge(Guarded("taken over")) is Fault.SYSTEMIC
    assert judge(KeyboardInterrupt()) is Fault.SYSTEMIC
    assert judge(Unreachable("gone")) is Fault.TRANSIENT


def test_an_error_without_words_goes_by_its_name() -> None:
    assert describe(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert describe(MemoryError()) == "MemoryError"


def test_addresses_of_people_are_left_out() -> None:
    assert describe(ValueError("Key (email)=(jo@example.org) exists\nmore")) == (
        "Key (email)=(<e-mail>) exists"
    )
