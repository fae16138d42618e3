"""A monetization database at size, made by the server from row numbers, the same every time.

With a million users: a million targets, two million aims and ten million shots; a hundred thousand
tiers that have expired; 1.2 million redemptions, of which a million are old and can go.
"""

from __future__ import annotations

import sqlalchemy as sa

from maintenance_pipelines.systems.monetization.schema import (
    add_app_keys,
    create_unkeyed_app_tables,
)

USERS = """
INSERT INTO users (id, email, name, authentik_sub, tier, tier_source, tier_expires_at,
    created_at, updated_at)
SELECT md5('u' || u)::uuid, 'user' || u || '@example.com', 'User ' || u, 'sub' || u,
       (CASE WHEN u % 10 < 3 THEN 'premium' ELSE 'free' END)::user_tier,
       (CASE WHEN u % 10 < 3 THEN 'subscription' ELSE 'default' END)::tier_source,
       CASE WHEN u % 10 = 0 THEN TIMESTAMPTZ '2025-11-01Z' - u % 86400 * INTERVAL '1 second'
            WHEN u % 10 < 3 THEN TIMESTAMPTZ '2025-12-01Z' END,
       TIMESTAMPTZ '2024-01-01Z', TIMESTAMPTZ '2025-06-01Z'
  FROM generate_series(1, {users}) AS u
"""

CODES = """
INSERT INTO promo_codes (id, code, type, is_active, valid_until, created_at)
SELECT md5('c' || c)::uuid, 'CODE' || c, 'tier_grant', c % 6 = 0,
       TIMESTAMPTZ '2025-01-01Z', TIMESTAMPTZ '2024-01-01Z'
  FROM generate_series(1, 600) AS c
"""

# One in six is too young, the others are of codes that nobody can redeem again.
REDEMPTIONS = """
INSERT INTO promo_redemptions (id, promo_code_id, user_id, redeemed_at, applied_until, tier_granted)
SELECT md5('r' || r)::uuid, md5('c' || 1 + r % 600)::uuid, md5('u' || 1 + r % {users})::uuid,
       CASE WHEN r % 6 = 0 THEN TIMESTAMPTZ '2025-10-01Z' ELSE TIMESTAMPTZ '2024-05-01Z' END
           + r % 86400 * INTERVAL '1 second',
       TIMESTAMPTZ '2024-09-01Z', 'premium'
  FROM generate_series(1, {users} * 6 / 5) AS r
"""

TARGETS = """
INSERT INTO targets (id, user_id, thesis, abort_trigger, abort_triggered)
SELECT md5('t' || t)::uuid, md5('u' || t)::uuid, 'It will rise.',
       CASE WHEN t % 3 = 0 THEN 'Below 90' END, t % 5 = 0
  FROM generate_series(1, {users}) AS t
"""

AIMS = """
INSERT INTO aims (id, target_id, symbol, target_price_realistic)
SELECT md5('a' || a)::uuid, md5('t' || 1 + a % {users})::uuid, 'ACME', 100
  FROM generate_series(1, {users} * 2) AS a
"""

SHOTS = """
INSERT INTO shots (id, aim_id, entry_price, stop_loss_honored, profit_target_honored)
SELECT md5('s' || s)::uuid, md5('a' || 1 + s % ({users} * 2))::uuid, 90,
       (ARRAY[true, false, NULL])[1 + s % 3], (ARRAY[true, NULL, false, NULL])[1 + s % 4]
  FROM generate_series(1, {users} * 10) AS s
"""


def build(connection: sa.Connection, users: int) -> None:
    """Creates the app's tables in `public` and fills them."""
    create_unkeyed_app_tables(connection, "public")
    for statement in (USERS, CODES, REDEMPTIONS, TARGETS, AIMS, SHOTS):
        connection.execute(sa.text(statement.format(users=users)))
    add_app_keys(connection, "public")
