"""Views: what people look at, as Markdown. None of them leaves a trace in the data."""

from __future__ import annotations

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.tables import table
from maintenance_pipelines.systems.referrals import absent, archives, top_referrers
from maintenance_pipelines.systems.referrals.options import month_asked, running_month
from maintenance_pipelines.systems.referrals.validation import validate


def top(database: Database, scope: Scope) -> str:
    """The top referrers over all communities, and which index the question lacks."""
    with database.transaction() as connection:
        shown = top_referrers.markdown(connection)
        lacking = [
            each.ddl
            for each in absent.absent(connection, database.schema)
            if all(column in each.ddl for column in top_referrers.WANTED)
        ]
    return "\n\n".join([shown, *(f"Slow without its index: `{ddl}`" for ddl in lacking)])


def archive(database: Database, scope: Scope) -> str:
    """The archive of the month asked about, else of the latest that is over, by community."""
    month = running_month(scope).plus(-1) if scope.partition is None else month_asked(scope)
    with database.transaction() as connection:
        due, archived = connection.execute(archives.coverage(month)).one()
        shown = archives.markdown(connection, f"Archive of {month}", archives.of_month(month))
    return f"{archived:,} of {due:,} members are archived.\n\n{shown}"


def audit(database: Database, scope: Scope) -> str:
    """The audit log by entity, field, cause and month; of the month asked about, else of all."""
    month = None if scope.partition is None else month_asked(scope)
    with database.transaction() as connection:
        return archives.markdown(connection, "Audited changes", archives.changes(month=month))


def validation(database: Database, scope: Scope) -> str:
    """The three webhook scenarios, played in a transaction that is rolled back."""
    rows = [
        (each.name, "holds" if each.passed else "FAILED", each.says, "; ".join(each.differences))
        for each in validate(database)
    ]
    return table("Webhook logic", ["scenario", "", "says", "differences"], rows)
