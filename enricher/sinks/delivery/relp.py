# SPDX-License-Identifier: Apache-2.0
"""RELP: syslog messages that the receiver acknowledges one by one. See docs/sinks/relp.md.

Owns the client's side of a session: open, syslog, close, and which of our messages were answered. Never sends more
than `window` messages ahead of their answers, and never takes one for delivered without ``200``.

A frame is ``TXNR SP COMMAND SP LENGTH [SP DATA] LF``, an answer ``TXNR SP rsp SP LENGTH SP CODE TEXT LF``. Answers
come in the order of the commands, and they are not needed to: each is found by its number. What rsyslog means by 200
is that the message is in its queue; whether that queue outlives it is the receiver's configuration.

After a break what was answered is done and what was not is to be sent again, so the receiver may get a message
twice: `Receipt.again` where at least one message was answered, else `Unreachable`. Any code but 200 says that the
receiver could not take the message now; only after the third time is it refused for good.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.config.kinds import Count
from enricher.config.options import Clash, option, refuse_clashes
from enricher.errors import UsageError
from enricher.sinks.delivery.connection import (
    Address,
    Connection,
    ReceiverOptions,
    Tls,
    address_of,
    context_of,
)
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Unreachable
from enricher.sinks.delivery.rfc5424 import LENGTH_MIN, SD_ID, Formatter, SdId
from enricher.sinks.delivery.session import Held

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LENGTH_MAX: Final = 128 << 10
"""Octets of the data of one frame: what version 0 and 1 of the protocol admit."""
_OFFERS: Final = b"relp_version=0\nrelp_software=audit-enricher\ncommands=syslog"
_TXNR_MAX: Final = 999_999_999
_OK: Final = 200
_ANSWER_MAX: Final = 8 << 10
"""Bytes of one frame that a receiver may send; an answer has about ten, that to `open` about a hundred."""
_HEAD: Final = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
_HEAD_MAX: Final = 9 + 1 + 32 + 1 + 9 + 1
_CODE: Final = re.compile(rb"([0-9]{3})(?: |\n|$)")
_TRIES: Final = 3
_WAIT: Final = 1.0
"""Seconds until a message is sent again that the receiver answered with an error."""
_REMEMBERED: Final = 4096
_WAITS: Final = 6
"""Times `timeout` that one call may take, of a receiver that answers slowly but does."""


@dataclass(frozen=True)
class RelpOptions(ReceiverOptions):
    """What can be set of a destination of type `relp`."""

    tls: bool = option(default=False, doc="whether the connection is TLS from its first byte on")
    window: int = option(128, "messages that are sent ahead of their answers, at most", Count())
    max_length: int = option(
        8096,
        "octets of a syslog message; a longer line goes out in parts that say so",
        Count(LENGTH_MIN, LENGTH_MAX),
    )
    facility: int = option(13, "the number of the facility; 13 is log audit", Count(0, 23))
    hostname: str = option("", "HOSTNAME of the messages; empty: the host's")
    sd_id: str = option(SD_ID, "the name of the structured data: NAME@PRIVATE-ENTERPRISE-NUMBER", SdId())
    timeout: float = option(10.0, "seconds for connecting, for the next answer, and for ending a session")

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        yield from super().clashes()
        if self.tls_given != Tls() and not self.tls:
            hint = "tls = true, or leave the tls_ options out"
            yield Clash("tls", "there are options of TLS without it", hint)


class Frame(NamedTuple):
    """One frame as it was received."""

    txnr: int
    command: bytes
    data: bytes


class ProtocolError(Exception):
    """What came is no frame, or one that has no place here."""


class Frames:
    """Takes frames out of a stream of bytes. Hostile bytes raise ProtocolError, and hold at most one frame's memory."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take in what came, and give out every frame that is whole."""
        self._held += data
        while self._held:
            head = _HEAD.match(self._held)
            if head is None:
                if len(self._held) >= _HEAD_MAX or b"\n" in self._held:
                    raise ProtocolError("no RELP frame")
                return
            length = int(head[3])
            if length > _ANSWER_MAX:
                raise ProtocolError(f"a frame of {length} bytes")
            # Where there is no data there is no space before the end either, in most programs.
            start = head.end() if head[4] == b" " else head.end() - 1
            if length and head[4] != b" ":
                raise ProtocolError("a frame without its data")
            if len(self._held) <= start + length:
                return
            if self._held[start + length] != ord("\n"):
                raise ProtocolError("a frame that does not end where it says")
            frame = Frame(int(head[1]), bytes(head[2]), bytes(self._held[start : start + length]))
            del self._held[: start + length + 1]
            yield frame


