# SPDX-License-Identifier: Apache-2.0
"""NATS JetStream: events are published and acknowledged one by one, and the stream drops duplicates by their uid.

Owns what is published, how its acknowledgements are waited for, and what they mean. Never makes or changes a stream:
docs/sinks/nats.md has one. Needs nats-py, which is imported with the first destination of this type.

nats-py is asyncio: its loop is the courier's own, and runs during a call alone. What a server says in between waits,
so a connection that was idle is asked whether it lives. It never connects again by itself: the courier does, and
what was not acknowledged is published again. ``Nats-Msg-Id`` is the uid, by which the stream knows what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from enricher.config.kinds import Count, Kind, Unfit
from enricher.config.options import Clash, needed, option, refuse_clashes
from enricher.sinks.delivery.connection import (
    AddressesKind,
    ReceiverOptions,
    Tls,
    addresses_of,
    context_of,
)
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Unreachable
from enricher.sinks.delivery.natslogin import client_of, read_login
from enricher.sinks.delivery.secret import PRINTABLE
from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from enricher.sinks.delivery.connection import Address

T = TypeVar("T")

SUBJECT: Final = "audit.events"
"""What subjects begin with; the machine id comes behind it."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,15}")
_IDLE: Final = 20.0
"""Seconds after which a connection is asked whether it lives, before it is used."""
_WAITS: Final = 6
"""Times `ack_timeout` that one call may take, of a stream that acknowledges slowly but does."""
_WAIT: Final = 1.0
"""Seconds until something is published again that the stream did not take now."""
_HEADERS: Final = 512
"""Bytes of the headers at most, which count as payload."""
_TOO_LARGE: Final = 10054
_OTHER_STREAM: Final = 10060


class SubjectKind(Kind[str]):
    """A subject to publish to; empty for the one that has the host in it."""

    what = "a subject, words of letters, digits, - and _ with dots between them, or empty"
    metavar = "SUBJECT"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if text and not _SUBJECT.fullmatch(text):
            raise Unfit(self.wrong(text))
        return text


class StreamKind(Kind[str]):
    """The name of a stream."""

    what = "the name of a stream: letters, digits, - and _"
    metavar = "NAME"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if not _TOKEN.fullmatch(text):
            raise Unfit(self.wrong(text))
        return text


@dataclass(frozen=True)
class NatsOptions(ReceiverOptions):
    """What can be set of a destination of type `nats`."""

    address: str = needed(
        "where the servers of one cluster listen: HOST:PORT, several with commas between them",
        kind=AddressesKind(),
    )
    tls: bool = option(default=False, doc="whether TLS is asked for; a server that has none is left then")
    creds_file: str = option(
        "",
        "a .creds file, with a JWT and its key; a name without a slash is a systemd credential; empty: none",
    )
    token_file: str = option("", "file with a token, as creds_file")
    username: str = option("", "the user, with password_file")
    password_file: str = option("", "file with the user's password, as creds_file")
    stream: str = option("AUDIT", "the stream that has to take the events", StreamKind())
    subject: str = option("", "the subject; empty: audit.events. and the host's machine id", SubjectKind())
    batch: int = option(
        500, "events that are published ahead of their acknowledgements, at most", Count(1, 10_000)
    )
    timeout: float = option(5.0, "seconds for connecting to one server, and for publishing a batch")
    ack_timeout: float = option(10.0, "seconds for the next acknowledgement")

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        yield from super().clashes()
        if self.tls_given != Tls() and not self.tls:
            hint = "tls = true, or leave the tls_ options out"
            yield Clash("tls", "there are options of TLS without it", hint)
        ways = [key for key in ("creds_file", "token_file", "username") if getattr(self, key)]
        if len(ways) > 1:
            yield Clash(ways[1], f"there is {ways[0]} too", "one way to log in is enough")
        if bool(self.username) != bool(self.password_file):
            given, other = ("username", "password_file") if self.username else ("password_file", "username")
            yield Clash(given, f"there is no {other}", "a user needs both, or leave both out")


