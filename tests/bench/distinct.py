# SPDX-License-Identifier: Apache-2.0
"""Audit logs with as many distinct events as wanted: real records of the corpus with other values, and made ones.

Owns how a recorded event becomes another one. Never measures, and never writes a line that a kernel could not.

A real event (tests/suites/corpus.py) is a template. Its copies differ by serial and time and, where it has them, in:
pids, inode numbers, BPF program ids, addresses among a0..a3 (values of ten million and more; what is smaller is a
descriptor, a flag or a length, and keeps its meaning), the last argument of EXECVE and of a title, the last component
of every PATH's name, ports and addresses of sockets. The same copy of two events of one capture changes their pids
alike, so parents stay parents. What is left as it was: who (uids, sessions), programs, working directories, keys.
A template that has none of these values would repeat itself, and is left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.correlate.join import EOE
from enricher.sources.audit.types import text_name_of
from tests.bench.bench_views import exec_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PER_SECOND: Final = 1_000
"""Events for each second of the log's time."""
SECOND: Final = 1_772_366_400
"""Of the first event."""
_PIDS: Final = 4_194_304
_STEP: Final = 7_919  # how far a copy's pids are from those of the one before
_POINTER: Final = 10_000_000
_WORD: Final = (1 << 64) - 1

_OWN: Final = re.compile(rb"type=UNKNOWN\[139[0-8]\] ")
_LINE: Final = re.compile(rb"type=(\S+) msg=audit\([0-9]+\.[0-9]+:([0-9]+)\):(.*)", re.DOTALL)
_NUMBER: Final = (
    rb"(?P<head>(?<![\w-])(?P<name>pid|ppid|opid|inode|prog-id)=)(?P<value>[1-9][0-9]{0,9})(?![\w.])"
)
_REGISTER: Final = rb"(?P<head>(?<= )(?P<name>a[0-3])=)(?P<value>[0-9a-f]+)(?= )"
_NAME: Final = rb"(?P<head>(?<= )(?P<name>name)=)(?P<value>\"[^\"]+\"|(?:[0-9A-F]{2})+)(?= )"
_TITLE: Final = rb"(?P<head>(?<= )(?P<name>proctitle)=)(?P<value>\"[^\"]+\"|(?:[0-9A-F]{2})+)$"
_LAST: Final = rb"(?P<head>(?<= )(?P<name>a[0-9]+)=)(?P<value>\"[^\"]*\"|(?:[0-9A-F]{2})+)$"
_ADDRESS: Final = rb"(?P<head>(?<= )(?P<name>saddr)=)(?P<value>(?:0200|0A00)[0-9A-F]{12,})$"
_INET6: Final = b"0A00"
_CHANGES: Final[dict[bytes, bytes]] = {
    b"SYSCALL": _NUMBER + b"|" + _REGISTER.replace(b"?P<", b"?P<r"),
    b"PATH": _NUMBER + b"|" + _NAME.replace(b"?P<", b"?P<r"),
    b"PROCTITLE": _TITLE,
    b"EXECVE": _LAST,
    b"SOCKADDR": _ADDRESS,
}

Make = "Callable[[int], bytes]"


def _number(name: bytes, value: bytes) -> Callable[[int], bytes]:
    start = int(value)
    if name in {b"pid", b"ppid", b"opid"}:
        return lambda copy: b"%d" % (1 + (start - 1 + copy * _STEP) % (_PIDS - 1))
    return lambda copy: b"%d" % (start + copy * 13)


def _register(_: bytes, value: bytes) -> Callable[[int], bytes]:
    start = int(value, 16)
    if not _POINTER <= start <= _WORD >> 8:  # a small negative number looks like a large one
        return lambda _copy: value
    return lambda copy: b"%x" % ((start + copy * 0x1010) & _WORD)


def _text(_: bytes, value: bytes) -> Callable[[int], bytes]:
    if value[:1] == b'"':
        return lambda copy: b'%b-%x"' % (value[:-1], copy)
    return lambda copy: value + (b"-%x" % copy).hex().upper().encode()


