"""What the reset of a month costs beside the same rows written by hand.

    .venv/bin/python -m benchmarks.referral_reset [--members 100000] [--commissions 3000000]

By hand: snapshots, audit rows and counters in one transaction, with the same truth, as somebody
would write it who knows that nobody else is writing. Times are the engine's, without the start
of a process and without Dagster.
"""

from __future__ import annotations

from datetime import UTC, datetime

from benchmarks import referrals_template
from benchmarks.bench import bare, bench, carry_out, ratio, show_ratio
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset

SCOPE = Scope(datetime(2025, 11, 1, 0, 5, tzinfo=UTC), "2025-10", ReferralsOptions())

NEW_ID = "'c' || left(replace(gen_random_uuid()::text, '-', ''), 24)"
OF_OCTOBER = """>= '2025-10-01' AND {0}"createdAt" < '2025-11-01'"""

MEMBER_SNAPSHOTS = f"""
INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "memberId", "monthlyReferrals",
    "monthlyEarnings", "createdAt")
SELECT {NEW_ID}, '2025-10', m."creatorId", m.id, coalesce(referred.number, 0),
       coalesce(earned.amount, 0) - coalesce(back.amount, 0), now()
  FROM "Member" AS m
  LEFT JOIN (SELECT "referredBy", count(*) AS number FROM "Member"
              WHERE "createdAt" {OF_OCTOBER.format("")} GROUP BY 1) AS referred
    ON referred."referredBy" = m."referralCode"
  LEFT JOIN (SELECT "memberId", sum("memberShare") AS amount FROM "Commission"
              WHERE "createdAt" {OF_OCTOBER.format("")} GROUP BY 1) AS earned
    ON earned."memberId" = m.id
  LEFT JOIN (SELECT c."memberId", sum(r."memberShareReversed") AS amount
               FROM "Refund" AS r JOIN "Commission" AS c ON c.id = r."commissionId"
              WHERE r."createdAt" {OF_OCTOBER.format("r.")} GROUP BY 1) AS back
    ON back."memberId" = m.id
 WHERE m."createdAt" < '2025-11-01'
"""
CREATOR_SNAPSHOTS = f"""
INSERT INTO "MonthlySnapshot" (id, month, "creatorId", "monthlyReferrals", "monthlyRevenue",
    "createdAt")
SELECT {NEW_ID}, '2025-10', c.id, coalesce(referred.number, 0), c."monthlyRevenue", now()
  FROM "Creator" AS c
  LEFT JOIN (SELECT "creatorId", count(*) AS number FROM "Member"
              WHERE "createdAt" {OF_OCTOBER.format("")} AND "referredBy" IS NOT NULL
              GROUP BY 1) AS referred ON referred."creatorId" = c.id
"""
AUDIT = f"""
INSERT INTO "AuditLog" (id, entity, "entityId", field, "oldValue", "newValue", "triggeredBy",
    metadata, "createdAt")
SELECT {NEW_ID}, '{{0}}', id, '{{1}}', "{{1}}"::text, '0', 'cron',
       jsonb_build_object('month', '2025-10'), now()
  FROM "{{0}}" WHERE "{{1}}" <> 0
"""
COUNTERS = (
    """UPDATE "Member" SET "monthlyReferred" = 0, "monthlyEarnings" = 0, "lastMonthReset" = now(),
    "updatedAt" = now() WHERE "createdAt" < '2025-11-01'""",
    """UPDATE "Creator" SET "monthlyRevenue" = 0, "lastMonthReset" = now(), "updatedAt" = now()""",
)


def main() -> None:
    """Builds the database, and prints seconds and the ratio."""
    by_hand = bare(
        MEMBER_SNAPSHOTS,
        CREATOR_SNAPSHOTS,
        AUDIT.format("Member", "monthlyReferred"),
        AUDIT.format("Member", "monthlyEarnings"),
        AUDIT.format("Creator", "monthlyRevenue"),
        *COUNTERS,
    )
    works = {"by hand": by_hand, "plan, apply, verify": carry_out(monthly_stats_reset, SCOPE)}
    parser = referrals_template.parser(__doc__)
    with bench(parser, referrals_template.build) as (measured, arguments):
        theirs, ours = measured.in_turns(arguments.runs, works).values()
    show_ratio("ours / by hand", ratio(ours, theirs), "at most 2")


if __name__ == "__main__":
    main()
