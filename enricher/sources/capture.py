# SPDX-License-Identifier: Apache-2.0
"""A capture: both raw streams of a run and every outside answer it used, in one file.

Owns the format: writing it, and reading it back as frames. Never interprets a record and never decides
what a frame means to the pipeline; `runtime.replay` does.

The file is an eight-byte magic, then frames. A frame is its length and the CRC-32 of its body, each a
little-endian 32-bit word, then the body, a msgpack array whose first member is its kind (docs/capture.md).
A frame is written at once, in the order of the run, so the capture of a run that was killed is good up to
its last frame. A reader that meets damage has used everything before it and says where it is.

A capture comes from somebody else's machine: lengths are bounded before memory is given, and every
frame's shape is checked before it is handed on.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, TypeVar

import msgpack

from enricher.errors import DamagedInput, OutputFailed, UsageError
from enricher.model import KINDS, Batch, HostFacts, KernelCounts, Known, Metadata, Record
from enricher.model import Answer as ContainerAnswer
from enricher.sources.bpf import wire, wirefacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from enricher.facts import Fact
    from enricher.model import CgroupChange, Context, Tally

_T = TypeVar("_T")

MAGIC: Final = b"AUDENRC\x01"
"""The last byte is the version of the framing."""
FORMAT: Final = 2
"""The version of the frames' contents."""
_READ: Final = (1, FORMAT)
"""What can be read: in 1 a turn has neither answers of runtimes nor helpers."""
FRAME_MAX: Final = 64 << 20
"""Bytes of a body. A batch has at most 512 records of 16 KiB, and what the rings hold: 32 MiB by default."""

_MEMBERS_MAX: Final = FRAME_MAX // 32  # of one array or map; a record or a message has more bytes than that
_PREFIX: Final = struct.Struct("<II")
_LAST_TIME: Final = 253_402_300_800.0  # the year 10 000
_MESSAGE_SIZES: Final[dict[int, Sequence[int]]] = {
    wire.EVENT_CONTEXT: wire.CONTEXT_SIZES,
    wire.EVENT_TALLY: (wire.SIZES["tally_event"],),
    # What user space found itself is as long as its path.
    wire.EVENT_CGROUP: range(wire.SIZES["cgroup_event"] - wire.CGROUP_PATH, wire.SIZES["cgroup_event"] + 1),
    wire.EVENT_WALK: (wire.SIZES["walk_event"],),
    **wirefacts.SIZES,
}
_TYPE_AND_VERSION: Final = struct.Struct("=HH")
# What of a head ends up in events is as events have it (see the schema); "" is not known.
_machine_id = re.compile(r"[!-~]*").fullmatch
_boot_id = re.compile(r"([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?").fullmatch
_ns_dev = re.compile(r"([0-9a-f]{2,5}:[0-9a-f]{2,5})?").fullmatch
_run = re.compile(r"[0-9a-f]{8}").fullmatch


class Head(NamedTuple):
    """What a run knew when it began. ``pid`` is its own; ``run`` tells its own events from another run's."""

    facts: HostFacts
    pid: int
    run: str
    program: str  # the version of this program
    kernel: str
    hook: str
    loader: str
    start: int | None  # serial of the start nonce


class Answer(NamedTuple):
    """What the host said when it was asked for a name: ``kind`` is "user" or "group"."""

    kind: str
    number: int
    name: str | None


class Stop(NamedTuple):
    """The stop nonce's serial."""

    serial: int


class End(NamedTuple):
    """The run ended in order: its clock, and the final counts."""

    now: float
    wall: float
    counts: KernelCounts


Frame = Head | Batch | Answer | Stop | End


