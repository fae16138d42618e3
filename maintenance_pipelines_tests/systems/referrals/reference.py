"""The rules once more, in plain Python from docs/referrals.md: what the SQL is held against.

Knows nothing of the project. Amounts are whole cents here, and floats in the database.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

Found = set[tuple[str, str]]
"""Offenders: id and severity."""


@dataclass(frozen=True)
class Member:
    id: str
    code: str
    creator: str
    created: datetime
    origin: str = "organic"
    referred_by: str | None = None
    total: int = 0
    month: int = 0
    earned: int = 0


@dataclass(frozen=True)
class Commission:
    id: str
    member: str
    creator: str
    created: datetime
    sale: int
    shares: tuple[int, int, int]
    kind: str = "recurring"


@dataclass(frozen=True)
class Refund:
    id: str
    commission: str
    created: datetime
    amount: int
    member_share: int


@dataclass(frozen=True)
class Snapshot:
    member: str
    month: str
    referrals: int
    earned: int


@dataclass(frozen=True)
class World:
    members: tuple[Member, ...] = ()
    commissions: tuple[Commission, ...] = ()
    refunds: tuple[Refund, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()


def in_month(moment: datetime, year: int, month: int) -> bool:
    return (moment.year, moment.month) == (year, month)


def of_members(
    world: World, year: int, month: int, with_refunds: bool = True
) -> dict[str, tuple[int, int]]:
    """Referrals and earned cents of each member."""
    truth = {}
    commissions = {row.id: row for row in world.commissions}
    for member in world.members:
        referrals = sum(
            row.referred_by == member.code and in_month(row.created, year, month)
            for row in world.members
        )
        earned = sum(
            row.shares[0]
            for row in world.commissions
            if row.member == member.id and in_month(row.created, year, month)
        )
        taken = sum(
            row.member_share
            for row in world.refunds
            if commissions[row.commission].member == member.id
            and in_month(row.created, year, month)
        )
        truth[member.id] = (referrals, earned - (taken if with_refunds else 0))
    return truth


def of_creators(
    world: World, creators: tuple[str, ...], year: int, month: int, with_refunds: bool = True
) -> dict[str, tuple[int, int]]:
    """Referrals and revenue in cents of each creator."""
    truth = {}
    commissions = {row.id: row for row in world.commissions}
    codes = {row.code for row in world.members}
    for creator in creators:
        referrals = sum(
            row.creator == creator
            and row.referred_by in codes
            and in_month(row.created, year, month)
            for row in world.members
        )
        revenue = sum(
            row.sale
            for row in world.commissions
            if row.creator == creator and in_month(row.created, year, month)
        )
        returned = sum(
            row.amount
            for row in world.refunds
            if commissions[row.commission].creator == creator and in_month(row.created, year, month)
        )
        truth[creator] = (referrals, revenue - (returned if with_refunds else 0))
    return truth


def offenders(world: World, year: int, month: int, running: bool) -> dict[str, Found]:
    """Who breaks which rule, judged by counters in the running month, else by snapshots."""
    truth = of_members(world, year, month)
    label = f"{year}-{month:02d}"
    archived = {row.member: row for row in world.snapshots if row.month == label}
    claims: dict[str, tuple[int, int] | None] = {}
    for row in world.members:
        snapshot = archived.get(row.id)
        past = None if snapshot is None else (snapshot.referrals, snapshot.earned)
        claims[row.id] = (row.month, row.earned) if running else past
    by_code = Counter(row.code for row in world.members)
    folded = Counter(row.code.lower() for row in world.members)
    found: dict[str, Found] = {
        "monthly_sum_equals_referrals": _sum(world, year, month, claims, truth, label),
        "no_month_above_total": set(),
        "no_negative_values": set(),
        "splits_add_up": {
            (row.id, "error") for row in world.commissions if sum(row.shares) != row.sale
        },
        "earnings_equal_records": set(),
        "referral_codes_unique": set(),
        "organic_without_referrer": set(),
        "referred_with_referrer": set(),
    }
    for row in world.members:
        claim, (_, earned) = claims[row.id], truth[row.id]
        referrals, field = claim or (0, 0)
        if referrals > row.total and claim is not None:
            found["no_month_above_total"].add((row.id, "error"))
        if referrals < 0 or row.total < 0 or field < 0:
            by_refunds = referrals >= 0 and row.total >= 0 and earned < 0
            found["no_negative_values"].add((row.id, "warning" if by_refunds else "error"))
        if abs(field - earned) > 1:
            found["earnings_equal_records"].add((row.id, "warning"))
        if by_code[row.code] > 1:
            found["referral_codes_unique"].add((row.id, "error"))
        elif folded[row.code.lower()] > 1:
            found["referral_codes_unique"].add((row.id, "warning"))
        if row.origin == "organic" and row.referred_by is not None:
            found["organic_without_referrer"].add((row.id, "error"))
        if row.origin == "referred" and row.referred_by not in by_code:
            found["referred_with_referrer"].add((row.id, "warning"))
    return found


def _sum(
    world: World,
    year: int,
    month: int,
    claims: dict[str, tuple[int, int] | None],
    truth: dict[str, tuple[int, int]],
    label: str,
) -> Found:
    codes = {row.code for row in world.members}
    real = sum(
        row.referred_by in codes and in_month(row.created, year, month) for row in world.members
    )
    if sum(claim[0] for claim in claims.values() if claim) == real:
        return set()
    wrong = {
        (id, "warning" if claim is None else "error")
        for id, claim in claims.items()
        if (claim or (0, 0))[0] != truth[id][0]
    }
    return wrong or {(label, "error")}
