"""The outbox: sends what jobs have decided on, each mail once, and never twice by itself.

```
 pending ─▶ sending ─▶ sent
    │ ▲        ├─▶ unknown    (the dialogue broke after the message was handed over)
    │ └────────┼── (declined for now: later again)
    ├─▶ skipped└─▶ failed     (declined for good, or too often for now)
    └─▶ (the run that put it here was rolled back: the row is gone)
```

A mail is claimed by its row's lock, and `sending` is committed before the message is handed over:
whatever is killed, and whenever, a mail is either still pending or is not sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.batches import attempts
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.ledger import outbox
from maintenance_pipelines.operations.letters import ADDRESS, WITHHELD, Letter
from maintenance_pipelines.operations.smtp import (
    Dialogue,
    Lost,
    MailServer,
    Message,
    Refused,
    only_address,
)

PENDING, SENDING, SENT = "pending", "sending", "sent"
UNKNOWN, SKIPPED, FAILED = "unknown", "skipped", "failed"

MOST_ATTEMPTS = 8
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=5), timedelta(hours=6)
ABANDONED = timedelta(minutes=15)
"""After that long without an outcome nobody is waiting for the server's answer any more."""
PATIENCE = 3
"""Dialogues that may break, one after the other, before the server is left alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """What became of the mails that were due, in numbers; `trouble` says why it stopped early."""

    sent: int = 0
    skipped: int = 0
    postponed: int = 0
    failed: int = 0
    unknown: int = 0
    trouble: str | None = None

    def json(self) -> dict[str, Any]:
        """The delivery as an object."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def send_due(
    database: Database, letters: Iterable[Letter], server: MailServer, as_of: datetime
) -> Delivery:
    """Sends every mail that is due at `as_of` (aware, UTC) and still should be sent.

    Several may do so at once. Raises `Misconfigured` where the server does not let us in, and the
    driver's error where the database is lost.
    """
    sender = _Sender(database, {letter.kind: letter for letter in letters}, server, as_of)
    try:
        sender.work_off()
    except BaseException:
        sender.break_off()
        raise
    sender.say_goodbye()
    return sender.delivery


def wait_after(attempts_made: int) -> timedelta:
    """How long a mail waits after so many attempts: twice as long each time, up to a limit."""
    return min(FIRST_WAIT * (1 << attempts_made - 1), LONGEST_WAIT)


@dataclass(frozen=True)
class _Mail:
    """A claimed mail: its row, and its recipient as the app has it now."""

    row: sa.RowMapping
    recipient: sa.RowMapping | None

    @property
    def withheld(self) -> str | None:
        """Why it is not to be sent any more."""
        if self.recipient is None:
            return "recipient_gone"
        reason = self.recipient[WITHHELD]
        return None if reason is None else str(reason)

    @property
    def facts(self) -> dict[str, Any]:
        """What the templates know."""
        assert self.recipient is not None
        known = {name: value for name, value in self.recipient.items() if name != ADDRESS}
        return known | {"stage": self.row["stage"], "deadline": self.row["deadline"]}


