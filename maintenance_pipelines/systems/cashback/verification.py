"""Verify: the six tables are as defined, and nothing else has changed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import verifying
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import Guarded
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import VERIFIABLE, Check, Verification
from maintenance_pipelines.systems.cashback import admission, manifest
from maintenance_pipelines.systems.cashback.compare import compare
from maintenance_pipelines.systems.cashback.detection import count_rows
from maintenance_pipelines.systems.cashback.instance import Instance
from maintenance_pipelines.systems.cashback.schema import TABLES

MUST_HOLD = {
    "plan_within_expected_scope": "As many tables were planned as somebody expected.",
    "every_planned_row_accounted_for": "Every planned table was created.",
    "nothing_left_missing": "All six tables exist.",
    "new_tables_as_specified": "The six tables are exactly as defined, and so are their parents.",
    "other_tables_unchanged": "Every other table is defined as it was before.",
    "existing_rows_untouched": "The database counted no row written by the migration.",
    "journal_mode_unchanged": "SQLite's journal mode is the one that it was.",
    "usable_by_the_application": "Whoever may use the parents may use the new tables.",
}
"""The checks that block, by name."""

WORTH_KNOWING = {
    "appeared_since": "Tables and the like that the application has added since.",
    "touched_since": "Rows that the application has written to the new tables since.",
}
"""Numbers, and no failure."""


def verify(
    instance: Instance, database: Database, run: Run, dagster_run_id: str | None = None
) -> Verification:
    """Reads the instance again and judges the run: `verified`, or `failed` where a check does not
    hold. What a running application writes meanwhile is counted and no failure.
    """
    if run.state not in VERIFIABLE:
        raise Guarded(f"Run {run.id} is {run.state}; only a run that was applied can be verified.")
    if run.pruned_at is not None:
        raise Guarded(f"Run {run.id} has been pruned and cannot be verified any more.")
    admission.demand_here(instance, run)
    started = time.monotonic()
    if run.planned == 0:
        checks = instance.read(lambda connection: [*_all_six(connection, instance)])
        concluded = verifying.conclude(database, run, checks, started, dagster_run_id)
        return Verification(concluded, tuple(checks))
    with database.transaction() as book:
        created = [change.table for change in manifest.read(book, run.id)]
        checks = [*_by_ledger(book, run)]
    checks += instance.read(lambda connection: [*_by_instance(connection, instance, run, created)])
    checks.append(_journal_mode(instance, run))
    concluded = verifying.conclude(database, run, checks, started, dagster_run_id)
    return Verification(concluded, tuple(checks))


def unchanged(before: Mapping[str, str], now: Mapping[str, str], but: Collection[str]) -> Check:
    """Whether everything that was defined before still is, but for what is named."""
    altered = sorted(name for name in before if name not in but and now.get(name) != before[name])
    says = f"{len(altered)} of {len(before)} definitions have changed"
    return Check("other_tables_unchanged", not altered, says, len(altered), tuple(altered[:10]))


def _by_ledger(book: sa.Connection, run: Run) -> Iterator[Check]:
    yield Check("plan_within_expected_scope", run.within_scope, f"{run.planned} tables planned")
    yield verifying.accounted_for(book, run)
    written = sum(verifying.counted(book, run))
    says = f"{written} rows were written in the transaction, by the database's own count"
    yield Check("existing_rows_untouched", run.applied > 0 and written == 0, says, written)


def _by_instance(
    connection: sa.Connection, instance: Instance, run: Run, created: list[str]
) -> Iterator[Check]:
    yield from _all_six(connection, instance)
    yield from _against_before(connection, instance, run)
    rows = dict(count_rows(connection, instance.schema))
    refused = instance.unusable(connection, tuple(table for table in created if table in rows))
    says = f"{len(refused)} rights on the parents are lacking on the new tables"
    yield Check("usable_by_the_application", not refused, says, len(refused), tuple(refused))
    used = sum(rows.get(table, 0) for table in created)
    says = f"{used} rows are in the new tables by now"
    yield Check("touched_since", used == 0, says, used, warning=True)


def _all_six(connection: sa.Connection, instance: Instance) -> Iterator[Check]:
    found = compare(connection, instance.schema)
    missing = found.missing
    says = f"{len(found.present)} of {len(TABLES)} tables exist"
    yield Check("nothing_left_missing", not missing, says, len(missing), missing)
    wrong = (*found.differences, *found.lacking)
    says = f"{len(wrong)} differences from the definitions"
    yield Check("new_tables_as_specified", not wrong, says, len(wrong), wrong)


def _against_before(connection: sa.Connection, instance: Instance, run: Run) -> Iterator[Check]:
    state: Mapping[str, Any] | None = run.options.get("applied")
    if state is None:
        yield Check("other_tables_unchanged", False, "the run has no record of what was before")
        yield Check("appeared_since", False, "the run has no record of before", warning=True)
        return
    now = instance.definitions(connection)
    yield unchanged(state["definitions"], now, ())
    new = sorted(set(now) - set(state["definitions"]) - set(state["created"]))
    says = f"{len(new)} definitions have been added since"
    yield Check("appeared_since", not new, says, len(new), tuple(new[:10]), warning=True)


def _journal_mode(instance: Instance, run: Run) -> Check:
    before = (run.options.get("applied") or {}).get("journal_mode")
    now = instance.journal_mode()
    says = f"it is {now}" if now else f"{instance.kind} has none"
    return Check("journal_mode_unchanged", now == before, says)