class CaptureWriter:
    """Writes a capture. Raises OutputFailed. ``size`` is the bytes written so far, ``turns`` the batches.

    A file that has got no head when it is closed is removed: nothing was captured, and a second try can have its name.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._made: os.stat_result | None = None
        try:
            if path == "-":
                fd = os.dup(1)
            else:
                # Evidence is never written over, and never through somebody else's link.
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                fd = os.open(path, flags, 0o600)
                self._made = os.fstat(fd)
        except FileExistsError as error:
            raise OutputFailed(
                f"{path}: exists", "a capture is never written over: name another file"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise OutputFailed(f"{path!r}: cannot be made: {getattr(error, 'strerror', error)}") from error
        self._file: BinaryIO = os.fdopen(fd, "wb")
        self._pack = msgpack.Packer(use_bin_type=True).pack
        self._file.write(MAGIC)
        self.size = len(MAGIC)
        self.turns = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputFailed:
            if error is None:
                raise  # else what stopped the run is what has to be told

    def head(self, head: Head) -> None:
        """Write what comes first."""
        facts = head.facts._asdict() | {"initial": list(head.facts.initial)}
        rest = {name: value for name, value in head._asdict().items() if name != "facts"}
        self._frame("head", FORMAT, sys.byteorder, wire.EVENT_VERSION, facts, rest)

    def turn(self, batch: Batch, messages: list[bytes]) -> None:
        """Write a batch, before anything is made of it: what brings the program down is in the file."""
        self.turns += 1
        counts = None if batch.counts is None else batch.counts._asdict()
        answers, helpers = list(batch.answers), list(batch.helpers)
        records = [(each.type, each.text, each.truncated) for each in batch.records]
        self._frame("turn", batch.now, batch.wall, batch.parked, records, messages, counts, answers, helpers)

    def answer(self, kind: str, number: int, name: str | None) -> None:
        """Write an answer of the host."""
        self._frame("answer", kind, number, name)

    def stop(self, serial: int) -> None:
        """Write that the window was closed."""
        self._frame("stop", serial)

    def end(self, now: float, wall: float, counts: KernelCounts) -> None:
        """Write that the run ended in order."""
        self.turns += 1
        self._frame("end", now, wall, counts._asdict())

    def _frame(self, *members: object) -> None:
        body = self._pack(members)
        if len(body) > FRAME_MAX:
            raise OutputFailed(
                f"{self._path}: one batch of {len(body)} bytes is more than a capture takes",
                "the capture is good up to here; with less --ring-memory batches are smaller",
            )
        try:
            self._file.write(_PREFIX.pack(len(body), zlib.crc32(body)))
            self._file.write(body)
            if members[0] != "answer":
                self._file.flush()
        except OSError as error:
            raise OutputFailed(f"{self._path}: {error.strerror}", "the capture is good up to here") from error
        self.size += _PREFIX.size + len(body)

    def close(self) -> None:
        """Close the file; a second call does nothing. Raises OutputFailed where what is left cannot be written."""
        if self._made is not None and self.size == len(MAGIC):
            with suppress(OSError):
                if os.path.samestat(self._made, os.lstat(self._path)):
                    Path(self._path).unlink()
        self._made = None
        try:
            self._file.close()
        except OSError as error:
            raise OutputFailed(
                f"{self._path}: {error.strerror}", "the end of the capture is missing"
            ) from error


def is_capture(beginning: bytes) -> bool:
    """Whether a file that begins with these bytes (eight are enough) is a capture of any version."""
    return beginning[:7] == MAGIC[:7]


class CaptureReader:
    """Reads a capture front to back; works on pipes. ``offset`` is where the next frame begins."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.offset = 0

    def frames(self) -> Iterator[Frame]:
        """Give the frames in order, the head first and, if the run ended in order, `End` or an answer last.

        Raises DamagedInput, with the offset, at the first frame that is damaged or cut off, and where
        the end is missing; UsageError for a capture of another version or byte order.
        """
        magic = self._read(len(MAGIC))
        if not is_capture(magic):
            raise UsageError(f"{self._name}: not a capture")
        if len(magic) < len(MAGIC):
            raise self._damaged("the file ends within its first bytes")
        if magic != MAGIC:
            raise _other_version(self._name, f"framing {magic[-1]}")
        self.offset = len(MAGIC)
        headed = ended = False
        while (body := self._body()) is not None:
            try:
                frame = _frame(body)
            except _OtherVersionError as error:
                raise _other_version(self._name, str(error)) from error
            except (KeyError, MemoryError, RecursionError, TypeError, ValueError, struct.error) as error:
                raise self._damaged(f"a frame that cannot be: {error}") from error
            if isinstance(frame, Head) == headed or (ended and not isinstance(frame, Answer)):
                raise self._damaged("a frame out of place")
            headed = True
            ended = ended or isinstance(frame, End)
            self.offset += _PREFIX.size + len(body)
            yield frame
        if not ended:
            raise self._damaged("the end is missing: the run was killed, or the file was cut")

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise self._damaged(error.strerror or str(error)) from error

    def _body(self) -> bytes | None:
        """Return the next frame's body, None at the end of the file."""
        prefix = self._read(_PREFIX.size)
        if not prefix:
            return None
        if len(prefix) < _PREFIX.size:
            raise self._damaged("the file ends within a frame")
        size, checksum = _PREFIX.unpack(prefix)
        if size > FRAME_MAX:
            raise self._damaged(f"a frame of {size} bytes")
        body = self._read(size)
        if len(body) < size:
            raise self._damaged("the file ends within a frame")
        if zlib.crc32(body) != checksum:
            raise self._damaged("the checksum of a frame does not fit")
        return body

    def _damaged(self, what: str) -> DamagedInput:
        return DamagedInput(f"{self._name}: {what}, at byte {self.offset}", "everything before that was used")


