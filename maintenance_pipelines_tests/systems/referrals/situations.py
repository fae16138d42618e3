"""Worlds for hypothesis: few members, dense around the edges of one month."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import strategies as st

from maintenance_pipelines_tests.systems.referrals.reference import (
    Commission,
    Member,
    Refund,
    Snapshot,
    World,
)

YEAR, MONTH = 2025, 12
START, END = datetime(2025, 12, 1), datetime(2026, 1, 1)
MILLISECOND = timedelta(milliseconds=1)
CREATORS = ("c1", "c2")
IDS = ("m1", "m2", "m3", "m4", "m5", "m6")

moments = st.sampled_from(
    (
        START - MILLISECOND,
        START,
        START + MILLISECOND,
        START + timedelta(days=14, hours=7),
        END - MILLISECOND,
        END,
        datetime(2025, 11, 15),
        datetime(2024, 12, 15),
    )
)
cents = st.sampled_from((1, 5, 29, 57, 115, 499, 1999, 4999, 123_456_789))
small = st.integers(-1, 3)


@st.composite
def worlds(draw: st.DrawFn, sound: bool) -> World:
    """Rows as an app could have them; unless `sound`, codes double and dangle as well."""
    codes = list(IDS) if sound else [draw(st.sampled_from(("A", "a", "B", "C", "D"))) for _ in IDS]
    known = [None, *sorted(set(codes))] if sound else [None, "A", "a", "B", "nobody"]
    members = tuple(
        Member(
            id,
            code,
            draw(st.sampled_from(CREATORS)),
            draw(moments),
            draw(st.sampled_from(("organic", "referred", "whop_affiliate"))),
            draw(st.sampled_from(known)),
            draw(small),
            draw(small),
            draw(st.sampled_from((-500, -1, 0, 1, 2, 499, 500, 501))),
        )
        for id, code in zip(IDS, codes, strict=True)
    )
    commissions = tuple(_commission(draw, number) for number in range(draw(st.integers(0, 6))))
    refunds = tuple(
        Refund(f"r{number}", row.id, draw(moments), row.sale, row.shares[0])
        for number, row in enumerate(commissions)
        if draw(st.booleans())
    )
    snapshots = tuple(
        Snapshot(id, draw(st.sampled_from(("2025-12", "2025-11"))), draw(small), draw(cents))
        for id in IDS
        if draw(st.booleans())
    )
    return World(members, commissions, refunds, snapshots)


def _commission(draw: st.DrawFn, number: int) -> Commission:
    sale = draw(cents)
    member = sale // 10
    off = draw(st.sampled_from((0, 0, 0, 1, -1)))
    return Commission(
        f"k{number}",
        draw(st.sampled_from(IDS)),
        draw(st.sampled_from(CREATORS)),
        draw(moments),
        sale,
        (member, sale * 7 // 10, sale - member - sale * 7 // 10 + off),
    )
