"""The diagnosis of a month: what happened in it, what the app says of it, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine import consistency
from maintenance_pipelines.engine.consistency import Consistency, Finding
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.engine.months import Month
from maintenance_pipelines.engine.tables import table
from maintenance_pipelines.systems.referrals import archives, truth
from maintenance_pipelines.systems.referrals.amounts import money
from maintenance_pipelines.systems.referrals.claims import claims
from maintenance_pipelines.systems.referrals.options import month_asked, running_month
from maintenance_pipelines.systems.referrals.rules import RULES
from maintenance_pipelines.systems.referrals.schema import commission, member

TOP = 10
NEGATIVE = "no_negative_values"
BY_RECALCULATION = {"monthly_sum_equals_referrals", NEGATIVE, "earnings_equal_records"}
"""The rules that a recalculation makes true again."""


@dataclass(frozen=True)
class Payments:
    """Commissions of one payment type in the month; amounts in cents."""

    kind: str
    count: int
    sales: int
    earned: int


@dataclass(frozen=True)
class Standing:
    """One of the top members: referrals in all, and those of the month in field and reality.

    `field` is what the counter, or of a past month the snapshot, says; None without a snapshot.
    """

    id: str
    name: str
    total: int
    field: int | None
    reality: int

    @property
    def status(self) -> str:
        """Whether the field is right, in words."""
        if self.field is None:
            return "no snapshot"
        if self.field == self.reality:
            return "right"
        way = "low" if self.field < self.reality else "high"
        return f"too {way} by {abs(self.field - self.reality)}"


@dataclass(frozen=True)
class Diagnosis:
    """All that is known of a month.

    `claimed` is the sum of the members' fields, `due` and `archived` are the members of the
    latest month that is over, up to the one asked about, and those of them with a snapshot of it.
    """

    month: Month
    running: bool
    new_referrals: int
    claimed: int
    payments: tuple[Payments, ...]
    top: tuple[Standing, ...]
    closed: Month
    due: int
    archived: int
    consistency: Consistency

    @property
    def sum_is_right(self) -> bool:
        """Whether the fields add up to the referrals of the month."""
        return self.claimed == self.new_referrals

    @property
    def verdict(self) -> str:
        """The state of the month in one sentence."""
        broken = self._broken
        if self.archived < self.due and not self.running:
            return f"{self.month} is not archived: {self._unarchived}."
        if not broken:
            return "Everything is right."
        errors = sum(finding.severity == "error" for finding in broken)
        what = "Something is wrong" if errors else "Something is odd, nothing is wrong"
        return (
            f"{what}: of {len(RULES)} rules, {errors} found errors and"
            f" {len(broken) - errors} found warnings."
        )

    @property
    def to_do(self) -> tuple[str, ...]:
        """What to run or to look at next, in order; empty where there is nothing to do."""
        broken = {finding.rule.name for finding in self._broken}
        if self._negative_by_refunds:
            broken.discard(NEGATIVE)
        steps = []
        if self.archived < self.due:
            steps.append(
                f"`./maintenance run monthly_stats_reset --partition {self.closed}`:"
                f" {self._unarchived}"
            )
        if broken & BY_RECALCULATION and (self.running or self.archived == self.due):
            steps.append(
                f"`./maintenance run monthly_stats_recalculation --partition {self.month}`:"
                f" {self._field} differ from the records"
            )
        rest = [finding.rule for finding in self._broken]
        steps += [
            f"`{rule.name}`: look at the rows named below; no job mends those"
            for rule in rest
            if rule.name not in BY_RECALCULATION
        ]
        return tuple(steps)

    @property
    def _negative_by_refunds(self) -> bool:
        """Whether numbers are negative, and only such as the records have so themselves."""
        return any(f.rule.name == NEGATIVE and f.severity == "warning" for f in self._broken)

    @property
    def _broken(self) -> list[Finding]:
        return [finding for finding in self.consistency.findings if not finding.passed]

    @property
    def _field(self) -> str:
        return "counters" if self.running else "snapshots"

    @property
    def _unarchived(self) -> str:
        lacking = self.due - self.archived
        return f"{lacking:,} of {self.due:,} members have no snapshot of {self.closed}"

    def json(self) -> dict[str, Any]:
        """The diagnosis as one object: the consistency answer, and what it stands on."""
        return {
            **self.consistency.json(),
            "month": str(self.month),
            "newReferrals": self.new_referrals,
            "sumOfFields": self.claimed,
            "sumIsRight": self.sum_is_right,
            "commissions": [
                {
                    "paymentType": one.kind,
                    "count": one.count,
                    "saleAmount": one.sales / 100,
                    "memberShare": one.earned / 100,
                }
                for one in self.payments
            ],
            "topReferrers": [
                {
                    "id": one.id,
                    "name": one.name,
                    "total": one.total,
                    "field": one.field,
                    "reality": one.reality,
                    "status": one.status,
                }
                for one in self.top
            ],
            "verdict": self.verdict,
            "next": list(self.to_do),
        }

    def markdown(self) -> str:
        """The diagnosis as a report."""
        equal = "equal" if self.sum_is_right else "NOT equal"
        to_do = "\n".join(f"{number}. {step}" for number, step in enumerate(self.to_do, 1))
        offenders = [
            (finding.rule.name, one.id, one.detail)
            for finding in self.consistency.findings
            for one in finding.first
        ]
        parts = [
            f"# Referrals in {self.month}",
            f"**{self.verdict}**",
            f"**What to do next**\n\n{to_do or 'Nothing.'}",
            f"New referrals: **{self.new_referrals}**. The members' {self._field} add up to"
            f" **{self.claimed}**: {equal}.",
            table(
                "Commissions",
                ["payment type", "count", "sales", "members' share"],
                [
                    (one.kind, one.count, money(one.sales), money(one.earned))
                    for one in self.payments
                ],
            ),
            table(
                f"The top {TOP}",
                ["name", "total", "field", "reality", "status"],
                [(one.name, one.total, one.field, one.reality, one.status) for one in self.top],
            ),
            table("Rules", ["rule", "severity", "broken by", "says"], self._rules()),
        ]
        if offenders:
            parts.append(table("The first offenders", ["rule", "id", "what"], offenders))
        return "\n\n".join(parts) + "\n"

    def _rules(self) -> list[tuple[Any, ...]]:
        return [
            (
                finding.rule.name,
                finding.severity,
                "nobody" if finding.passed else f"{finding.count:,}",
                finding.failure or finding.rule.says,
            )
            for finding in self.consistency.findings
        ]


def diagnose(database: Database, scope: Scope) -> Diagnosis:
    """The diagnosis of the scope's month, or of the running one without a partition."""
    month, running = month_asked(scope), running_month(scope)
    closed = month if month < running else month.plus(-1)
    with database.analysis() as connection:
        claim = claims(scope).subquery("claim")
        claimed = sa.select(sa.func.coalesce(sa.func.sum(claim.c.referrals), 0))
        covered = connection.execute(archives.coverage(closed)).one()
        found = (
            connection.execute(truth.referrals(month)).scalar_one(),
            int(connection.execute(claimed).scalar_one()),
            tuple(Payments(*row) for row in connection.execute(payments(month))),
            tuple(Standing(*row) for row in connection.execute(standings(scope))),
        )
    return Diagnosis(
        month,
        month == running,
        *found,
        closed,
        covered.due,
        covered.archived,
        consistency.judge(database, scope, RULES),
    )


