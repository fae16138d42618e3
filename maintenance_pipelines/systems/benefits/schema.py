"""The app's four tables, exactly as they are in its database: Prisma's names, quoted.

Ids are text made by the client, times are `timestamp(3)` holding UTC, and neither an id nor
`"updatedAt"` has a database default. Columns marked `optional` exist in later versions of the
app only: nothing may rely on them. The tables carry no schema; whoever executes a statement
names it (`schema_translate_map={None: schema}`).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, TIMESTAMP
from sqlalchemy.schema import AddConstraint, CreateIndex

from maintenance_pipelines.systems.app_tables import create_unkeyed

metadata = sa.MetaData()

MOMENT = TIMESTAMP(precision=3)
OPTIONAL = {"optional": True}
NOW = sa.text("CURRENT_TIMESTAMP")

frequency = sa.Enum(
    "MONTHLY", "QUARTERLY", "YEARLY", "ONE_TIME", name="BenefitFrequency", metadata=metadata
)
alignment = sa.Enum(
    "CARD_ANNIVERSARY", "CALENDAR_FIXED", name="BenefitCycleAlignment", metadata=metadata
)

user = sa.Table(
    "User",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("createdAt", MOMENT, nullable=False, server_default=NOW),
    sa.Column("updatedAt", MOMENT, nullable=False),
    sa.Index("User_email_key", "email", unique=True),
)

credit_card = sa.Table(
    "CreditCard",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("openedDate", MOMENT),
    sa.Column(
        "userId",
        sa.ForeignKey("User.id", onupdate="CASCADE", ondelete="RESTRICT"),
        nullable=False,
    ),
    sa.Column("createdAt", MOMENT, nullable=False, server_default=NOW),
    sa.Column("updatedAt", MOMENT, nullable=False),
    sa.Column("expiryDate", MOMENT),
    sa.Column("cardNumber", sa.Text),
    sa.Column("lastFourDigits", sa.Text),
)

benefit = sa.Table(
    "Benefit",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("percentage", DOUBLE_PRECISION, nullable=False),
    sa.Column("maxAmount", DOUBLE_PRECISION),
    sa.Column("startDate", MOMENT, nullable=False),
    sa.Column("endDate", MOMENT),
    sa.Column("frequency", frequency, nullable=False, server_default="ONE_TIME"),
    sa.Column(
        "creditCardId",
        sa.ForeignKey("CreditCard.id", onupdate="CASCADE", ondelete="CASCADE"),
        nullable=True,
    ),
    sa.Column("cycleAlignment", alignment, server_default="CARD_ANNIVERSARY"),
    sa.Column("fixedCycleStartMonth", sa.Integer),
    sa.Column("fixedCycleDurationMonths", sa.Integer),
    sa.Column("occurrencesInCycle", sa.Integer, nullable=False, server_default="1"),
    sa.Column("createdAt", MOMENT, nullable=False, server_default=NOW),
    sa.Column("updatedAt", MOMENT, nullable=False),
    sa.Column(
        "userId",
        sa.ForeignKey("User.id", onupdate="CASCADE", ondelete="CASCADE"),
        info=OPTIONAL,
    ),
)

benefit_status = sa.Table(
    "BenefitStatus",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "benefitId",
        sa.ForeignKey("Benefit.id", onupdate="CASCADE", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column(
        "userId",
        sa.ForeignKey("User.id", onupdate="CASCADE", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("cycleStartDate", MOMENT, nullable=False),
    sa.Column("cycleEndDate", MOMENT, nullable=False),
    sa.Column("isCompleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("completedAt", MOMENT),
    sa.Column("isNotUsable", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("createdAt", MOMENT, nullable=False, server_default=NOW),
    sa.Column("updatedAt", MOMENT, nullable=False),
    sa.Column("orderIndex", sa.Integer),
    sa.Column("occurrenceIndex", sa.Integer, nullable=False, server_default="0"),
    sa.Column("usedAmount", DOUBLE_PRECISION, nullable=False, server_default="0", info=OPTIONAL),
    sa.Column("notes", sa.Text, info=OPTIONAL),
    # Prisma's name for it, cut to the 63 bytes of an identifier. It differs between
    # installations, so nothing may refer to it by name.
    sa.Index(
        "BenefitStatus_benefitId_userId_cycleStartDate_occurrenceInd_key",
        "benefitId",
        "userId",
        "cycleStartDate",
        "occurrenceIndex",
        unique=True,
    ),
)


TABLES = (user, credit_card, benefit, benefit_status)


def create_app_tables(
    connection: sa.Connection, schema: str, with_later_columns: bool = False
) -> None:
    """Create the app's tables in `schema`, as of August 2025 unless later columns are wanted."""
    create_unkeyed_app_tables(connection, schema, with_later_columns)
    add_app_keys(connection, schema)


def create_unkeyed_app_tables(
    connection: sa.Connection, schema: str, with_later_columns: bool = False
) -> None:
    """The tables with primary keys only, which load faster; `add_app_keys` completes them."""
    create_unkeyed(connection, schema, TABLES, (frequency, alignment))
    if not with_later_columns:
        _back_to_august_2025(connection, schema)


def add_app_keys(connection: sa.Connection, schema: str) -> None:
    """The unique indexes and foreign keys that `create_unkeyed_app_tables` left out."""
    connection.execution_options(schema_translate_map={None: schema})
    for table in TABLES:
        for index in table.indexes:
            connection.execute(CreateIndex(index))
    for table in TABLES:
        for constraint in table.foreign_key_constraints:
            if _exists(connection, schema, constraint):
                # Kept in the table's own DDL too: AddConstraint would otherwise take it out.
                connection.execute(AddConstraint(constraint, isolate_from_table=False))


def _back_to_august_2025(connection: sa.Connection, schema: str) -> None:
    for table in TABLES:
        for column in table.columns:
            if column.info.get("optional"):
                drop = f'ALTER TABLE {_name(connection, schema, table)} DROP COLUMN "{column.name}"'
                connection.execute(sa.text(drop))
    required = f'ALTER TABLE {_name(connection, schema, benefit)} ALTER "creditCardId" SET NOT NULL'
    connection.execute(sa.text(required))


def _exists(connection: sa.Connection, schema: str, constraint: sa.ForeignKeyConstraint) -> bool:
    columns = sa.inspect(connection).get_columns(constraint.table.name, schema=schema)
    return {column["name"] for column in columns} >= set(constraint.column_keys)


def _name(connection: sa.Connection, schema: str, table: sa.Table) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(schema)}.{quote(table.name)}"
