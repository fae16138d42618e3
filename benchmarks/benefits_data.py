"""A benefits database at size: 105,000 users, 7 million statuses, August 2025 mostly missing.

Everything is made by the server from row numbers, so it is the same every time. Ids grow with
the time a row was made, as the app's cuids do. At 105,000 users: 315,000 cards, 1.2 million
benefits (most of them monthly, some quarterly, yearly, fixed and one-time), 7.3 million
statuses, and some 650,000 missing in August.
"""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.systems.benefits.schema import (
    add_app_keys,
    create_unkeyed_app_tables,
)

MISSING_OF_HUNDRED = 67
"""How many users in a hundred have no status of August: the job failed partway."""

USERS = """
INSERT INTO {schema}."User" (id, email, "createdAt", "updatedAt")
SELECT {user_id}, 'user' || u || '@example.com', TIMESTAMP '2024-06-01', TIMESTAMP '2024-06-01'
FROM generate_series(1, {users}) AS u
"""

CARDS = """
INSERT INTO {schema}."CreditCard"
    (id, name, issuer, "openedDate", "userId", "createdAt", "updatedAt")
SELECT {card_id}, 'Card ' || c % 40,
       (ARRAY['Chase', 'American Express', 'Citi', 'Discover'])[1 + c % 4],
       CASE WHEN c % 50 > 0
            THEN TIMESTAMP '2019-01-01' + (c % 2000 * 7919 % 2000) * INTERVAL '1 day' END,
       {user_id}, TIMESTAMP '2024-07-01', TIMESTAMP '2024-07-01'
FROM generate_series(1, {users} * 3) AS c, LATERAL (SELECT (c + 2) / 3 AS u) AS owner
"""

# Benefit 1 to 3 of each card is monthly; every third card has a quarterly one, the next third a
# yearly one, of which some are fixed, and the rest a one-time benefit now and then.
BENEFITS = """
INSERT INTO {schema}."Benefit" (id, category, description, percentage, "maxAmount", "startDate",
    "endDate", frequency, "creditCardId", "cycleAlignment", "fixedCycleStartMonth",
    "fixedCycleDurationMonths", "occurrencesInCycle", "createdAt", "updatedAt")
SELECT {benefit_id}, 'Dining', 'Benefit ' || b % 97, 0, 10 + b % 40, TIMESTAMP '2024-07-01',
       CASE WHEN b % 100 = 7 THEN TIMESTAMP '2025-06-30' END,
       kind::{schema}."BenefitFrequency", {card_id},
       (CASE WHEN kind <> 'MONTHLY' AND c % 5 = 0 THEN 'CALENDAR_FIXED'
            WHEN b % 3 = 0 THEN NULL ELSE 'CARD_ANNIVERSARY' END)::{schema}."BenefitCycleAlignment",
       CASE WHEN kind <> 'MONTHLY' AND c % 5 = 0 THEN 1 + c % 12 END,
       CASE WHEN kind <> 'MONTHLY' AND c % 5 = 0 THEN 12 END,
       CASE WHEN kind = 'MONTHLY' AND b % 100 = 13 THEN 2 ELSE 1 END,
       TIMESTAMP '2024-07-01', TIMESTAMP '2024-07-01'
FROM generate_series(1, {users} * 12) AS b,
     LATERAL (SELECT (b + 3) / 4 AS c, (b + 3) % 4 AS n) AS place,
     LATERAL (SELECT CASE WHEN n < 3 THEN 'MONTHLY' WHEN c % 3 = 0 THEN 'QUARTERLY'
                          WHEN c % 3 = 1 THEN 'YEARLY' WHEN c % 30 = 2 THEN 'ONE_TIME'
                     END AS kind) AS k
WHERE kind IS NOT NULL
"""

# One statement a month, as the app's job ran: a row of that month for each cycle starting in it.
STATUSES = """
INSERT INTO {schema}."BenefitStatus" (id, "benefitId", "userId", "cycleStartDate", "cycleEndDate",
    "isCompleted", "completedAt", "isNotUsable", "createdAt", "updatedAt", "occurrenceIndex")
SELECT 'c' || lpad(to_hex({month}), 2, '0') || lpad(to_hex(row_number() OVER ()), 6, '0')
           || left(md5(id || occurrence || {month}), 16),
       id, "userId", first, first + months * INTERVAL '1 month' - INTERVAL '1 millisecond',
       number % 3 = 0, CASE WHEN number % 3 = 0 THEN first + INTERVAL '5 days' END,
       number % 31 = 1, first, first, occurrence
FROM (
    SELECT b.id, c."userId", b."occurrencesInCycle" AS occurrences, b."endDate",
           hashtext(b.id) & 65535 AS number, hashtext(c."userId") & 65535 AS user_number,
           make_date(2025, {month}, 1)::timestamp AS first,
           CASE WHEN b.frequency::text = 'MONTHLY' THEN 1
                WHEN b."fixedCycleDurationMonths" > 0
                    THEN CASE b."fixedCycleStartMonth"
                              WHEN {month} THEN b."fixedCycleDurationMonths" END
                WHEN b.frequency::text = 'QUARTERLY' AND {month} % 3 = 1 THEN 3
                WHEN b.frequency::text = 'YEARLY'
                    AND date_part('month', c."openedDate") = {month} THEN 12
           END AS months
    FROM {schema}."Benefit" AS b JOIN {schema}."CreditCard" AS c ON c.id = b."creditCardId"
    WHERE b.frequency::text <> 'ONE_TIME'
) AS cycle CROSS JOIN LATERAL generate_series(0, occurrences - 1) AS occurrence
WHERE months IS NOT NULL AND ("endDate" IS NULL OR "endDate" >= first)
    AND ({month} < 8 OR user_number % 100 >= {missing})
"""


def build(connection: sa.Connection, schema: str = "public", users: int = 105_000) -> None:
    """Create the app's tables in `schema` and fill them for so many users; analyzed."""
    create_unkeyed_app_tables(connection, schema)
    name = connection.dialect.identifier_preparer.quote(schema)
    ids = {f"{kind}_id": _id(kind[0]) for kind in ("user", "card", "benefit")}
    for statement in (USERS, CARDS, BENEFITS):
        connection.execute(sa.text(statement.format(schema=name, users=users, **ids)))
    connection.execute(sa.text(f'ANALYZE {name}."Benefit", {name}."CreditCard"'))
    for month in range(1, 9):
        statuses = STATUSES.format(schema=name, month=month, missing=MISSING_OF_HUNDRED)
        connection.execute(sa.text(statuses))
    add_app_keys(connection, schema)
    for table in ("User", "CreditCard", "Benefit", "BenefitStatus"):
        connection.execute(sa.text(f'ANALYZE {name}."{table}"'))


def _id(letter: str) -> str:
    """SQL for the cuid of the row that the column `letter` numbers; it grows with the number."""
    return f"'c' || lpad(to_hex({letter}), 8, '0') || left(md5('{letter}' || {letter}), 16)"