class _OtherVersionError(Exception):
    """The head is of another format, byte order or version of the messages: nothing is damaged."""


def _other_version(name: str, what: str) -> UsageError:
    return UsageError(
        f"{name}: a capture of another version ({what})", "replay it with the version that made it"
    )


def _frame(body: bytes) -> Frame:
    """Make a frame of a body. Raises TypeError, ValueError or struct.error where it is none."""
    members = msgpack.unpackb(
        body,
        use_list=True,
        raw=False,
        strict_map_key=True,
        # An array is given its memory by what it says of itself, and a thousand may be nested.
        max_array_len=_MEMBERS_MAX,
        max_map_len=_MEMBERS_MAX,
    )
    if not isinstance(members, list) or not members:
        msg = "no array"
        raise ValueError(msg)
    kind, *rest = members
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    if make is None:
        msg = f"of kind {kind!r:.40}"
        raise ValueError(msg)
    return make(*rest)


def _is(value: object, kind: type[_T]) -> _T:
    """Return the value if it is of that very type: True is no integer."""
    if type(value) is not kind:
        msg = f"{type(value).__name__} instead of {kind.__name__}"
        raise TypeError(msg)
    return value


def _unsigned(value: object, bits: int = 32) -> int:
    number = _is(value, int)
    if not 0 <= number < 1 << bits:
        msg = f"{number} is out of range"
        raise ValueError(msg)
    return number


def _time(value: object) -> float:
    """Return a time; one that no clock tells would break the arithmetic of those who take it for one."""
    seconds = _is(value, float)
    if not 0 <= seconds < _LAST_TIME:
        msg = f"{seconds} is no time"
        raise ValueError(msg)
    return seconds


def _text(value: object, fits: Callable[[str], object]) -> str:
    text = _is(value, str)
    if not fits(text):
        msg = f"{text!r:.60} is out of its form"
        raise ValueError(msg)
    return text


def _head(format_: object, byteorder: object, events: object, *members: object) -> Head:
    # First of all: of a later version not even the number of members is known.
    _is(format_, int), _is(byteorder, str), _is(events, int)
    if format_ not in _READ or (byteorder, events) != (sys.byteorder, wire.EVENT_VERSION):
        msg = f"format {format_}, {byteorder!r:.20} endian, messages {events}"
        raise _OtherVersionError(msg)
    facts, rest = members
    said, known = _is(rest, dict), _is(facts, dict)
    initial = tuple(_unsigned(inum) for inum in _is(known["initial"], list))
    if len(initial) != len(KINDS):
        msg = f"{len(initial)} initial namespaces"
        raise ValueError(msg)
    return Head(
        facts=HostFacts(
            name=_is(known["name"], str),
            machine_id=_text(known["machine_id"], _machine_id),
            boot_id=_text(known["boot_id"], _boot_id),
            ns_dev=_text(known["ns_dev"], _ns_dev),
            initial=initial,
        ),
        pid=_unsigned(said["pid"]),
        run=_text(said["run"], _run),
        program=_is(said["program"], str),
        kernel=_is(said["kernel"], str),
        hook=_is(said["hook"], str),
        loader=_is(said["loader"], str),
        start=None if said["start"] is None else _unsigned(said["start"]),
    )


def _record(members: object) -> Record:
    number, text, truncated = _is(members, list)
    return Record(_unsigned(number, 16), _is(text, bytes), _is(truncated, bool))