class _Sender:
    def __init__(
        self,
        database: Database,
        letters: Mapping[str, Letter],
        server: MailServer,
        as_of: datetime,
    ) -> None:
        self.database, self.letters, self.server, self.as_of = database, letters, server, as_of
        self.delivery = Delivery()
        self.dialogue: Dialogue | None = None
        self.broken = 0

    def work_off(self) -> None:
        self._give_up_abandoned()
        while self.delivery.trouble is None and self._send_one():
            pass

    def break_off(self) -> None:
        if self.dialogue is not None:
            self.dialogue.close()

    def say_goodbye(self) -> None:
        if self.dialogue is not None:
            self.dialogue.goodbye()

    def _send_one(self) -> bool:
        """Settles one mail, or hands it over; False where none is due."""
        with self.database.transaction() as connection:
            mail = self._claim(connection)
            if mail is None:
                return False
            message = self._hold_out(connection, mail)
        # Committed as `sending`. From here on the mail may be on its way.
        if message is not None:
            self._hand_over(mail, message)
        return True

    def _claim(self, connection: sa.Connection) -> _Mail | None:
        """The next mail that is due, its row locked until the transaction ends."""
        due = (
            sa.select(outbox)
            .where(
                outbox.c.state == PENDING,
                outbox.c.next_attempt_at <= self.as_of,
                outbox.c.kind.in_(self.letters),
            )
            .order_by(outbox.c.next_attempt_at, outbox.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = connection.execute(due).mappings().one_or_none()
        if row is None:
            return None
        mails = sa.select(outbox).where(outbox.c.id == row["id"]).subquery("mails")
        recipients = self.letters[row["kind"]].recipients(self.as_of, mails)
        return _Mail(row, connection.execute(recipients).mappings().one_or_none())

    def _hold_out(self, connection: sa.Connection, mail: _Mail) -> Message | None:
        """Offers a mail to the server; returns the message where it is to be handed over."""
        if mail.withheld is not None:
            self._settle(connection, mail, SKIPPED, mail.withheld)
            return None
        message_id = mail.row["message_id"] or self._message_id(mail)
        message = self._compose(mail, message_id)
        if message is None:
            self._settle(connection, mail, FAILED, "the address is none")
            return None
        try:
            self._offer(message.recipient)
        except Refused as refusal:
            self._decline(connection, mail, refusal)
            return None
        except Lost as loss:
            self._after_loss(connection, mail, loss)
            return None
        self._update(
            connection,
            mail,
            (PENDING,),
            state=SENDING,
            attempts=mail.row["attempts"] + 1,
            message_id=message_id,
            error=None,
            handed_over_at=sa.func.clock_timestamp(),
        )
        return message

    def _hand_over(self, mail: _Mail, message: Message) -> None:
        assert self.dialogue is not None
        refusal: Refused | None = None
        state, words = SENT, None
        try:
            self.dialogue.hand_over(message)
        except Refused as said:
            refusal = said
        except Lost as loss:
            self._broke_off()
            state, words = UNKNOWN, str(loss)
        else:
            self.broken = 0
        so_far = self.delivery
        for attempt in attempts(self.database):
            with attempt, self.database.transaction() as connection:
                self.delivery = so_far
                if refusal is not None:
                    self._decline(connection, mail, refusal)
                else:
                    self._settle(connection, mail, state, words)

    def _offer(self, recipient: str) -> None:
        """A server may hang up after so many mails; that is no attempt that failed."""
        if self.dialogue is not None and self.dialogue.served:
            with suppress(Lost):
                self.dialogue.offer(recipient)
                return
        if self.dialogue is None or self.dialogue.closed:
            self.dialogue = None
            self.dialogue = Dialogue(self.server)
        self.dialogue.offer(recipient)

    def _after_loss(self, connection: sa.Connection, mail: _Mail, loss: Lost) -> None:
        if self.dialogue is None:
            # Nobody there: not this mail's fault, and not the next one's.
            self._stop(f"the mail server cannot be reached ({loss})")
            return
        self._broke_off()
        self._postpone(connection, mail, str(loss), mail.row["attempts"] + 1)

    def _broke_off(self) -> None:
        self.dialogue = None
        self.broken += 1
        if self.broken >= PATIENCE:
            self._stop(f"the mail server broke off {self.broken} dialogues one after the other")

    def _decline(self, connection: sa.Connection, mail: _Mail, refusal: Refused) -> None:
        self.broken = 0
        made = mail.row["attempts"] + 1
        if refusal.permanent:
            self._settle(connection, mail, FAILED, str(refusal), attempts=made)
        else:
            self._postpone(connection, mail, str(refusal), made)

    def _postpone(self, connection: sa.Connection, mail: _Mail, words: str, made: int) -> None:
        if made >= MOST_ATTEMPTS:
            self._settle(connection, mail, FAILED, words, attempts=made)
            return
        self._update(
            connection,
            mail,
            (PENDING, SENDING),
            state=PENDING,
            attempts=made,
            next_attempt_at=self.as_of + wait_after(made),
            error=words,
        )
        self._count("postponed")

    def _settle(
        self, connection: sa.Connection, mail: _Mail, state: str, words: str | None, **more: Any
    ) -> None:
        self._update(
            connection,
            mail,
            (PENDING, SENDING, UNKNOWN),
            state=state,
            error=words,
            settled_at=sa.func.clock_timestamp(),
            **more,
        )
        self._count(state)
        log.info(
            "mail %s (%s, %s) is %s", mail.row["id"], mail.row["kind"], mail.row["stage"], state
        )

    def _update(
        self, connection: sa.Connection, mail: _Mail, states: tuple[str, ...], **values: Any
    ) -> None:
        mine = (outbox.c.id == mail.row["id"]) & outbox.c.state.in_(states)
        connection.execute(outbox.update().where(mine).values(values))

    def _compose(self, mail: _Mail, message_id: str) -> Message | None:
        """The message; None where the recipient's address is none."""
        assert mail.recipient is not None
        recipient = str(mail.recipient[ADDRESS]).strip()
        to = only_address(recipient)
        if to is None or to.addr_spec != recipient:
            return None
        content = self.letters[mail.row["kind"]].write(mail.facts)
        content["From"] = self.server.sender
        content["To"] = to
        content["Message-ID"] = message_id
        content["Date"] = format_datetime(self.as_of, usegmt=True)
        return Message(recipient, content)

    def _message_id(self, mail: _Mail) -> str:
        """The same however often the mail is tried: a receiver can tell a repetition."""
        return f"<{mail.row['id']}@{self.server.sender.domain}>"

    def _give_up_abandoned(self) -> None:
        """Mails whose sender has died before it knew, or could say, what became of them."""
        with self.database.transaction() as connection:
            since = sa.func.clock_timestamp() - ABANDONED
            left = (outbox.c.state == SENDING) & (outbox.c.handed_over_at < since)
            given_up = (
                outbox.update()
                .where(left)
                .values(
                    state=UNKNOWN,
                    error="whoever sent it did not live to see the answer",
                    settled_at=sa.func.clock_timestamp(),
                )
            )
            count = connection.execute(given_up).rowcount
        self._count("unknown", count)

    def _stop(self, why: str) -> None:
        self.delivery = replace(self.delivery, trouble=why)

    def _count(self, name: str, by: int = 1) -> None:
        self.delivery = replace(self.delivery, **{name: getattr(self.delivery, name) + by})
