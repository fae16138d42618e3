"""A referrals database at size: 100,000 members, 3 million commissions, counters that are right.

Everything is made by the server from row numbers, so it is the same every time. Ids grow with
the time a row was made, as the app's cuids do. The members came in the two years before the end
of October 2025, seven in ten of them by somebody's code; the commissions are of the last twelve
months, some 250,000 of each; one in a hundred was refunded, most of those in a later month.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from maintenance_pipelines.systems.referrals.schema import (
    TABLES,
    add_app_keys,
    create_unkeyed_app_tables,
)

AS_OF = datetime(2025, 10, 31, 23, 0, tzinfo=UTC)
"""When the data ends, in the month that the counters are of."""

CREATORS = """
INSERT INTO {schema}."Creator" (id, "companyId", "companyName", "productId", "totalReferrals",
    "totalRevenue", "monthlyRevenue", "createdAt", "updatedAt")
SELECT {creator_id}, 'biz_' || c, 'Community ' || c, 'prod_' || c, 0, 0, 0,
       TIMESTAMP '2023-10-01', TIMESTAMP '2023-10-01'
FROM generate_series(1, {creators}) AS c
"""

# A payment of somebody who was there then and had come by a code; the one who earns is the
# holder of that code.
COMMISSIONS = """
INSERT INTO {schema}."Commission" (id, "whopPaymentId", "whopMembershipId", "saleAmount",
    "memberShare", "creatorShare", "platformShare", "paymentType", status, "memberId",
    "creatorId", "createdAt")
SELECT {payment_id}, 'pay_' || p, 'mem_' || payer, sale / 100.0, earned / 100.0, kept / 100.0,
       (sale - earned - kept) / 100.0, CASE WHEN p % 43 = 0 THEN 'initial' ELSE 'recurring' END,
       (ARRAY['paid', 'pending', 'failed'])[1 + p % 3], {member_id}, {creator_id},
       TIMESTAMP '2024-11-01' + (p::float8 / {payments}) * INTERVAL '364 days 22 hours'
FROM generate_series(1, {payments}) AS p,
     LATERAL (SELECT hashint4(p) & 2147483647 AS chance) AS dice,
     LATERAL (SELECT ({members} * (0.5 + 0.5 * p / {payments}))::integer AS present) AS then_,
     LATERAL (SELECT greatest(chance % present, {creators} + 6) AS anybody) AS one,
     LATERAL (SELECT anybody - CASE WHEN anybody % 10 > 6 THEN 5 ELSE 0 END AS payer) AS who,
     LATERAL (SELECT {referrer} AS m FROM (SELECT payer AS came) AS x) AS earner,
     LATERAL (SELECT 1 + m % {creators} AS c) AS community,
     LATERAL (SELECT 990 + chance % 9000 AS sale) AS price,
     LATERAL (SELECT round(sale * 0.1)::integer AS earned, round(sale * 0.7)::integer AS kept) AS s
"""

REFUNDS = """
INSERT INTO {schema}."Refund" (id, "commissionId", "refundAmount", "memberShareReversed",
    "creatorShareReversed", "platformShareReversed", "createdAt")
SELECT 'r' || substr(id, 2), id, "saleAmount", "memberShare", "creatorShare", "platformShare",
       least("createdAt" + INTERVAL '20 days', TIMESTAMP '{as_of}')
FROM {schema}."Commission" WHERE hashtext(id) % 100 = 0
"""

# The counters are what the records say, so the members come last.
MEMBERS = """
INSERT INTO {schema}."Member" (id, "userId", "membershipId", "referralCode", email, username,
    "memberOrigin", "referredBy", "creatorId", "lifetimeEarnings", "monthlyEarnings",
    "totalReferred", "monthlyReferred", "lastMonthReset", "currentTier", "createdAt", "updatedAt")
