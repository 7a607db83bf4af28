# SPDX-License-Identifier: Apache-2.0
"""What a receiver answers over RELP: frames of any bytes, and what the sender takes for delivered because of them.

The first byte says in which pieces the rest arrives, and how much is sent ahead of it. `BREAK` ends a connection
and begins the next one, so that an input can have the three sessions after which a message is refused for good.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from unittest import mock

from enricher.sinks.delivery import relp
from enricher.sinks.delivery.message import Message, Receipt, Unreachable

BREAK: Final = b"\xff\xfe"
OPENED: Final = b"1 rsp 53 200 OK\nrelp_version=0\nrelp_software=x\ncommands=syslog\n"
_WINDOWS: Final = 8  # there are five frames in all
_LONGEST: Final = 8 << 10  # the data of one frame
_HEAD: Final = 54  # of one frame, at most, and its end
_SENDS: Final = 4
_DIGITS: Final = b"0123456789"
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OURS: Final = re.compile(rb"([0-9]+) ([a-z]+) ([0-9]+)[ \n]")

_MESSAGES: Final = [
    Message("boot/1", 1.0, "SYSCALL", b"{}", 1, 3),
    Message("boot/2", 2.0, "EXECVE", b"x" * 1_500, 2, 1),  # in two parts
    Message("boot/3", 3.0, "LOST", b"two\nlines"),
]


class Answer(NamedTuple):
    """One frame as it has to be understood."""

    txnr: int
    command: bytes
    data: bytes


class Odd(Exception):
    """It will never be a frame."""


def understood(said: bytes) -> tuple[list[Answer], bool]:
    """Return the frames at the start of these bytes, and whether what follows may still become one."""
    frames: list[Answer] = []
    try:
        while (frame := _first(said)) is not None:
            frames.append(frame[0])
            said = said[frame[1] :]
    except Odd:
        return frames, False
    return frames, True


def _first(said: bytes) -> tuple[Answer, int] | None:
    """Return the first frame and its length; None where there is none yet. Raises Odd."""
    words: list[bytes] = []
    at = 0
    for allowed, longest in ((_DIGITS, 9), (_LETTERS, 32), (_DIGITS, 9)):
        word = said[at : at + longest + 1]
        length = len(word) - len(word.lstrip(allowed))
        if length == len(word) <= longest:
            return None
        if not 0 < length <= longest:
            raise Odd
        words.append(word[:length])
        at += length
        if said[at : at + 1] != b" " and (len(words) < 3 or said[at : at + 1] != b"\n" or int(words[2])):
            raise Odd
        at += 1
    size = int(words[2])
    if said[at - 1 : at] == b"\n":  # the end already: there is no data
        at -= 1
    if size > _LONGEST:
        raise Odd
    if len(said) <= at + size:
        return None
    if said[at + size] != ord("\n"):
        raise Odd
    return Answer(int(words[0]), words[1], said[at : at + size]), at + size + 1


def _pieces(said: bytes, step: int) -> list[bytes]:
    return [said[at : at + step] for at in range(0, len(said), step)]


def frames_of(pieces: list[bytes]) -> tuple[list[Answer], bool]:
    """As `understood`, by the reader that is tried."""
    reader = relp.Frames()
    found: list[Answer] = []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append(Answer(*frame))  # noqa: PERF401 - those before the nonsense are wanted
            # What is held is part of one frame: a receiver cannot fill the memory.
            require(len(reader._held) <= _LONGEST + _HEAD, "more than one frame is held")
    except relp.ProtocolError:
        return found, False
    return found, True


class Wire:
    """As `Connection`, to receivers that say what was given, one after the other."""

    def __init__(self, receivers: list[bytes], step: int) -> None:
        self._receivers = receivers
        self._step = step
        self._coming: list[bytes] = []
        self.window = 1 + step % _WINDOWS
        self.open = 0
        self.given: list[dict[int, str]] = []  # of each session, which message each number was
        self.said: list[bytes] = []  # of each session, what was read of it

    def __call__(self, *_: object) -> Wire:
        if not self._receivers:
            raise Unreachable("nobody is there")
        require(not self.open, "a connection that was left open")
        self.open += 1
        said = self._receivers.pop(0)
        opened = OPENED if said.startswith(OPENED) else b""  # what comes with it answers nothing yet
        self._coming = [*_pieces(opened, self._step), *_pieces(said.removeprefix(OPENED), self._step)]
        self.given.append({})
        self.said.append(b"")
        return self

    def send(self, data: bytes, _deadline: float) -> None:
        while (found := _OURS.match(data)) is not None:
            end = found.end() + int(found[3])
            if found[2] == b"syslog":
                body = data[found.end() : end]
                uid = next(each.uid for each in _MESSAGES if each.uid.encode() in body)
                self.given[-1][int(found[1])] = uid
            data = data[end + 1 :]
        answered = {frame.txnr for frame in understood(self.said[-1])[0]}
        require(len(self.given[-1].keys() - answered) <= self.window, "more than the window is sent ahead")

    def receive(self, _deadline: float) -> bytes:
        if not self._coming:
            if self._step % 2:
                return b""
            raise Unreachable("timed out")
        self.said[-1] += self._coming[0]
        return self._coming.pop(0)

    def pending(self) -> None:
        """Say nothing unasked."""

    def close(self) -> None:
        self.open = 0

    @property
    def mark(self) -> tuple[int, int]:
        """Where we are: the session, and the last number that a message had in it."""
        return max(len(self.given) - 1, 0), max(self.given[-1], default=0) if self.given else 0

    def codes(self, session: int, after: int) -> dict[str, list[bytes]]:
        """Return how all answers begin that each message had since that mark."""
        found: dict[str, list[bytes]] = {each.uid: [] for each in _MESSAGES}
        for given, said in list(zip(self.given, self.said, strict=True))[session:]:
            for frame in understood(said)[0]:
                if frame.txnr in given and frame.txnr > after and frame.command == b"rsp":
                    found[given[frame.txnr]].append(frame.data[:3])
            after = 0
        return found


def answers(data: bytes) -> None:
    """Frames as they are meant; then what a sender makes of them, who has to have a 200 for what it calls taken."""
    step = (data[0] if data else 0) + 1
    said = data[1:]
    meant, is_more = understood(said)
    found, waits = frames_of([said])
    require(found == meant, "frames that are read otherwise")
    # A few bytes that will never be a frame may be waited over, until the head would be whole.
    require(waits >= is_more, "what may become a frame is refused")
    require(frames_of(_pieces(said, step)) == (found, waits), "the size of the pieces makes a difference")
    wire = Wire(said.split(BREAK), step)
    with mock.patch.object(relp, "Connection", wire):
        _deliver(wire)


def _deliver(wire: Wire) -> None:
    sender = relp.RelpSender(
        relp.RelpOptions("127.0.0.1:1", window=wire.window, max_length=1024, hostname="h", timeout=1e6)
    )
    todo = _MESSAGES
    errors = dict.fromkeys((each.uid for each in _MESSAGES), 0)
    for _ in range(_SENDS):
        mark = wire.mark
        try:
            receipt = sender.send(todo)
        except Unreachable as error:
            require(error.message.isprintable(), "an error that is not fit for a terminal")
            require(not wire.open, "a connection that is left open after an error")
            continue
        todo = _judged(todo, receipt, wire.codes(*mark), errors)
        if not todo:
            break
    sender.close()
    require(not wire.open, "a connection that is left open at the end")


def _judged(
    todo: list[Message], receipt: Receipt, codes: dict[str, list[bytes]], errors: dict[str, int]
) -> list[Message]:
    """Check each message's lot, and return those that are to be sent again."""
    require(not receipt.unnamed, "an answer has a number, so what it refuses has a name")
    require(not set(receipt.refused) & set(receipt.again), "refused, and to be sent again")
    for at, message in enumerate(todo):
        had = codes[message.uid]
        errors[message.uid] += any(code != b"200" for code in had)
        if at in receipt.refused:
            require(errors[message.uid] >= 3, "refused before the third error")
        elif at not in receipt.again:
            # The second is in two parts, the third has two lines: each is a frame, and each needs its answer.
            needed = 1 if message.uid == "boot/1" else 2
            require(had.count(b"200") >= needed, "taken without an answer for each of its frames")
    return [todo[at] for at in sorted(receipt.again)]