@dataclass
class _Lot:
    """What became of the messages of one call, by their index."""

    open: set[int]
    refused: dict[int, str] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    why: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class NatsSender:
    """A `Sender` for one stream; it connects at the first `send`. Raises UsageError and ConfigInvalid.

    ``sessions`` counts the connections that were made, ``duplicates`` what the stream knew already.
    """

    acknowledged = True

    def __init__(self, options: NatsOptions, machine_id: str) -> None:
        self._servers = addresses_of(options.address)
        refuse_clashes(options)
        self._library = extra("nats.aio.client", "nats")
        self.most = options.batch
        self._options = options
        host = machine_id if _TOKEN.fullmatch(machine_id) else "unknown"
        self._subject = options.subject or f"{SUBJECT}.{host}"
        self._login, self.advice = read_login(options, self._library)
        self._context = context_of(options.tls_given) if options.tls else None
        self._next = random.randrange(len(self._servers))  # noqa: S311 - hosts share the servers between them
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._where = ""
        self._inbox = ""
        self._round = 0
        self._used = 0.0
        self._lot = _Lot(set())
        self._broken = ""
        self._gone = asyncio.Event()
        """Set where a connection is of no use any more."""
        self.sessions = self.duplicates = 0

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`. Ends after `ack_timeout` without an acknowledgement, and after six times that with them."""
        lot = _Lot(set(range(len(messages))))
        try:
            if messages:
                self._run(self._deliver(messages, lot))
        except Unreachable as error:
            self._abandon()
            if len(lot.open) + len(lot.again) == len(messages):
                raise
            lot.why = error.message
        again = sorted(lot.open | lot.again)
        if len(again) == len(messages) and again:
            raise Unreachable(lot.why, wait=_WAIT)
        if not again and not lot.refused:
            return ALL_TAKEN
        return Receipt(lot.refused, again, _WAIT if lot.again else None)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    async def _deliver(self, messages: Sequence[Message], lot: _Lot) -> None:
        client = await self._connected()
        self._round += 1
        self._lot = lot
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._publish(client, messages, lot)
        except (OSError, self._library.errors.Error) as error:  # TimeoutError is an OSError
            raise self._lost(error) from error
        end = time.monotonic() + _WAITS * self._options.ack_timeout
        while lot.open:
            lot.changed.clear()
            if self._broken:
                raise Unreachable(f"{self._where}: {self._broken}")
            try:
                left = min(self._options.ack_timeout, end - time.monotonic())
                async with asyncio.timeout(left):
                    await lot.changed.wait()
            except TimeoutError as error:
                raise Unreachable(
                    f"{self._where}: {len(lot.open)} events were not acknowledged in time"
                ) from error
        self._used = time.monotonic()

    async def _publish(self, client: Client, messages: Sequence[Message], lot: _Lot) -> None:
        most = client.max_payload - _HEADERS
        for number, message in enumerate(messages):
            if len(message.body) > most:
                lot.refused[number] = f"larger than the {most} bytes that the server takes"
            elif not PRINTABLE.fullmatch(message.uid) or len(message.uid) > _HEADERS // 2:
                lot.refused[number] = "its uid cannot be a header"
            else:
                headers = {"Nats-Msg-Id": message.uid, "Nats-Expected-Stream": self._options.stream}
                reply = f"{self._inbox}.{self._round}.{number}"
                await client.publish(self._subject, message.body, reply, headers)
                continue
            lot.open.discard(number)

    async def _answer(self, answer: Msg) -> None:
        """Take in one acknowledgement; one of an earlier call is too late."""
        *_, which, number = answer.subject.split(".")
        lot = self._lot
        if not (which == str(self._round) and number.isdecimal() and int(number) in lot.open):
            return
        index = int(number)
        lot.open.discard(index)
        lot.changed.set()
        code, said = self._meaning(answer)
        if said:
            lot.why = f"{self._where}: {said}"
            if code == _TOO_LARGE:
                lot.refused[index] = said
            else:
                lot.again.add(index)

    def _meaning(self, answer: Msg) -> tuple[int, str]:
        """Return the error and what to say of it; nothing where the stream has the message."""
        if (answer.headers or {}).get("Status") == "503":
            said = f"no stream takes {self._subject}: make {self._options.stream} (docs/sinks/nats.md)"
            return 503, f"{said}, or the cluster has no leader for it now"
        try:
            found = json.loads(answer.data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return 0, "an answer that acknowledges nothing"
        if isinstance(error := found.get("error"), dict):
            code = error.get("err_code")
            said = printable(str(error.get("description", "it does not say why")))
            if code == _OTHER_STREAM:
                said = f"{self._subject} belongs to another stream than {self._options.stream}: set stream"
            return code if isinstance(code, int) else 0, said
        if found.get("stream") != self._options.stream or not isinstance(found.get("seq"), int):
            return 0, "an answer that acknowledges nothing"
        self.duplicates += found.get("duplicate") is True
        return 0, ""

    # -- the connection ------------------------------------------------------------------------------

    async def _connected(self) -> Client:
        """Return the connection, a new one where there is none that lives. Raises Unreachable."""
        if self._client is not None:
            if time.monotonic() - self._used <= _IDLE:
                await asyncio.sleep(0)  # what has come in between is read: that it was closed, say
            else:
                await self._look(self._client)
            if self._client.is_connected and not self._broken and self._used:
                return self._client
            await self._disconnect()
        errors: list[str] = []
        for _ in self._servers:
            address = self._servers[self._next]
            try:
                return await self._connect(address)
            except Unreachable as error:
                errors.append(error.message)
                self._next = (self._next + 1) % len(self._servers)
        raise Unreachable("; ".join(errors))

    async def _look(self, client: Client) -> None:
        """Ask the server whether it is there. nats-py waits for the answer of one that has closed meanwhile, too."""
        answer = asyncio.ensure_future(client.flush(max(1, int(self._options.timeout))))
        gone = asyncio.ensure_future(self._gone.wait())
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        answer.cancel()
        # Why it does not live is nobody's concern: there is another connection now.
        [said, _] = await asyncio.gather(answer, gone, return_exceptions=True)
        if said is None:
            self._used = time.monotonic()

    async def _connect(self, address: Address) -> Client:
        client = client_of(self._library, held_to_tls=self._context is not None)
        self._broken = ""
        self._gone = asyncio.Event()
        self._where = str(address)
        options = self._options
        tls: dict[str, Any] = {}
        if self._context is not None:
            tls = {"tls": self._context, "tls_hostname": options.tls_server_name or address.host}
        try:
            async with asyncio.timeout(options.timeout):
                await client.connect(
                    f"nats://{address}",
                    name="audit-enricher",
                    # One more try at once, and then it is left: waiting is the courier's.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=self._complain,
                    closed_cb=self._closed,
                    connect_timeout=max(1, int(options.timeout)),
                    **tls,
                    **self._login,
                )
                self._client = client
                self._broken = ""
                self._inbox = client.new_inbox()
                await client.subscribe(f"{self._inbox}.>", cb=self._answer)
                await client.flush(max(1, int(options.timeout)))
        # A server that says what is no NATS makes the library raise anything.
        except Exception as error:
            await self._disconnect(client)
            raise self._lost(error) from error
        if self._context is not None and not getattr(client, "secured", False):
            await self._disconnect(client)
            raise Unreachable(f"{self._where}: this version of nats-py cannot be held to TLS")
        self._used = time.monotonic()
        self.sessions += 1
        return client

    async def _complain(self, error: Exception) -> None:
        self._broken = self._broken or _reason(error)
        self._gone.set()
        self._lot.changed.set()

    async def _closed(self) -> None:
        self._broken = self._broken or "it has closed the connection"
        self._gone.set()
        self._lot.changed.set()

    def _lost(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self._where}: {self._broken or _reason(error)}")

    async def _disconnect(self, client: Client | None = None) -> None:
        client, self._client = client or self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # whatever it is: it is over
                async with asyncio.timeout(1.0):
                    await client.close()

    def _abandon(self) -> None:
        """Leave this server; the next try is with the next."""
        if self._loop is not None:
            self._run(self._disconnect())
        self._next = (self._next + 1) % len(self._servers)

    def close(self) -> None:
        """See `Sender`."""
        if self._loop is None:
            return
        self._run(self._disconnect())
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with contextlib.suppress(RuntimeError):
            self._run(asyncio.sleep(0))
        self._loop.close()
        self._loop = None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.errno and type(error).__module__ == "builtins":
        return os.strerror(error.errno)
    return printable(str(error)) or type(error).__name__
