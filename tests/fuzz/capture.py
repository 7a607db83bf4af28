# SPDX-License-Identifier: Apache-2.0
"""The reader of captures and all that stands behind it in a replay, fed by whoever made the file.

The first byte says how the rest is meant: a whole file; or bodies of frames, each behind its length in two
bytes, which get their checksums here, since no fuzzer finds one by chance.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import msgpack

from enricher.enrich.native import NativeBuilder
from enricher.errors import DamagedInput, UsageError
from enricher.model import Event
from enricher.route.views import native_json
from enricher.route.views.audit_text import AuditText
from enricher.route.views.table import Table
from enricher.runtime.replay import replay
from enricher.sources.capture import MAGIC, CaptureReader, Frame, Head
from enricher.sources.recorded import RecordedNames
from tests import schema
from tests.unit.sample_capture import ANSWERS, HEAD, MESSAGES, counts_members, frame, head_members
from tests.unit.sample_capture import COUNTS as LAST

WHOLE, BODIES, HEADED = 0, 1, 2
_LENGTH = struct.Struct("<H")


def file_of(data: bytes) -> bytes:
    """The capture that the fuzzer's bytes stand for."""
    if not data or data[0] % 3 == WHOLE:
        return data[1:]
    frames = [MAGIC, frame(*head_members()) if data[0] % 3 == HEADED else b""]
    at = 1
    while at + 2 <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        body = data[at + 2 : at + 2 + size]
        frames.append(struct.pack("<II", len(body), zlib.crc32(body)) + body)
        at += 2 + size
    return b"".join(frames)


def read(data: bytes) -> tuple[list[Frame], str]:
    """The frames and what ended them; nothing but the two errors may."""
    reader = CaptureReader(BytesIO(data), "it")
    frames: list[Frame] = []
    try:
        for each in reader.frames():
            frames.append(each)  # noqa: PERF402 - those before the damage are wanted
    except (DamagedInput, UsageError) as error:
        if isinstance(error, DamagedInput) and not error.message.endswith(f", at byte {reader.offset}"):
            raise AssertionError("damage without its place") from error
        if not error.message.isprintable():
            raise AssertionError("an error that is not fit for a terminal") from error
        return frames, error.message
    return frames, ""


def written(frames: list[Frame]) -> list[bytes]:
    """What a replay writes, in every view."""
    head = frames[0]
    if not isinstance(head, Head):
        raise AssertionError("a capture without its head")  # noqa: TRY004 - a finding
    names = RecordedNames()
    build = NativeBuilder(head.facts, raw=True, names=names).build
    text, table = AuditText(head.facts), Table(None, colour=False)
    lines: list[bytes] = []

    def emit(events: list[Event]) -> None:
        for event in events:
            native = build(event)
            schema.validate(native)
            lines.extend((native_json.render(native), text.render(event), table.render(native)))

    replay(head, iter(frames[1:]), names, emit)
    return lines


def capture(data: bytes) -> None:
    """Frames, then one of two errors; what a replay makes of them keeps to the schema, and is the same twice."""
    found = read(file_of(data))
    if found[0]:
        lines = written(found[0])
        if read(file_of(data)) != found or written(found[0]) != lines:
            raise AssertionError("not the same twice")
        if any(b"\x1b" in line for line in lines):
            raise AssertionError("an escape sequence reaches the output")


def _bodies(kind: int, *bodies: list[object]) -> bytes:
    packed = [bytes(msgpack.packb(members)) for members in bodies]
    return bytes([kind]) + b"".join(_LENGTH.pack(len(each)) + each for each in packed)


def seeds() -> list[bytes]:
    """A whole file; a run of each kind of frame, with and without a head in order."""
    records = [
        [1300, b"audit(1772366400.042:101): pid=1 uid=0", False],
        [1112, b"audit(1.000:7): msg='\x1b'", True],
    ]
    counts = counts_members(LAST)
    bodies: list[list[object]] = [
        ["turn", 50.0, 1772366400.0, False, records, MESSAGES, None, ANSWERS, [[4243, 7]]],
        ["answer", "user", 0, "root"],
        ["turn", 61.0, 1772366411.0, True, [[0, b"", False]], [], counts, [], []],
        ["stop", 102],
        ["end", 62.0, 1772366412.0, counts],
        ["answer", "group", 5, None],
    ]
    whole = MAGIC + frame(*head_members()) + b"".join(frame(*body) for body in bodies)
    return [b"", b"\0", b"\0" + whole, _bodies(BODIES, head_members(), *bodies), _bodies(HEADED, *bodies)]


WORDS = [
    *[
        MAGIC,
        b"\xa4head",
        b"\xa4turn",
        b"\xa6answer",
        b"\xa4stop",
        b"\xa3end",
        b"\xc0",
        b"\xc2",
        b"\xc3",
        b"\x90",
    ],
    *[
        b"\xcb" + bytes(8),
        b"\xcf" + b"\xff" * 8,
        b"\xd3" + b"\xff" * 8,
        b"\xdd\xff\xff\xff\xff",
        b"\xc4\xf8",
        b"\xc4\xa8",
    ],
    *[b"\xa4user", b"\xa5group", b"audit(1772366400.042:101): ", b"\x01\x00\x01\x00", b"\x02\x00\x01\x00"],
    HEAD.run.encode(),
]