def payments(month: Month) -> sa.Select[Any]:
    """The commissions of the month by payment type: `kind`, `count`, and two sums in cents."""
    c = commission.c
    return (
        sa.select(
            c.paymentType.label("kind"),
            sa.func.count().label("count"),
            sa.cast(sa.func.sum(truth.cents(c.saleAmount)), sa.BigInteger).label("sales"),
            sa.cast(sa.func.sum(truth.cents(c.memberShare)), sa.BigInteger).label("earned"),
        )
        .where(truth.within(month, c.createdAt))
        .group_by(c.paymentType)
        .order_by(c.paymentType)
    )


def standings(scope: Scope) -> sa.Select[Any]:
    """The top members by total: `id`, `name`, `total`, `field` and `reality` of the month."""
    best = (
        sa.select(member.c.id, member.c.username, member.c.totalReferred)
        .order_by(member.c.totalReferred.desc(), member.c.monthlyReferred.desc(), member.c.id)
        .limit(TOP)
        .cte("best")
    )
    claim = claims(scope).subquery("claim")
    records = truth.members(month_asked(scope), ignore_refunds=True, among=best).subquery("records")
    return (
        sa.select(
            best.c.id,
            best.c.username.label("name"),
            best.c.totalReferred.label("total"),
            claim.c.referrals.label("field"),
            records.c.referrals.label("reality"),
        )
        .select_from(
            best.join(claim, claim.c.id == best.c.id).join(records, records.c.id == best.c.id)
        )
        .order_by(best.c.totalReferred.desc(), records.c.referrals.desc(), best.c.id)
    )
