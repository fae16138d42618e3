"""Views: what people look at, as Markdown. None of them leaves a trace in the data."""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.engine.tables import table
from maintenance_pipelines.systems.referrals import absent, archives, top_referrers
from maintenance_pipelines.systems.referrals.options import month_asked, running_month
from maintenance_pipelines.systems.referrals.schema import creator, member
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


def archive_of(database: Database, subject: str) -> str:
    """The archived months of one member or creator."""
    with database.transaction() as connection:
        of = archives.of_member if _demand_known(connection, subject) else archives.of_creator
        return archives.markdown(connection, "Archived months", of(subject))


def audit_of(database: Database, subject: str) -> str:
    """Every audited change of one member or creator."""
    with database.transaction() as connection:
        _demand_known(connection, subject)
        return archives.markdown(connection, "Audited changes", archives.changes_of(subject))


def audit(database: Database, scope: Scope) -> str:
    """The audit log by entity, field, cause and month; of the month asked about, else of all."""
    month = None if scope.partition is None else month_asked(scope)
    with database.transaction() as connection:
        return archives.markdown(connection, "Audited changes", archives.changes(month))


def validation(database: Database, scope: Scope) -> str:
    """The three webhook scenarios, played in a transaction that is rolled back."""
    rows = [
        (each.name, "holds" if each.passed else "FAILED", each.says, "; ".join(each.differences))
        for each in validate(database)
    ]
    return table("Webhook logic", ["scenario", "", "says", "differences"], rows)


def _demand_known(connection: sa.Connection, subject: str) -> bool:
    """Whether it is a member; refuses an id that is neither a member's nor a creator's."""
    for table_ in (member, creator):
        there = sa.select(sa.exists().where(table_.c.id == subject))
        if connection.execute(there).scalar_one():
            return table_ is member
    raise BadInput("No member and no creator has that id; give one as the application has it.")