def require(holds: object, what: str) -> None:
    """Raise for a finding."""
    if not holds:
        raise AssertionError(what)


def _session(*codes: bytes, first: int = 2) -> bytes:
    said = b"".join(
        b"%d rsp %d %b\n" % (number, len(code), code) for number, code in enumerate(codes, start=first)
    )
    return OPENED + said


def seeds() -> list[bytes]:
    """All taken, in one piece and byte by byte; errors up to the third; every kind of nonsense."""
    good = _session(*[b"200 OK"] * 5)
    bad = _session(b"200 OK", b"500 no", b"200", b"200 OK", b"500")
    return [
        b"",
        b"\xfe" + good,
        b"\x00" + good,
        b"\x03" + good + b"0 serverclose 0\n",
        b"\x06" + BREAK.join([bad, bad, bad, good]),
        b"\x45" + _session(b"200 OK")[:-3] + BREAK + good,
        b"\x07" + OPENED + b"2 rsp 0\n",
        b"\x07" + OPENED + b"2 rsp 0 \n3 rsp 6 200 OKx",
        b"\x07" + OPENED + b"7 rsp 6 200 OK\n",
        b"\x07" + b"1 rsp 8193 200",
        b"\x07" + b"1 rsp 6 500 no\n",
        b"\x07" + b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ]


WORDS = [
    *[
        OPENED,
        BREAK,
        b" rsp ",
        b"rsp",
        b"serverclose",
        b"200 OK",
        b"500 ",
        b"200",
        b" 6 200 OK\n",
        b"\n",
        b" ",
    ],
    *[b"0 serverclose 0\n", b"2 rsp 6 200 OK\n", b"3 rsp 3 200\n", b"8192", b"999999999", b"commands=syslog"],
]
