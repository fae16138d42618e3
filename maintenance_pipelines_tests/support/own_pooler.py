"""A small transaction pooler that speaks PostgreSQL's protocol 3 on both sides.

It forwards whole messages and reads only what says whose turn it is: which of the client's
messages ask for an answer, and whether the server is idle when it has given it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from contextlib import suppress

SESSIONS = 2
_ANSWERED = b"QSF"  # Query, Sync, FunctionCall: each is answered by one ReadyForQuery
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_PROTOCOL = 196608


class _Peer:
    """One end of a conversation, and the message of its that has not been looked at yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._next: asyncio.Task[bytes] | None = None

    def next(self) -> asyncio.Task[bytes]:
        """The next message; reading it is never broken off, so that no half of it is lost."""
        self._next = self._next or asyncio.ensure_future(self._message())
        return self._next

    def take(self) -> bytes:
        """The message that `next` has finished reading."""
        message = self.next().result()
        self._next = None
        return message

    def close(self) -> None:
        if self._next:
            self._next.cancel()
        self.writer.close()

    async def _message(self) -> bytes:
        head = await self.reader.readexactly(5)
        (length,) = struct.unpack("!i", head[1:])
        return head + await self.reader.readexactly(length - 4)


class OwnPooler:
    """Serves any number of clients with two server sessions, used in turn and never reset."""

    def __init__(self, socket: str, user: str, database: str) -> None:
        self._socket, self._user, self._database = socket, user, database
        self._permits = asyncio.Semaphore(SESSIONS)
        self._open = 0
        self._free: deque[_Peer] = deque()
        self._greeting = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from its first byte to its last."""
        client = _Peer(reader, writer)
        with suppress(asyncio.IncompleteReadError, OSError):
            if await self._welcome(client):
                while await client.next() and client.next().result()[:1] != b"X":
                    await self._lend(client)
        client.close()

    async def _welcome(self, client: _Peer) -> bool:
        """Answers the start of a connection; False where it only wanted to cancel."""
        while True:
            (length,) = struct.unpack("!i", await client.reader.readexactly(4))
            (code,) = struct.unpack("!i", (await client.reader.readexactly(length - 4))[:4])
            if code not in (_SSL, _GSS):
                break
            client.writer.write(b"N")
        if code == _CANCEL:
            return False
        if not self._greeting:
            async with self._permits:
                self._free.append(await self._session())
        client.writer.write(self._greeting)
        return True

    async def _lend(self, client: _Peer) -> None:
        """Serves a client with one session until the transaction has ended."""
        async with self._permits:
            session = await self._session()
            try:
                await self._transaction(client, session)
            except BaseException:
                # As pgbouncer does: a transaction left open dies with its client.
                session.close()
                self._open -= 1
                raise
            self._free.append(session)

    async def _transaction(self, client: _Peer, session: _Peer) -> None:
        owed, whole, idle = 0, False, False
        while not (idle and whole and owed == 0):
            await asyncio.wait({client.next(), session.next()}, return_when="FIRST_COMPLETED")
            if client.next().done():
                message = client.take()
                if message[:1] == b"X":
                    raise ConnectionResetError
                session.writer.write(message)
                whole = message[:1] in _ANSWERED
                owed += whole
            if session.next().done():
                message = session.take()
                client.writer.write(message)
                if message[:1] == b"Z":
                    owed, idle = owed - 1, message[5:] == b"I"
            await session.writer.drain()
            await client.writer.drain()

    async def _session(self) -> _Peer:
        """The session that has been free longest, or a new one while there are too few."""
        if self._open >= SESSIONS:
            return self._free.popleft()
        session = _Peer(*await asyncio.open_unix_connection(self._socket))
        self._open += 1
        wanted = f"user\0{self._user}\0database\0{self._database}\0\0".encode()
        session.writer.write(struct.pack("!ii", len(wanted) + 8, _PROTOCOL) + wanted)
        greeting = message = b""
        while message[:1] != b"Z":
            await session.next()
            message = session.take()
            greeting += message
        self._greeting = greeting
        return session
