"""The backfill as people write it by hand, for comparison: what being safe is measured against."""

from __future__ import annotations

# The rows that should exist in August 2025, by the rules of the benefits system, without any of
# its exclusions' counts and without looking at the hour of existing rows.
DUE = """
SELECT b.id AS benefit_id, c."userId" AS user_id, first AS cycle_start,
       first + months * INTERVAL '1 month' - INTERVAL '1 millisecond' AS cycle_end, occurrence
  FROM "Benefit" b
  JOIN "CreditCard" c ON c.id = b."creditCardId"
 CROSS JOIN (SELECT TIMESTAMP '2025-08-01' AS first) AS month
 CROSS JOIN LATERAL (SELECT CASE
           WHEN b."cycleAlignment"::text = 'CALENDAR_FIXED' AND b."fixedCycleDurationMonths" > 0
               THEN CASE WHEN b."fixedCycleStartMonth" = 8 THEN b."fixedCycleDurationMonths" END
           WHEN b.frequency::text = 'MONTHLY' THEN 1
           WHEN b.frequency::text = 'YEARLY' AND date_part('month', c."openedDate") = 8 THEN 12
       END AS months) AS cycle
 CROSS JOIN LATERAL generate_series(0, b."occurrencesInCycle" - 1) AS occurrence
 WHERE months IS NOT NULL AND b.frequency::text <> 'ONE_TIME'
   AND (b."endDate" IS NULL OR b."endDate" >= first)
   AND b."startDate" <= first + months * INTERVAL '1 month' - INTERVAL '1 millisecond'
"""

INSERT = """
INSERT INTO "BenefitStatus" (id, "benefitId", "userId", "cycleStartDate", "cycleEndDate",
    "isCompleted", "isNotUsable", "createdAt", "updatedAt", "occurrenceIndex")
SELECT {id}, benefit_id, user_id, cycle_start, cycle_end, false, false, now(), now(), occurrence
  FROM ({due}) AS due {order}
    ON CONFLICT ("benefitId", "userId", "cycleStartDate", "occurrenceIndex") DO NOTHING
"""

AS_PEOPLE_WRITE_IT = INSERT.format(
    id="'c' || left(replace(gen_random_uuid()::text, '-', ''), 24)", due=DUE, order=""
)

IN_KEY_ORDER = INSERT.format(
    id="'c' || lpad(to_hex(row_number() OVER (ORDER BY benefit_id, user_id, cycle_start,"
    " occurrence)), 8, '0') || 'bench0000bench00'",
    due=DUE,
    order="ORDER BY benefit_id, user_id, cycle_start, occurrence",
)

ANTI_JOIN = f"""
SELECT count(*)
  FROM ({DUE}) AS due
  LEFT JOIN "BenefitStatus" s ON s."benefitId" = benefit_id AND s."userId" = user_id
       AND s."cycleStartDate" = cycle_start AND s."occurrenceIndex" = occurrence
 WHERE s.id IS NULL
"""

# The original's way: of every hundred keys, one query tells which exist; each of the others is
# then created by a statement of its own.
MISSING_KEYS = f"SELECT * FROM ({DUE}) AS due ORDER BY benefit_id DESC LIMIT :rows"

WHICH_EXIST = """
SELECT "benefitId", "userId", "cycleStartDate", "occurrenceIndex" FROM "BenefitStatus"
 WHERE ("benefitId", "userId", "cycleStartDate", "occurrenceIndex") IN ({keys})
"""

CREATE_ONE = """
INSERT INTO "BenefitStatus" (id, "benefitId", "userId", "cycleStartDate", "cycleEndDate",
    "isCompleted", "isNotUsable", "createdAt", "updatedAt", "occurrenceIndex")
VALUES (%s, %s, %s, %s, %s, false, false, now(), now(), %s)
"""
