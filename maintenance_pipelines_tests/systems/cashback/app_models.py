"""The lending application's own models, as its own code has them. Nothing here is this project's.

Written like an application is: declarative classes, defaults in Python, SQLite in mind. It fills
its tables with what it has at hand: characters by their official names, which are full of quotes,
commas and letters that nobody expects.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from html.entities import html5

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The application's registry."""


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    is_admin: Mapped[bool | None] = mapped_column(default=False)
    email: Mapped[str | None] = mapped_column(sa.String(120))
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)


class InterestRate(Base):
    __tablename__ = "interest_rate"

    id: Mapped[int] = mapped_column(primary_key=True)
    rate: Mapped[Decimal] = mapped_column(sa.Numeric(15, 4))
    is_active: Mapped[bool | None] = mapped_column(default=True)


class Loan(Base):
    __tablename__ = "loan"
    __table_args__ = (
        sa.CheckConstraint("principal_amount >= 0", name="not_negative"),
        sa.Index("loan_by_customer", "customer_id", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    loan_name: Mapped[str] = mapped_column(sa.String(100))
    principal_amount: Mapped[Decimal] = mapped_column(sa.Numeric(15, 2))
    interest_rate: Mapped[Decimal] = mapped_column(sa.Numeric(15, 4))
    is_active: Mapped[bool | None] = mapped_column(default=True)
    admin_notes: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)


class Payment(Base):
    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    loan_id: Mapped[int] = mapped_column(sa.ForeignKey("loan.id"))
    amount: Mapped[Decimal] = mapped_column(sa.Numeric(15, 2))
    payment_date: Mapped[datetime | None] = mapped_column(default=datetime.now)
    transaction_id: Mapped[str | None] = mapped_column(sa.String(100), unique=True)
    status: Mapped[str] = mapped_column(sa.String(20), default="pending")


class DailyTracker(Base):
    __tablename__ = "daily_tracker"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    tracker_name: Mapped[str] = mapped_column(sa.String(100))
    tracker_type: Mapped[str] = mapped_column(sa.String(20))
    filename: Mapped[str] = mapped_column(sa.String(255))
    start_date: Mapped[date]
    is_active: Mapped[bool | None] = mapped_column(default=True)


class CashbackTransaction(Base):
    __tablename__ = "cashback_transaction"

    id: Mapped[int] = mapped_column(primary_key=True)
    from_user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("user.id"))
    to_user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    points: Mapped[Decimal] = mapped_column(sa.Numeric(15, 2))
    transaction_type: Mapped[str] = mapped_column(sa.String(30))
    related_loan_id: Mapped[int | None] = mapped_column(sa.ForeignKey("loan.id"))
    related_payment_id: Mapped[int | None] = mapped_column(sa.ForeignKey("payment.id"))
    related_tracker_id: Mapped[int | None] = mapped_column(sa.ForeignKey("daily_tracker.id"))
    related_tracker_entry_day: Mapped[int | None]
    notes: Mapped[str | None] = mapped_column(sa.Text)
    user_notes: Mapped[str | None] = mapped_column(sa.Text)
    created_by_user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)


class LoanCashbackConfig(Base):
    __tablename__ = "loan_cashback_config"

    id: Mapped[int] = mapped_column(primary_key=True)
    loan_id: Mapped[int] = mapped_column(sa.ForeignKey("loan.id"))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    cashback_type: Mapped[str] = mapped_column(sa.String(20))
    cashback_value: Mapped[Decimal] = mapped_column(sa.Numeric(15, 4))
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)
    is_active: Mapped[bool | None] = mapped_column(default=True)


class TrackerEntry(Base):
    __tablename__ = "tracker_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    tracker_id: Mapped[int] = mapped_column(sa.ForeignKey("daily_tracker.id"))
    day: Mapped[int]
    entry_data: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(20), default="pending")
    submitted_by_user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    verified_by_user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("user.id"))
    submitted_at: Mapped[datetime | None] = mapped_column(default=datetime.now)
    verified_at: Mapped[datetime | None]
    rejection_reason: Mapped[str | None] = mapped_column(sa.Text)


class TrackerCashbackConfig(Base):
    __tablename__ = "tracker_cashback_config"

    id: Mapped[int] = mapped_column(primary_key=True)
    tracker_id: Mapped[int] = mapped_column(sa.ForeignKey("daily_tracker.id"))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    cashback_type: Mapped[str] = mapped_column(sa.String(20))
    cashback_value: Mapped[Decimal] = mapped_column(sa.Numeric(15, 4))
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)
    is_active: Mapped[bool | None] = mapped_column(default=True)


class UserPaymentMethod(Base):
    __tablename__ = "user_payment_method"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    payment_type: Mapped[str] = mapped_column(sa.String(50))
    account_name: Mapped[str | None] = mapped_column(sa.String(200))
    account_number: Mapped[str | None] = mapped_column(sa.String(100))
    ifsc_code: Mapped[str | None] = mapped_column(sa.String(20))
    bank_name: Mapped[str | None] = mapped_column(sa.String(200))
    upi_id: Mapped[str | None] = mapped_column(sa.String(200))
    gpay_id: Mapped[str | None] = mapped_column(sa.String(200))
    phone_number: Mapped[str | None] = mapped_column(sa.String(20))
    address: Mapped[str | None] = mapped_column(sa.Text)
    is_default: Mapped[bool | None] = mapped_column(default=False)
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)
    updated_at: Mapped[datetime | None] = mapped_column(default=datetime.now)