WITH person AS (
    SELECT m, {member_id} AS id, {creator_id} AS creator, came, by_code,
           TIMESTAMP '2023-11-01' + (m::float8 / {members}) * INTERVAL '729 days 22 hours' AS made
    FROM generate_series(1, {members}) AS m, LATERAL (SELECT 1 + m % {creators} AS c) AS community,
         LATERAL (SELECT m % 10 < 7 AND m > {creators} AS by_code, m AS came) AS kind
), earned AS (
    SELECT "memberId" AS id, sum(round("memberShare" * 100)) AS lifetime,
           sum(round("memberShare" * 100)) FILTER (WHERE "createdAt" >= {month}) AS month
    FROM {schema}."Commission" GROUP BY 1
), reversed AS (
    SELECT "memberId" AS id, sum(round("memberShareReversed" * 100)) AS lifetime,
           sum(round("memberShareReversed" * 100)) FILTER (WHERE r."createdAt" >= {month}) AS month
    FROM {schema}."Refund" AS r JOIN {schema}."Commission" AS c ON c.id = r."commissionId"
    GROUP BY 1
), referred AS (
    SELECT {referrer} AS m, count(*) AS total, count(*) FILTER (WHERE made >= {month}) AS month
    FROM person WHERE by_code GROUP BY 1
)
SELECT id, 'user_' || m, 'mem_' || m, 'CODE' || m, 'member' || m || '@example.com', 'member' || m,
       CASE WHEN by_code THEN 'referred' ELSE 'organic' END,
       CASE WHEN by_code THEN 'CODE' || {referrer} END, creator,
       (coalesce(earned.lifetime, 0) - coalesce(reversed.lifetime, 0)) / 100,
       (coalesce(earned.month, 0) - coalesce(reversed.month, 0)) / 100,
       coalesce(referred.total, 0), coalesce(referred.month, 0), {month},
       (ARRAY['bronze', 'silver', 'gold'])[1 + m % 3], made, {month}
FROM person LEFT JOIN earned USING (id) LEFT JOIN reversed USING (id) LEFT JOIN referred USING (m)
"""

CREATOR_COUNTERS = """
UPDATE {schema}."Creator" AS creator
SET "totalReferrals" = referred.total, "totalRevenue" = revenue.lifetime / 100,
    "monthlyRevenue" = (revenue.month - coalesce(returned.month, 0)) / 100,
    "lastMonthReset" = {month}
FROM (SELECT "creatorId" AS id, count("referredBy") AS total FROM {schema}."Member" GROUP BY 1)
         AS referred
JOIN (SELECT "creatorId" AS id, sum(round("saleAmount" * 100)) AS lifetime,
             sum(round("saleAmount" * 100)) FILTER (WHERE "createdAt" >= {month}) AS month
      FROM {schema}."Commission" GROUP BY 1) AS revenue USING (id)
LEFT JOIN (SELECT "creatorId" AS id, sum(round("refundAmount" * 100)) AS month
           FROM {schema}."Refund" AS r JOIN {schema}."Commission" AS c ON c.id = r."commissionId"
           WHERE r."createdAt" >= {month} GROUP BY 1) AS returned USING (id)
WHERE creator.id = referred.id
"""


def build(
    connection: sa.Connection,
    schema: str = "public",
    members: int = 100_000,
    commissions: int = 3_000_000,
) -> None:
    """Create the app's tables in `schema` and fill them at that size; analyzed."""
    create_unkeyed_app_tables(connection, schema)
    name = connection.dialect.identifier_preparer.quote(schema)
    creators = max(members // 500, 1)
    values = {
        "schema": name,
        "members": members,
        "payments": commissions,
        "creators": creators,
        "as_of": AS_OF.replace(tzinfo=None),
        "month": "TIMESTAMP '2025-10-01'",
        # Somebody earlier in the same community: numbers of a community are `creators` apart.
        "referrer": f"came - {creators} * (1 + (hashint4(came) & 2147483647)"
        f" % greatest((came - 1) / {creators}, 1))",
        "member_id": _id("m"),
        "creator_id": _id("c"),
        "payment_id": _id("p"),
    }
    for statement in (CREATORS, COMMISSIONS, REFUNDS, MEMBERS, CREATOR_COUNTERS):
        connection.execute(sa.text(statement.format(**values)))
    add_app_keys(connection, schema)
    for table in TABLES:
        connection.execute(sa.text(f'ANALYZE {name}."{table.name}"'))


def _id(letter: str) -> str:
    """SQL for the cuid of the row that the column `letter` numbers; it grows with the number."""
    return f"'c' || lpad(to_hex({letter}), 8, '0') || left(md5('{letter}' || {letter}), 16)"