def _decode(
    messages: list[object],
) -> tuple[list[Context], list[Tally], tuple[CgroupChange, ...], tuple[Fact, ...]]:
    """Decode messages as the ring's reader does; those of another version are left out, as there."""
    contexts: list[Context] = []
    tallies: list[Tally] = []
    cgroups: list[CgroupChange] = []
    facts: list[Fact] = []
    for value in messages:
        message = _is(value, bytes)
        kind, version = _TYPE_AND_VERSION.unpack_from(message)
        if version != wire.EVENT_VERSION or kind not in _MESSAGE_SIZES:
            continue
        if len(message) not in _MESSAGE_SIZES[kind] or len(message) != wire.size_of(message, 0):
            msg = f"a message of kind {kind} with {len(message)} bytes"
            raise ValueError(msg)
        if kind == wire.EVENT_CONTEXT:
            contexts.append(wire.decode_context(message, 0))
        elif kind == wire.EVENT_CGROUP:
            cgroups.append(wire.decode_cgroup(message, 0))
        elif kind == wire.EVENT_WALK:
            cgroups.append(wire.decode_walk(message, 0))
        elif kind == wire.EVENT_TALLY:
            tallies.append(wire.decode_tally(message, 0))
        else:
            facts.append(wirefacts.DECODERS[kind](message, 0))
    return contexts, tallies, tuple(cgroups), tuple(facts)


def _counts(value: object) -> KernelCounts:
    """Return the counts; a name that another version has added is left out."""
    counts = KernelCounts()._asdict()
    for name, count in _is(value, dict).items():
        if name in KernelCounts._fields:
            optional = KernelCounts._field_defaults[name] is None
            # 63 bits: sums of them are written as 64, and no kernel counts as far.
            counts[name] = None if count is None and optional else _unsigned(count, 63)
    return KernelCounts(**counts)


def _turn(*members: object) -> Batch:
    now, wall, parked, records, messages, counts, *more = members
    # Since format 2; the number of members says which it is as well as the head does.
    answers, helpers = more or ([], [])
    contexts, tallies, cgroups, facts = _decode(_is(messages, list))
    return Batch(
        [_record(each) for each in _is(records, list)],
        contexts,
        tallies,
        _is(parked, bool),
        _time(now),
        _time(wall),
        None if counts is None else _counts(counts),
        cgroups,
        tuple(_container(each) for each in _is(answers, list)),
        tuple(_helper(each) for each in _is(helpers, list)),
        facts,
    )


def _helper(members: object) -> tuple[int, int]:
    pid, start = _is(members, list)
    return _unsigned(pid), _unsigned(start, 64)


def _container(members: object) -> ContainerAnswer:
    """Return what a runtime said of a container. Its texts are somebody's words, as they are in a state file."""
    cgroup, said = _is(members, list)
    first, *rest = _is(said, list)
    if len(rest) == len(Metadata._fields) - 1:
        return ContainerAnswer(_unsigned(cgroup, 64), _metadata(said))
    ident, path, metadata = rest
    return ContainerAnswer(
        _unsigned(cgroup, 64),
        Known(_word(first), _word(ident), _word(path), _metadata(metadata)),
    )


def _metadata(members: object) -> Metadata:
    runtime, name, image, labels, *pod = _is(members, list)
    uid, pod_name, namespace = (_is(text, str) for text in pod)
    pairs = [_is(pair, list) for pair in _is(labels, list)]
    return Metadata(
        _word(runtime),
        _is(name, str),
        _is(image, str),
        tuple((_is(key, str), _is(value, str)) for key, value in pairs),
        uid,
        pod_name,
        namespace,
    )


def _word(value: object) -> str:
    return _text(value, len)


def _answer(kind: object, number: object, name: object) -> Answer:
    if kind not in ("user", "group"):
        msg = f"an answer of kind {kind!r:.20}"
        raise ValueError(msg)
    return Answer(kind, _unsigned(number), None if name is None else _is(name, str))


def _stop(serial: object) -> Stop:
    return Stop(_unsigned(serial))


def _end(now: object, wall: object, counts: object) -> End:
    return End(_time(now), _time(wall), _counts(counts))


_MAKERS: Final[dict[str, Callable[..., Frame]]] = {
    "head": _head,
    "turn": _turn,
    "answer": _answer,
    "stop": _stop,
    "end": _end,
}