class _Session:
    """One open session."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._frames = Frames()
        self._txnr = 0
        self.waiting: OrderedDict[int, int] = OrderedDict()  # txnr -> what the caller named it
        code, data = self._command(b"open", _OFFERS)
        offers = dict(line.partition(b"=")[::2] for line in data.split(b"\n")[1:])
        if code != _OK or b"syslog" not in offers.get(b"commands", b"").split(b","):
            raise ProtocolError("it does not take syslog messages over RELP")

    def _frame(self, command: bytes, data: bytes) -> bytes:
        self._txnr = self._txnr % _TXNR_MAX + 1
        return b"%d %b %d%b%b\n" % (self._txnr, command, len(data), b" " if data else b"", data)

    def _command(self, command: bytes, data: bytes) -> tuple[int, bytes]:
        """Send a command and wait for its answer."""
        deadline = time.monotonic() + self._timeout
        self._connection.send(self._frame(command, data), deadline)
        while True:
            for frame in self._received(self._connection.receive(deadline)):
                if frame.txnr == self._txnr:
                    return _code_of(frame), frame.data

    def _received(self, data: bytes) -> Iterator[Frame]:
        if not data:
            raise ProtocolError("it has closed the session")
        for frame in self._frames.feed(data):
            if frame.command == b"serverclose":
                raise ProtocolError("it has closed the session")
            if frame.command != b"rsp":
                raise ProtocolError(f"an answer with the command {frame.command[:32]!r}")
            yield frame

    def send(self, named: Sequence[tuple[int, bytes]]) -> None:
        """Send messages. What each is named is what `answers` gives back."""
        frames = []
        for name, data in named:
            frames.append(self._frame(b"syslog", data))
            self.waiting[self._txnr] = name
        self._connection.send(b"".join(frames), time.monotonic() + self._timeout)

    def answers(self) -> Iterator[tuple[int, int]]:
        """Wait for the next answers and return the name of each and its code."""
        for frame in self._received(self._connection.receive(time.monotonic() + self._timeout)):
            name = self.waiting.pop(frame.txnr, None)
            if name is None:
                raise ProtocolError(f"an answer to the command {frame.txnr}, which waits for none")
            yield name, _code_of(frame)

    def end(self) -> None:
        """Close in good order."""
        self._command(b"close", b"")


def _code_of(frame: Frame) -> int:
    found = _CODE.match(frame.data)
    if found is None:
        raise ProtocolError("an answer without a code")
    return int(found[1])


class RelpSender:
    """A `Sender` for one receiver; it connects at the first `send`. Raises UsageError for options that cannot be.

    ``errors`` counts answers other than 200.
    """

    acknowledged = True
    most = 512

    def __init__(self, options: RelpOptions) -> None:
        self._address: Address = address_of(options.address)
        refuse_clashes(options)
        if options.window < 1:
            raise UsageError(f"window {options.window} is none", "one message at least")
        if options.max_length > LENGTH_MAX:
            raise UsageError(
                f"max_length {options.max_length} is more than RELP admits", f"at most {LENGTH_MAX}"
            )
        self._context = context_of(options.tls_given) if options.tls else None
        self._server_name = options.tls_server_name
        self._timeout = options.timeout
        self._window = options.window
        self._format = Formatter(
            hostname=options.hostname or socket.gethostname(),
            procid=os.getpid(),
            max_length=options.max_length,
            facility=options.facility,
            sd_id=options.sd_id,
        )
        self._held = Held(self._connect, self._begin)
        self._errors_of: OrderedDict[str, int] = OrderedDict()
        self.errors = 0

    def _connect(self) -> Connection:
        return Connection(self._address, self._timeout, self._context, self._server_name)

    def _begin(self, connection: Connection) -> _Session:
        return _Session(connection, self._timeout)

    @property
    def sessions(self) -> int:
        """Sessions that were opened."""
        return self._held.begun

    @property
    def split(self) -> int:
        """Lines that were longer than `max_length` and went out in parts."""
        return self._format.split

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`. Ends after `timeout` without an answer, and after six times that with them."""
        refused: dict[int, str] = {}
        parts: list[tuple[int, bytes]] = []
        for index, message in enumerate(messages):
            try:
                parts += [(index, part) for part in self._format.messages(message)]
            except ValueError as error:
                refused[index] = str(error)
        open_parts = [0] * len(messages)
        for index, _part in parts:
            open_parts[index] += 1
        failed: dict[int, int] = {}
        try:
            if parts:
                self._exchange(self._held.opened(), parts, open_parts, failed)
        except (Unreachable, ProtocolError) as error:
            self._held.abandon()
            answered = any(not left and index not in refused for index, left in enumerate(open_parts))
            if not answered and not failed:
                raise self._unreachable(error) from error
        return self._receipt(messages, open_parts, failed, refused)

    def _exchange(
        self,
        session: _Session,
        parts: Sequence[tuple[int, bytes]],
        open_parts: list[int],
        failed: dict[int, int],
    ) -> None:
        """Send all parts, within the window, and note their answers in `open_parts` and `failed`."""
        sent = 0
        end = time.monotonic() + _WAITS * self._timeout
        while sent < len(parts) or session.waiting:
            if time.monotonic() > end:
                raise Unreachable(f"{self._address} answers too slowly")
            room = self._window - len(session.waiting)
            if room > 0 and sent < len(parts):
                session.send(parts[sent : sent + room])
                sent += min(room, len(parts) - sent)
            for index, code in session.answers():
                if code == _OK:
                    open_parts[index] -= 1
                else:
                    self.errors += 1
                    failed[index] = code

    def _receipt(
        self,
        messages: Sequence[Message],
        open_parts: Sequence[int],
        failed: dict[int, int],
        refused: dict[int, str],
    ) -> Receipt:
        again = []
        for index, message in enumerate(messages):
            if index in failed:
                times = self._errors_of.pop(message.uid, 0) + 1
                if times >= _TRIES:
                    refused[index] = f"answered {times} times with an error, at last {failed[index]}"
                    continue
                self._errors_of[message.uid] = times
                while len(self._errors_of) > _REMEMBERED:
                    self._errors_of.popitem(last=False)
                again.append(index)
            elif open_parts[index] and index not in refused:
                again.append(index)
            elif self._errors_of:
                self._errors_of.pop(message.uid, None)
        if not refused and not again:
            return ALL_TAKEN
        return Receipt(refused, again, _WAIT if failed and again else None)

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, Unreachable):
            return error
        return Unreachable(f"no RELP session with {self._address}: {error}")

    def close(self) -> None:
        """See `Sender`. Nothing waits for an answer then, so it does not matter how the farewell ends."""
        if self._held.session is not None:
            with contextlib.suppress(Unreachable, ProtocolError):
                self._held.session.end()
        self._held.abandon()
