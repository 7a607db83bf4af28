# SPDX-License-Identifier: Apache-2.0
"""Captures that are damaged or were made to do harm: what is before is given, then it is said where."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from io import BytesIO

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.errors import DamagedInput, EnricherError, UsageError
from enricher.model import KernelCounts
from enricher.sources.capture import FRAME_MAX, Answer, CaptureReader, End, Frame
from tests.unit.sample_capture import MAGIC, MESSAGES, PARTS, frame, framed, head_members, kinds, write
from tests.unit.sample_events import HOST_INUMS

HEAD = frame(*head_members())
TURN = frame("turn", 1.0, 2.0, False, [[1300, b"x", False]], [MESSAGES[0]], None)  # noqa: FBT003 - a member
END = frame("end", 1.0, 2.0, {})


def read_until(data: bytes) -> tuple[list[Frame], EnricherError | None, int]:
    """The frames, what ended them, and the offset the reader stands at; any other exception is the test's."""
    frames: list[Frame] = []
    reader = CaptureReader(BytesIO(data), "it")
    try:
        for each in reader.frames():
            frames.append(each)  # noqa: PERF402 - those before the damage are wanted
    except (DamagedInput, UsageError) as error:
        return frames, error, reader.offset
    return frames, None, reader.offset


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "c")


def ends(data: bytes) -> list[int]:
    """Where the magic and each frame end."""
    found = [len(MAGIC)]
    while found[-1] < len(data):
        found.append(found[-1] + 8 + struct.unpack_from("<I", data, found[-1])[0])
    return found


def expect(found: tuple[list[Frame], EnricherError | None, int], frames: list[Frame], where: int) -> None:
    """These frames and then damage, said to be at or before `where`."""
    given, error, offset = found
    assert given == frames
    assert isinstance(error, DamagedInput)
    said = re.search(r", at byte (\d+)$", error.message)
    assert said
    assert offset == int(said[1]) <= where
    assert error.hint == "everything before that was used"


def test_cut_off_anywhere(whole: bytes) -> None:
    frames, error, _ = read_until(whole)
    assert (len(frames), error) == (len(PARTS), None)
    boundaries = ends(whole)
    ended = next(i for i, each in enumerate(frames) if isinstance(each, End)) + 1
    for size in range(len(whole)):
        found = read_until(whole[:size])
        if size < 7:
            assert found[0] == []
            assert isinstance(found[1], UsageError)
            continue
        before = sum(end <= size for end in boundaries[1:])
        if size in boundaries[ended:]:  # in order: its end is there, only names of it may be missing
            assert found == (frames[:before], None, size)
        else:
            expect(found, frames[:before], size)


def test_a_flipped_bit_anywhere(whole: bytes) -> None:
    frames, _, _ = read_until(whole)
    boundaries = ends(whole)
    for at in range(len(whole)):
        before = sum(end <= at for end in boundaries[1:])
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        found = read_until(bytes(flipped))
        if at < len(MAGIC):
            assert (found[0], type(found[1])) == ([], UsageError)
        else:
            expect(found, frames[:before], at)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_put_in_taken_out_and_changed(whole: bytes, data: st.DataObject) -> None:
    frames, _, _ = read_until(whole)
    at = data.draw(st.integers(len(MAGIC), len(whole) - 1))
    gone = data.draw(st.integers(0, 40))
    ruined = whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + gone :]
    found, error, offset = read_until(ruined)
    before = sum(end <= at for end in ends(whole)[1:])
    assert found[:before] == frames[:before]
    if error is None or len(found) > before:  # what was put in happens to be what was taken out
        assert found == frames[: len(found)]
    else:
        assert isinstance(error, DamagedInput)
        assert offset <= at


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=3), st.booleans())
def test_any_bytes_as_bodies(bodies: list[bytes], headed: bool) -> None:  # noqa: FBT001
    data = MAGIC + HEAD * headed + b"".join(map(framed, bodies))
    _, error, _ = read_until(data)
    assert error is not None


MEMBER = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=5)
    | st.sampled_from(["user", "little", b"\1\0\1\0", b"\2\0\1\0", MESSAGES[0], MESSAGES[1]]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["head", "turn", "answer", "stop", "end", "more"]), st.lists(MEMBER, max_size=7))
def test_any_members_of_a_frame(kind: str, members: list[object]) -> None:
    found, error, _ = read_until(MAGIC + HEAD + frame(kind, *members))
    assert isinstance(error, DamagedInput) or isinstance(found[-1], End)


# -- lengths -----------------------------------------------------------------------------------------