def _address(_: bytes, value: bytes) -> Callable[[int], bytes]:
    port = int(value[4:8], 16)
    # The address's last byte; behind the port of IPv6 stands the flow label, which stays.
    at = 46 if value[:4] == _INET6 and len(value) >= 48 else 14
    last = int(value[at : at + 2], 16)
    return lambda copy: (
        b"%b%04X%b%02X%b"
        % (
            *(value[:4], (port + copy) & 0xFFFF),
            *(value[8:at], (last + copy // 7) & 0xFF, value[at + 2 :]),
        )
    )


_MAKERS: Final = {
    b"name": _text,
    b"proctitle": _text,
    b"saddr": _address,
    **dict.fromkeys((b"pid", b"ppid", b"opid", b"inode", b"prog-id"), _number),
}


class Template:
    """One event: the text of its lines without their stamps, and the places that a copy changes."""

    def __init__(self, lines: list[tuple[bytes, bytes]]) -> None:
        """Take types and bodies, the body from the space behind the colon to the end of the line."""
        self.types = [kind for kind, _ in lines]
        self._bodies = [list(_pieces(kind, body)) for kind, body in lines]

    def bodies(self, copy: int) -> list[bytes]:
        """Return the bodies of one copy."""
        return [
            b"".join([piece if isinstance(piece, bytes) else piece(copy) for piece in pieces])
            for pieces in self._bodies
        ]


def _pieces(kind: bytes, body: bytes) -> Iterator[bytes | Callable[[int], bytes]]:
    at = 0
    for found in re.finditer(_CHANGES.get(kind, _NUMBER), body):
        groups = found.groupdict()
        other = groups["head"] is None
        head, name, value = (groups[("r" if other else "") + part] for part in ("head", "name", "value"))
        maker = _MAKERS.get(name, _register if kind == b"SYSCALL" else _text)
        yield body[at : found.start()] + head
        yield maker(name, value)
        at = found.end()
    yield body[at:]


class Templates(NamedTuple):
    """Events to copy. ``left_out`` counts those that would repeat themselves or another."""

    events: list[Template]
    left_out: int


def templates(texts: list[bytes]) -> Templates:
    """Read audit texts, each one run's, without the lines of our own and without EOE."""
    events: list[Template] = []
    seen: set[bytes] = set()
    left_out = 0
    for text in texts:
        gathered: dict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)
        for line in text.split(b"\n"):
            found = None if _OWN.match(line) else _LINE.fullmatch(line)
            if found and found[1] != b"EOE":
                gathered[found[2]].append((found[1], found[3]))
        for lines in gathered.values():
            made = Template(lines)
            whole = b"\n".join(made.bodies(0))
            if whole in seen or made.bodies(1) == made.bodies(2):
                left_out += 1
                continue
            seen.add(whole)
            events.append(made)
    return Templates(events, left_out)


class Log(NamedTuple):
    """A log that was written: how much is in it, EOE not counted as a record."""

    path: Path
    events: int
    records: int
    size: int
    templates: int = 0
    left_out: int = 0
    repeated: int = 0
    """Events that would have been the same as an earlier one but for their stamps, and were not written."""
    real: int = 0
    """Events that stand there as a kernel wrote them."""

    @property
    def words(self) -> str:
        """What it is, for a table."""
        return f"{self.events:,} events, {self.records:,} records, {self.size >> 20} MiB"


class Copy(NamedTuple):
    """One copy of an event, and how many were left out before it since they would have repeated another."""

    kinds: list[bytes]
    bodies: list[bytes]
    repeated: int


def copies(known: list[Template], events: int, *, seen: set[int], first: int = 0) -> Iterator[Copy]:
    """Yield so many copies, the templates in turn, none whose mark was seen; `first` is that of the first copies.

    Raises ValueError where too little can be changed.
    """
    if not known:
        raise ValueError("no event of the corpus can be changed")
    written = repeated = 0
    at = first * len(known)
    while written < events:
        number, index = divmod(at, len(known))
        at += 1
        template = known[index]
        bodies = template.bodies(number)
        mark = mark_of(template.types, bodies)
        if mark in seen:
            repeated += 1
            if repeated > max(events, len(known)):
                raise ValueError("the corpus has too little that can be changed")
            continue
        seen.add(mark)
        written += 1
        yield Copy(template.types, bodies, repeated)


def mark_of(kinds: list[bytes], bodies: list[bytes]) -> int:
    """What an event is without its stamp, as a number."""
    mark = 0
    for kind, body in zip(kinds, bodies, strict=True):
        mark = hash((mark, kind, body))
    return mark


def real_log(path: Path, texts: list[bytes], events: int) -> Log:
    """Write so many events from these texts, the templates in turn; every one is distinct. Raises ValueError."""
    known, left_out = templates(texts)
    records = repeated = 0
    with path.open("wb") as file:
        for number, copy in enumerate(copies(known, events, seen=set()), start=1):
            file.write(stamped(_stamp(number), copy.kinds, copy.bodies))
            records += len(copy.bodies)
            repeated = copy.repeated
    return Log(path, events, records, path.stat().st_size, len(known), left_out, repeated)


def made_log(path: Path, events: int) -> Log:
    """Write so many execs as tests/bench/bench_views.py makes them."""
    records = 0
    with path.open("wb") as file:
        for number in range(1, events + 1):
            found = [record for record in exec_event(number).records if record.type != EOE]
            kinds = [text_name_of(record.type).encode() for record in found]
            bodies = [record.text[record.text.index(b"):") + 2 :] for record in found]
            file.write(stamped(_stamp(number), kinds, bodies))
            records += len(found)
    return Log(path, events, records, path.stat().st_size)


def _stamp(number: int) -> bytes:
    return b"%d.%03d:%d" % (SECOND + number // PER_SECOND, number % PER_SECOND, number)


def stamped(stamp: bytes, kinds: list[bytes], bodies: list[bytes]) -> bytes:
    """Return the lines of an event; one of several records ends as auditd's plug-ins see it."""
    text = [
        b"type=%b msg=audit(%b):%b\n" % (kind, stamp, body) for kind, body in zip(kinds, bodies, strict=True)
    ]
    if len(text) > 1:
        text.append(b"type=EOE msg=audit(%b): \n" % stamp)
    return b"".join(text)
