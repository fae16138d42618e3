"""A credits database at size: 100,000 professionals with twelve transactions each.

Everything is made by the server from row numbers, so it is the same every time, and the books are
right. Everybody is verified, has claimed some leads of the hundred free credits of last month, and
every second one has bought fifty.
"""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.systems.credits.schema import (
    TABLES,
    add_app_keys,
    create_unkeyed_app_tables,
)

USERS = """
INSERT INTO {schema}.users (id, email, role)
SELECT {user_id}, 'pro' || p || '@example.com', 'pro' FROM generate_series(1, {people}) AS p
"""

PROFILES = """
INSERT INTO {schema}.pro_profiles (user_id, business_name, verification_status)
SELECT {user_id}, 'Business ' || p,
       (CASE WHEN p % 3 = 0 THEN 'comprehensive' ELSE 'basic' END)::{schema}.verification_status
FROM generate_series(1, {people}) AS p
"""

# Ten spends of one to nine credits: the sum of the first i of them is spent_before + spent.
SPENDS = """
SELECT p, i, 1 + (p * 7 + i * 3) % 9 AS spent,
       coalesce(sum(1 + (p * 7 + i * 3) % 9)
           OVER (PARTITION BY p ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
           AS spent_before
FROM generate_series(1, {people}) AS p, generate_series(1, 10) AS i
"""

BOOKED = """
INSERT INTO {schema}.credit_transactions (id, professional_id, type, amount, credit_type,
    balance_before, balance_after, description, expires_at, remaining_amount, created_at,
    updated_at)
WITH spend AS ({spends}), total AS (SELECT p, sum(spent) AS spent FROM spend GROUP BY p),
booked AS (
    SELECT p, 0 AS i, 'bonus' AS type, 100 AS amount, 'free' AS kind, 0 AS before,
           'Welcome' AS says, NULL::timestamptz AS expires, 100 - spent AS remains FROM total
    UNION ALL
    SELECT p, i, 'spend', -spent, 'paid', 100 - spent_before, 'Claimed a lead', NULL, 0 FROM spend
    UNION ALL
    SELECT p, 11, 'purchase', 50, 'paid', 100 - spent, 'Bought 50 credits',
           now() + INTERVAL '5 months', 50 FROM total WHERE p % 2 = 0
)
SELECT lpad(to_hex(p), 8, '0') || lpad(to_hex(i), 4, '0') || left(md5(p::text || i), 12),
       {user_id}, type::{schema}.credit_transaction_type, amount, kind::{schema}.credit_type,
       before, before + amount, says, expires, remains,
       date_trunc('month', now()) - (24 - i) * INTERVAL '1 day', now()
FROM booked ORDER BY p, i
"""

BALANCES = """
INSERT INTO {schema}.credit_balances (id, professional_id, total_balance, free_credits,
    paid_credits, lifetime_earned, lifetime_spent, last_reset_date)
SELECT 'b' || lpad(to_hex(p), 8, '0') || left(md5('b' || p), 15), {user_id}, free + paid, free,
       paid, 100 + paid, 100 - free, date_trunc('month', now()) - INTERVAL '24 days'
FROM (SELECT p, (100 - sum(spent))::integer AS free, CASE WHEN p % 2 = 0 THEN 50 ELSE 0 END AS paid
      FROM ({spends}) AS spend GROUP BY p) AS account
ORDER BY p
"""


def build(connection: sa.Connection, schema: str = "public", people: int = 100_000) -> None:
    """Create the app's tables in `schema` and fill them for so many professionals; analyzed."""
    create_unkeyed_app_tables(connection, schema)
    name = connection.dialect.identifier_preparer.quote(schema)
    user_id = "'a' || lpad(to_hex(p), 8, '0') || left(md5('u' || p), 15)"
    values = {"schema": name, "people": people, "user_id": user_id}
    spends = SPENDS.format(**values)
    for statement in (USERS, PROFILES, BOOKED, BALANCES):
        connection.execute(sa.text(statement.format(**values, spends=spends)))
    add_app_keys(connection, schema)
    for table in TABLES:
        connection.execute(sa.text(f"ANALYZE {name}.{table.name}"))