class Source(BytesIO):
    """Remembers how much it was asked for."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        self.most = max(self.most, size)
        return super().read(size)


@pytest.mark.parametrize("size", [FRAME_MAX + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_is_not_believed(size: int) -> None:
    source = Source(MAGIC + HEAD + struct.pack("<II", size, 0) + b"x" * 100)
    frames = CaptureReader(source, "it").frames()
    next(frames)
    with pytest.raises(DamagedInput, match=f"a frame of {size} bytes, at byte {len(MAGIC + HEAD)}"):
        next(frames)
    assert source.most < 1000


def test_the_largest_length_is_read() -> None:
    found = read_until(MAGIC + HEAD + struct.pack("<II", FRAME_MAX, 0) + b"x")
    assert "the file ends within a frame" in str(found[1])


def test_lengths_within_a_body_are_not_believed() -> None:
    for body in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
    ):
        expect(read_until(MAGIC + HEAD + framed(body)), read_until(MAGIC + HEAD)[0], len(MAGIC + HEAD))
        nested = b"\x97\xa4turn" + body
        assert isinstance(read_until(MAGIC + HEAD + framed(nested))[1], DamagedInput)


def test_more_members_than_there_can_be() -> None:
    many = FRAME_MAX // 32 + 1
    body = b"\x92\xa4turn\xdd" + struct.pack(">I", many) + b"\xc0" * many
    assert "max_array_len" in str(read_until(MAGIC + HEAD + framed(body))[1])


@pytest.mark.parametrize("depth", [20, 500, 1023, 1024, 5000, 200_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x10"])
def test_deep_nesting(depth: int, opening: bytes) -> None:
    for body in (opening * depth + b"\xc0", opening * depth, b"\x97\xa4turn" + opening * depth + b"\xc0"):
        assert isinstance(read_until(MAGIC + HEAD + framed(body))[1], DamagedInput)


# -- frames that cannot be ---------------------------------------------------------------------------


def turn(**changed: object) -> bytes:
    members: dict[str, object] = {
        "now": 1.0,
        "wall": 2.0,
        "parked": False,
        "records": [[1300, b"x", False]],
        "messages": [],
        "counts": None,
        "answers": [],
        "helpers": [],
    }
    return frame("turn", *(members | changed).values())


SAID = ["docker", "", "", [], "", "", ""]
SHORT = MESSAGES[0][:-1]
# More levels than the message has room for.
DEEPER = MESSAGES[0][:60] + struct.pack("=I", 33) + MESSAGES[0][64:]

BAD = {
    "nothing": framed(b""),
    "no array": framed(b"\xc0"),
    "an empty array": frame(),
    "a map": framed(bytes(msgpack.packb({"turn": 1}))),
    "no kind": frame(None),
    "a kind of another type": frame(["turn"]),
    "a kind in bytes": frame(b"stop", 1),
    "an unknown kind": frame("\x1b[31mstop", 1),
    "bytes left over": framed(msgpack.packb(["stop", 1]) + b"\xc0"),
    "a text that is none": framed(b"\x92\xa4stop\xa1\xff"),
    "an integer as a key": framed(b"\x94\xa3end\xcb" + bytes(8) + b"\xcb" + bytes(8) + b"\x81\x01\x02"),
    "an array as a key": framed(b"\x81\x91\x01\x02"),
    "an extension": framed(b"\x92\xa4stop\xd4\x01\x02"),
    "a bad timestamp": framed(b"\x92\xa4stop\xd7\xff" + b"\xff" * 8),
    "a reserved byte": framed(b"\x92\xa4stop\xc1"),
    "stop without its serial": frame("stop"),
    "stop with two": frame("stop", 1, 2),
    "stop: a bool": frame("stop", True),  # noqa: FBT003 - a member
    "stop: a float": frame("stop", 1.0),
    "stop: negative": frame("stop", -1),
    "stop: 33 bits": frame("stop", 1 << 32),
    "stop: 64 bits": frame("stop", (1 << 64) - 1),
    "answer: of another kind": frame("answer", "users", 1, "x"),
    "answer: of an array": frame("answer", ["user"], 1, "x"),
    "answer: a bool": frame("answer", "user", False, "x"),  # noqa: FBT003 - a member
    "answer: bytes": frame("answer", "user", 1, b"x"),
    "answer: too large": frame("answer", "user", 1 << 32, "x"),
    "turn: too few": frame("turn", 1.0, 2.0, False, [], []),  # noqa: FBT003 - a member
    "turn: too many": frame("turn", 1.0, 2.0, False, [], [], None, [], [], []),  # noqa: FBT003 - a member
    "turn: answers without helpers": frame("turn", 1.0, 2.0, False, [], [], None, []),  # noqa: FBT003 - a member
    "turn: no answers": turn(answers=None),
    "turn: no helpers": turn(helpers=None),
    "helper: too short": turn(helpers=[[1]]),
    "helper: 65 bits": turn(helpers=[[1, -1]]),
    "answer of a runtime: too short": turn(answers=[[1]]),
    "answer of a runtime: to no cgroup": turn(answers=[[-1, SAID]]),
    "answer of a runtime: nothing": turn(answers=[[1, None]]),
    "answer of a runtime: empty": turn(answers=[[1, []]]),
    "answer of a runtime: by nobody": turn(answers=[[1, ["", *SAID[1:]]]]),
    "answer of a runtime: bytes": turn(answers=[[1, ["x", b"x", *SAID[2:]]]]),
    "answer of a runtime: a label without a value": turn(answers=[[1, [*SAID[:3], [["k"]], *SAID[4:]]]]),
    "answer of a runtime: a label of a number": turn(answers=[[1, [*SAID[:3], [["k", 1]], *SAID[4:]]]]),
    "answer of a runtime: two of a pod": turn(answers=[[1, SAID[:-1]]]),
    "known: without an id": turn(answers=[[1, ["runc", "", "/x", SAID]]]),
    "known: without a place": turn(answers=[[1, ["runc", "x", "", SAID]]]),
    "known: without metadata": turn(answers=[[1, ["runc", "x", "/x", None]]]),
    "turn: not a time": turn(now=float("nan")),
    "turn: not a wall time": turn(wall=float("nan")),
    "turn: infinite": turn(now=float("inf")),
    "turn: before the epoch": turn(wall=-1.0),
    "turn: the year 10 000": turn(wall=253_402_300_800.0),
    "turn: a time in integers": turn(now=1),
    "turn: parked in integers": turn(parked=1),
    "turn: no records": turn(records=None),
    "turn: a map of records": turn(records={"a": 1}),
    "record: no array": turn(records=[1]),
    "record: too short": turn(records=[[1300, b"x"]]),
    "record: too long": turn(records=[[1300, b"x", False, 1]]),
    "record: a type of 17 bits": turn(records=[[65536, b"x", False]]),
    "record: a type of -1": turn(records=[[-1, b"x", False]]),
    "record: a bool for a type": turn(records=[[True, b"x", False]]),
    "record: a text for bytes": turn(records=[[1300, "x", False]]),
    "record: an integer for truncated": turn(records=[[1300, b"x", 0]]),
    "messages: none": turn(messages=None),
    "message: a text": turn(messages=["x" * 248]),
    "message: empty": turn(messages=[b""]),
    "message: three bytes": turn(messages=[b"\1\0\1"]),
    "message: cut": turn(messages=[SHORT]),
    "message: too long": turn(messages=[MESSAGES[0] + b"\0"]),
    "message: a count with the length of a context": turn(messages=[b"\2" + MESSAGES[0][1:]]),
    "message: a context with the length of a count": turn(messages=[b"\1" + MESSAGES[1][1:]]),
    "message: more levels than it holds": turn(messages=[DEEPER]),
    "counts: an array": turn(counts=[]),
    "counts: negative": turn(counts={"netlink_drops": -1}),
    "counts: 64 bits": turn(counts={"netlink_drops": 1 << 63}),
    "counts: a bool": turn(counts={"netlink_drops": True}),
    "counts: none that has to be": turn(counts={"netlink_drops": None}),
    "counts: a text": turn(counts={"backlog": "1"}),
    "end without counts": frame("end", 1.0, 2.0, None),
    "end without a time": frame("end", 1.0, {}),
}


@pytest.mark.parametrize("name", BAD)
def test_frames_that_cannot_be(name: str) -> None:
    data = MAGIC + HEAD + TURN
    found = read_until(data + BAD[name] + END)
    assert kinds(found[0]) == ["head", "turn"]
    expect(found, found[0], len(data))
    assert str(found[1]).isprintable()


def test_what_is_changed_there_is_what_makes_them_so() -> None:
    assert kinds(read_until(MAGIC + HEAD + turn(messages=[MESSAGES[0], MESSAGES[1]]) + END)[0])[1:] == [
        "turn",
        "end",
    ]
    found, error, _ = read_until(MAGIC + HEAD + turn(counts={"netlink_drops": (1 << 63) - 1}) + END)
    assert (len(found), error) == (3, None)
    assert read_until(MAGIC + HEAD + frame("end", 0.0, 253_402_300_799.0, {}))[0][1] == End(
        0.0, 253_402_300_799.0, KernelCounts()
    )


@pytest.mark.parametrize(
    "changed",
    [
        *[{name: ...} for name in ("name", "machine_id", "boot_id", "ns_dev", "initial")],
        *[{name: ...} for name in ("pid", "run", "program", "kernel", "hook", "loader", "start")],
        *[{name: b"x"} for name in ("name", "machine_id", "boot_id", "program", "kernel", "hook", "loader")],
        {"initial": list(HOST_INUMS[:9])},
        {"initial": [*HOST_INUMS[:9], True]},
        {"initial": [*HOST_INUMS[:9], 1 << 32]},
        {"initial": None},
        {"pid": -1},
        {"pid": 1 << 32},
        {"pid": "1"},
        {"start": False},
        {"start": 1 << 32},
        # What would break the form of the output, or forge a line of it.
        {"machine_id": "a b"},
        {"machine_id": "a\nb"},
        {"boot_id": "0B6C8F3E-1D2C-4C57-9A51-3F7A6B1C0D2E"},
        {"boot_id": "0b6c8f3e-1d2c-4c57-9a51-3f7a6b1c0d2e\n"},
        {"boot_id": "../.."},
        {"ns_dev": '00:04" auid="0'},
        {"ns_dev": "00:04\n"},
        {"ns_dev": "\u0660\u0660:\u0660\u0664"},
        {"run": "0badcaf"},
        {"run": "0BADCAFE"},
        {"run": "0badcafe\n"},
        {"run": ""},
    ],
    ids=str,
)
def test_heads_that_cannot_be(changed: dict[str, object]) -> None:
    found = read_until(MAGIC + frame(*head_members(**changed)) + END)
    expect(found, [], len(MAGIC))
    assert str(found[1]).isprintable()


@pytest.mark.parametrize("unknown", ["machine_id", "boot_id", "ns_dev", "name"])
def test_a_head_may_not_know_its_host(unknown: str) -> None:
    found, error, _ = read_until(MAGIC + frame(*head_members(**{unknown: "", "start": None})) + END)
    assert (kinds(found), error) == (["head", "end"], None)


@pytest.mark.parametrize(
    "members",
    [
        ["head"],
        ["head", 1, sys.byteorder, 1],
        ["head", "1", sys.byteorder, 1, {}, {}],
        ["head", 1, 1, 1, {}, {}],
    ],
)
def test_heads_of_no_version(members: list[object]) -> None:
    expect(read_until(MAGIC + frame(*members)), [], len(MAGIC))


ANSWER = frame("answer", "user", 0, "root")
STOP = frame("stop", 1)


@pytest.mark.parametrize(
    ("before", "out_of_place"),
    [
        ([], TURN),
        ([], ANSWER),
        ([], STOP),
        ([], END),
        ([HEAD], HEAD),
        ([HEAD, TURN], HEAD),
        ([HEAD, END], END),
        ([HEAD, END], TURN),
        ([HEAD, END], STOP),
        ([HEAD, END], HEAD),
        ([HEAD, END, ANSWER], TURN),
    ],
)
def test_frames_out_of_place(before: list[bytes], out_of_place: bytes) -> None:
    data = MAGIC + b"".join(before)
    found = read_until(data + out_of_place)
    assert len(found[0]) == len(before)
    expect(found, found[0], len(data))
    assert "out of place" in str(found[1])


@pytest.mark.parametrize("frames", [[], [HEAD], [HEAD, TURN], [HEAD, TURN, STOP, ANSWER]])
def test_the_end_is_missing(frames: list[bytes]) -> None:
    data = MAGIC + b"".join(frames)
    found = read_until(data)
    expect(found, found[0], len(data))
    assert (len(found[0]), "the end is missing" in str(found[1])) == (len(frames), True)


def test_answers_may_follow_the_end() -> None:
    found, error, _ = read_until(MAGIC + HEAD + END + ANSWER + ANSWER)
    assert (found[2:], error) == ([Answer("user", 0, "root")] * 2, None)


def test_a_checksum_that_fits_another_body() -> None:
    body = bytes(msgpack.packb(["stop", 1]))
    bad = struct.pack("<II", len(body), zlib.crc32(body) ^ 1) + body
    assert "checksum" in str(read_until(MAGIC + HEAD + bad)[1])


class Failing(BytesIO):
    """A disk that cannot be read any more."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= len(MAGIC + HEAD):
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_file_that_cannot_be_read_on() -> None:
    frames = CaptureReader(Failing(MAGIC + HEAD + END), "it").frames()
    next(frames)
    with pytest.raises(DamagedInput, match=f"it: Input/output error, at byte {len(MAGIC + HEAD)}"):
        next(frames)
