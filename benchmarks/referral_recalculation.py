"""What a recalculation of everybody costs beside one statement, and beside the original's loop.

    .venv/bin/python -m benchmarks.referral_recalculation [--members 100000]

Every counter of every member has drifted. By hand: the audit rows, and one UPDATE from the
grouped records, in one transaction. The original asked two queries and wrote one update for each
member; it is timed on some of them, without audit rows. Times are the engine's, without the start
of a process and without Dagster.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks import referrals_data, referrals_template
from benchmarks.bench import (
    Bench,
    autocommit,
    bare,
    bench,
    carry_out,
    execute,
    ratio,
    show,
    show_ratio,
    timed,
    url_of,
)
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation

SCOPE = Scope(referrals_data.AS_OF, "2025-10", ReferralsOptions())
LOOPED = 2_000
"""Members that the original's loop is timed on."""

DRIFT = """UPDATE "Member" SET "monthlyReferred" = "monthlyReferred" + 3,
    "monthlyEarnings" = "monthlyEarnings" + 7.5"""

TRUTH = """
SELECT m.id, m."creatorId", m."monthlyReferred" AS had_referred,
       m."monthlyEarnings" AS had_earned, coalesce(referred.number, 0) AS referred,
       round((coalesce(earned.amount, 0) - coalesce(back.amount, 0))::numeric, 2)::float8 AS earned
  FROM "Member" AS m
  LEFT JOIN (SELECT "referredBy", count(*) AS number FROM "Member"
              WHERE "createdAt" >= '2025-10-01' AND "createdAt" < '2025-11-01'
              GROUP BY 1) AS referred ON referred."referredBy" = m."referralCode"
  LEFT JOIN (SELECT "memberId", sum("memberShare") AS amount FROM "Commission"
              WHERE "createdAt" >= '2025-10-01' AND "createdAt" < '2025-11-01'
              GROUP BY 1) AS earned ON earned."memberId" = m.id
  LEFT JOIN (SELECT c."memberId", sum(r."memberShareReversed") AS amount
               FROM "Refund" AS r JOIN "Commission" AS c ON c.id = r."commissionId"
              WHERE r."createdAt" >= '2025-10-01' AND r."createdAt" < '2025-11-01'
              GROUP BY 1) AS back ON back."memberId" = m.id
"""
UPDATE = f"""
WITH changed AS (
    UPDATE "Member" AS m SET "monthlyReferred" = t.referred, "monthlyEarnings" = t.earned,
           "updatedAt" = now()
      FROM ({TRUTH}) AS t WHERE t.id = m.id
    RETURNING m.id, t.had_referred, t.had_earned, t.referred, t.earned
)
INSERT INTO "AuditLog" (id, entity, "entityId", field, "oldValue", "newValue", "triggeredBy",
    "createdAt")
SELECT 'c' || left(replace(gen_random_uuid()::text, '-', ''), 24), 'Member', id, field, old, new,
       'recalculation', now()
  FROM changed, LATERAL (VALUES ('monthlyReferred', had_referred::text, referred::text),
                                ('monthlyEarnings', had_earned::text, earned::text)
               ) AS f (field, old, new)
 WHERE old <> new
"""

OF_ONE = (
    """SELECT count(*) FROM "Member" WHERE "referredBy" = %s
          AND "createdAt" >= '2025-10-01' AND "createdAt" < '2025-11-01'""",
    """SELECT coalesce(sum("memberShare"), 0) FROM "Commission" WHERE "memberId" = %s
          AND "createdAt" >= '2025-10-01' AND "createdAt" < '2025-11-01'""",
    """UPDATE "Member" SET "monthlyReferred" = %s, "monthlyEarnings" = %s, "updatedAt" = now()
        WHERE id = %s""",
)


def main() -> None:
    """Builds the database, and prints seconds, ratios and members a second."""
    works = {
        "by hand": bare(UPDATE),
        "plan, apply, verify": carry_out(monthly_stats_recalculation, SCOPE),
    }
    with bench(referrals_template.parser(__doc__), _build) as (measured, arguments):
        by_hand, ours = measured.in_turns(arguments.runs, works).values()
        loop = _members_a_second(measured)
    speed = arguments.members / statistics.median(ours)
    show_ratio("ours / by hand", ratio(ours, by_hand), "at most 2.5")
    show("ours", speed, "members a second")
    show("two queries and an update each", loop, "members a second")


def _build(database: Database, arguments: argparse.Namespace) -> str:
    made = referrals_template.build(database, arguments)
    execute(database, DRIFT)
    return f"{made}, all counters drifted"


def _members_a_second(measured: Bench) -> float:
    """The original's loop, on some members."""
    with measured.copy() as database, autocommit(url_of(database)) as connection:
        members = connection.execute(
            'SELECT id, "referralCode" FROM "Member" ORDER BY id DESC LIMIT %s', [LOOPED]
        ).fetchall()

        def loop() -> None:
            referrals, earnings, update = (statement.encode() for statement in OF_ONE)
            for id, code in members:
                referred = connection.execute(referrals, [code]).fetchone()
                earned = connection.execute(earnings, [id]).fetchone()
                assert referred is not None
                assert earned is not None
                connection.execute(update, [referred[0], earned[0], id])

        return len(members) / timed(loop)


if __name__ == "__main__":
    main()