class CashbackRedemption(Base):
    __tablename__ = "cashback_redemption"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user.id"))
    amount: Mapped[Decimal] = mapped_column(sa.Numeric(15, 2))
    redemption_type: Mapped[str] = mapped_column(sa.String(50))
    payment_method_id: Mapped[int | None] = mapped_column(sa.ForeignKey("user_payment_method.id"))
    account_name: Mapped[str | None] = mapped_column(sa.String(200))
    account_number: Mapped[str | None] = mapped_column(sa.String(100))
    ifsc_code: Mapped[str | None] = mapped_column(sa.String(20))
    bank_name: Mapped[str | None] = mapped_column(sa.String(200))
    upi_id: Mapped[str | None] = mapped_column(sa.String(200))
    gpay_id: Mapped[str | None] = mapped_column(sa.String(200))
    phone_number: Mapped[str | None] = mapped_column(sa.String(20))
    address: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(20), default="pending")
    admin_notes: Mapped[str | None] = mapped_column(sa.Text)
    processed_by_user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("user.id"))
    processed_at: Mapped[datetime | None]
    created_at: Mapped[datetime | None] = mapped_column(default=datetime.now)
    updated_at: Mapped[datetime | None] = mapped_column(default=datetime.now)
    redemption_transaction_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("cashback_transaction.id")
    )


BEFORE = ("user", "interest_rate", "loan", "payment", "daily_tracker")
CASHBACK = (
    "cashback_transaction",
    "loan_cashback_config",
    "tracker_entry",
    "tracker_cashback_config",
    "user_payment_method",
    "cashback_redemption",
)


def create(engine: sa.Engine, names: Iterable[str] = BEFORE) -> None:
    """What the application does at its start, for a version of it that knows these tables."""
    Base.metadata.create_all(engine, [Base.metadata.tables[name] for name in names])


def live(engine: sa.Engine, users: int = 40, seed: int = 1) -> None:
    """Some weeks of the application's life."""
    chance = random.Random(seed)
    letters = sorted(html5.values())
    with Session(engine) as session:
        for number in range(users):
            letter = letters[number * 31 % len(letters)]
            name = " & ".join(unicodedata.name(part, "'nameless'") for part in letter)
            user = User(username=f"{name}, {number}", password_hash=chance.randbytes(12).hex())
            session.add(user)
            session.flush()
            loan = Loan(
                customer_id=user.id,
                loan_name=f"“{letter}”;\n--",
                principal_amount=Decimal(chance.randrange(10**9)) / 100,
                interest_rate=Decimal("0.2135"),
                admin_notes=letter * chance.randrange(300) or None,
                created_at=datetime(2024, 1, 1) + timedelta(hours=number),
            )
            start = date(2024, 2, 29)
            tracker = DailyTracker(
                user_id=user.id,
                tracker_name=letter,
                tracker_type="99k",
                filename=f"{number}.xlsx",
                start_date=start,
            )
            session.add_all([loan, tracker])
            session.flush()
            session.add_all(
                Payment(
                    loan_id=loan.id,
                    amount=Decimal(chance.randrange(10**6)) / 100,
                    transaction_id=chance.randbytes(9).hex(),
                )
                for _ in range(chance.randrange(9))
            )
        session.add(InterestRate(rate=Decimal("21.0000")))
        session.commit()


def use_cashback(session: Session) -> None:
    """The application at work with the new tables: every one of them gets a row."""
    user = session.scalars(sa.select(User).limit(1)).one()
    loan = session.scalars(sa.select(Loan).limit(1)).one()
    tracker = session.scalars(sa.select(DailyTracker).limit(1)).one()
    earned = CashbackTransaction(
        to_user_id=user.id,
        points=Decimal("12.50"),
        transaction_type="loan_cashback",
        related_loan_id=loan.id,
        created_by_user_id=user.id,
        notes='She said: "thanks", and left',
        user_notes="",
    )
    method = UserPaymentMethod(user_id=user.id, payment_type="upi", upi_id="someone@bank")
    session.add_all(
        [
            earned,
            method,
            LoanCashbackConfig(
                loan_id=loan.id, user_id=user.id, cashback_type="percent", cashback_value=Decimal(1)
            ),
            TrackerCashbackConfig(
                tracker_id=tracker.id,
                user_id=user.id,
                cashback_type="fixed",
                cashback_value=Decimal(5),
            ),
            TrackerEntry(tracker_id=tracker.id, day=1, entry_data="{}", submitted_by_user_id=1),
        ]
    )
    session.flush()
    session.add(
        CashbackRedemption(
            user_id=user.id,
            amount=Decimal(5),
            redemption_type="upi",
            payment_method_id=method.id,
            redemption_transaction_id=earned.id,
        )
    )
    session.commit()
