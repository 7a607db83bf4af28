# SPDX-License-Identifier: Apache-2.0
"""Captures made by hand: as the writer makes them, and byte by byte from a second reading of docs/capture.md."""

from __future__ import annotations

import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path

import msgpack

from enricher.model import Answer as ContainerAnswer
from enricher.model import Batch, KernelCounts, Known, Metadata, Record
from enricher.sources.bpf import wire
from enricher.sources.capture import Answer, CaptureReader, CaptureWriter, End, Frame, Head, Stop
from tests.unit.fake_host import image
from tests.unit.sample_events import HOST
from tests.unit.sample_stream import alone, context, record, tally

MAGIC = b"AUDENRC\x01"
HEAD = Head(HOST, 4242, "0badcafe", "1.2.3", "6.12.0", "audit_log_end", "libbpf", 100)
DEEP = context(102)._replace(levels=wire.decode_context(image(context(102)), 0).levels * 7)
MESSAGES = [image(each) for each in (context(101), tally(101, 2), alone(102), DEEP)]
COUNTS = KernelCounts(3, 1, 2, 99, 90, 9, rate_limit=7, hook_misses=None, status_lost=0)
RECORDS = [
    Record(1300, b"audit(1772366400.042:101): pid=1 \x00\xff\n\x1b[31m"),
    Record(0, b""),
    Record(0xFFFF, b"nonsense", truncated=True),
    record(101, 1320),
]
SHOP = Metadata("docker", "shop", "a/b:1", (("k", "v\n"),), "u", "web-0", "prod")
ANSWERS = (
    ContainerAnswer(2**64 - 1, SHOP),
    ContainerAnswer(7, Known("runc", "batch", "/jobs/b", Metadata("runc"))),
)
HELPERS = ((4243, 2**63), (4244, 0))
# Each is a method of the writer and its arguments.
PARTS: list[tuple[str, tuple[object, ...]]] = [
    ("head", (HEAD,)),
    (
        "turn",
        (
            Batch(
                RECORDS, [], [], parked=True, now=50.5, wall=1772366400.25, answers=ANSWERS, helpers=HELPERS
            ),
            MESSAGES,
        ),
    ),
    ("answer", ("user", 1000, "alice")),
    ("answer", ("group", 0xFFFFFFFF, None)),
    ("turn", (Batch([], [], [], parked=False, now=51.5, wall=1772366401.25, counts=COUNTS), [])),
    ("stop", (0xFFFFFFFF,)),
    ("end", (52.5, 1772366402.25, COUNTS)),
    ("answer", ("user", 0, "r\u00f6ot \u2028")),
]


def write(path: Path, parts: list[tuple[str, tuple[object, ...]]] | None = None) -> bytes:
    """Write a capture; returns its bytes."""
    with CaptureWriter(str(path)) as writer:
        for name, arguments in PARTS if parts is None else parts:
            getattr(writer, name)(*arguments)
    return path.read_bytes()


def frame(*members: object) -> bytes:
    """A frame in order, of whatever members."""
    return framed(bytes(msgpack.packb(list(members))))


def framed(body: bytes) -> bytes:
    return struct.pack("<II", len(body), zlib.crc32(body)) + body


def head_members(**changed: object) -> list[object]:
    """The members of a head; what is named is put into either of its maps, or left out where it is Ellipsis."""
    facts: dict[str, object] = {**HOST._asdict(), "initial": list(HOST.initial)}
    rest: dict[str, object] = {name: value for name, value in HEAD._asdict().items() if name != "facts"}
    for name, value in changed.items():
        members = facts if name in facts else rest
        members[name] = value
        if value is ...:
            del members[name]
    return ["head", 2, sys.byteorder, 1, facts, rest]


def counts_members(counts: KernelCounts) -> dict[str, int | None]:
    return counts._asdict()


def read(data: bytes) -> list[Frame]:
    """All frames. Raises what the reader raises."""
    return list(CaptureReader(BytesIO(data), "it").frames())


def kinds(frames: list[Frame]) -> list[str]:
    names = {Head: "head", Batch: "turn", Answer: "answer", Stop: "stop", End: "end"}
    return [names[type(each)] for each in frames]
