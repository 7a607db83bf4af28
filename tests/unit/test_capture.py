# SPDX-License-Identifier: Apache-2.0
"""Writing a capture and reading it back: every byte, every frame, and a file that is never somebody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.errors import DamagedInput, OutputFailed, UsageError
from enricher.model import Batch, Context, KernelCounts, Level, Record, Tally
from enricher.sources import capture
from enricher.sources.bpf import wire
from enricher.sources.capture import Answer, CaptureReader, CaptureWriter, End, Head, Stop, is_capture
from tests.unit.fake_host import image
from tests.unit.sample_capture import (
    ANSWERS,
    COUNTS,
    HEAD,
    HELPERS,
    MAGIC,
    MESSAGES,
    PARTS,
    RECORDS,
    counts_members,
    frame,
    head_members,
    read,
    write,
)
from tests.unit.sample_stream import context

U16, U32, U63 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 63))
U64 = st.integers(0, (1 << 64) - 1)
TIMES = st.floats(0, 1e11)
RECORD = st.builds(Record, U16, st.binary(max_size=40), st.booleans())
STAMP = st.builds(lambda sec, ms, serial: b"%d.%03d:%d" % (sec, ms, serial), U64, U32, U32)
CONTEXT = st.builds(
    lambda made, **changed: made._replace(**changed),
    st.just(context(1)),
    stamp=STAMP,
    time=U64,
    record_type=U16,
    flags=U16,
    pid=U32,
    start=U64,
    comm=st.binary(max_size=16).filter(lambda comm: b"\0" not in comm),
    inums=st.lists(U32, min_size=10, max_size=10).map(tuple),
    ids=st.lists(U64, min_size=10, max_size=10).map(tuple),
    levels=st.lists(st.builds(Level, U32, U32), max_size=33).map(tuple),
)
TALLY = st.builds(Tally, STAMP, U64, U16, U32, st.lists(st.tuples(U16, U16), max_size=32).map(tuple))
OPTIONAL = {name for name, value in KernelCounts._field_defaults.items() if value is None}
COUNTS_OF_ANY = st.builds(
    KernelCounts, **{name: st.none() | U63 if name in OPTIONAL else U63 for name in KernelCounts._fields}
)
TURN = st.tuples(
    st.lists(RECORD, max_size=4),
    st.lists(CONTEXT | TALLY, max_size=4),
    st.booleans(),
    TIMES,
    TIMES,
    st.none() | COUNTS_OF_ANY,
)


def decoded(message: bytes) -> Context | Tally:
    return (
        wire.decode_tally(message, 0) if message[0] == wire.EVENT_TALLY else wire.decode_context(message, 0)
    )


# -- there and back ----------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_description(tmp_path: Path) -> None:
    """Put together from a second reading of docs/capture.md: another program can read what we write."""
    records = [[each.type, each.text, each.truncated] for each in RECORDS]
    counts = counts_members(COUNTS)
    answers = [
        [2**64 - 1, ["docker", "shop", "a/b:1", [["k", "v\n"]], "u", "web-0", "prod"]],
        [7, ["runc", "batch", "/jobs/b", ["runc", "", "", [], "", "", ""]]],
    ]
    helpers = [[4243, 2**63], [4244, 0]]
    assert write(tmp_path / "c") == MAGIC + b"".join(
        [
            frame(*head_members()),
            frame("turn", 50.5, 1772366400.25, True, records, MESSAGES, None, answers, helpers),  # noqa: FBT003 - a member
            frame("answer", "user", 1000, "alice"),
            frame("answer", "group", 4294967295, None),
            frame("turn", 51.5, 1772366401.25, False, [], [], counts, [], []),  # noqa: FBT003 - a member
            frame("stop", 4294967295),
            frame("end", 52.5, 1772366402.25, counts),
            frame("answer", "user", 0, "r\u00f6ot \u2028"),
        ]
    )


def test_every_kind_of_frame_comes_back(tmp_path: Path) -> None:
    contexts = [each for each in map(decoded, MESSAGES) if isinstance(each, Context)]
    tallies = [each for each in map(decoded, MESSAGES) if isinstance(each, Tally)]
    assert [len(each.levels) for each in contexts] == [1, 1, 7]
    assert read(write(tmp_path / "c")) == [
        HEAD,
        Batch(
            RECORDS,
            contexts,
            tallies,
            parked=True,
            now=50.5,
            wall=1772366400.25,
            answers=ANSWERS,
            helpers=HELPERS,
        ),
        Answer("user", 1000, "alice"),
        Answer("group", 0xFFFFFFFF, None),
        Batch([], [], [], parked=False, now=51.5, wall=1772366401.25, counts=COUNTS),
        Stop(0xFFFFFFFF),
        End(52.5, 1772366402.25, COUNTS),
        Answer("user", 0, "r\u00f6ot \u2028"),
    ]


@settings(deadline=None)
@given(
    st.builds(
        Head,
        st.just(HEAD.facts),
        U32,
        st.from_regex(r"\A[0-9a-f]{8}\Z"),
        *[st.text(max_size=8)] * 4,
        st.none() | U32,
    ),
    st.lists(TURN, max_size=3),
    st.lists(st.tuples(st.sampled_from(["user", "group"]), U32, st.none() | st.text(max_size=6)), max_size=3),
    COUNTS_OF_ANY,
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    head: Head,
    turns: list[tuple[list[Record], list[Context | Tally], bool, float, float, KernelCounts | None]],
    answers: list[tuple[str, int, str | None]],
    counts: KernelCounts,
) -> None:
    path = tmp_path_factory.mktemp("any") / "c"
    expected: list[object] = [head]
    parts: list[tuple[str, tuple[object, ...]]] = [("head", (head,))]
    for records, messages, parked, now, wall, some in turns:
        images = [image(each) for each in messages]
        whole = [decoded(each) for each in images]
        batch = Batch(
            records,
            [each for each in whole if isinstance(each, Context)],
            [each for each in whole if isinstance(each, Tally)],
            parked,
            now,
            wall,
            some,
        )
        parts.append(("turn", (batch, images)))
        expected.append(batch)
    parts += [("answer", each) for each in answers]
    parts.append(("end", (1.0, 2.0, counts)))
    data = write(path, parts)
    assert read(data) == [*expected, *(Answer(*each) for each in answers), End(1.0, 2.0, counts)]
    path.unlink()
    assert write(path, parts) == data


def test_works_on_pipes(tmp_path: Path) -> None:
    data = write(tmp_path / "c")
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source:
        os.write(writer, data)
        os.close(writer)
        assert list(CaptureReader(source, "a pipe").frames()) == read(data)


def test_reading_is_lazy(tmp_path: Path) -> None:
    """A frame is given before the next one is looked at: what is damaged later was not waited for."""
    data = write(tmp_path / "c")
    frames = CaptureReader(BytesIO(data[:-1]), "it").frames()
    assert next(frames) == HEAD


# -- messages and counts of other versions -----------------------------------------------------------


def test_messages_that_the_ring_would_not_know_are_left_out_as_there() -> None:
    later = MESSAGES[0][:2] + b"\x02\x00" + MESSAGES[0][4:]
    unknown = b"\x63\x00\x01\x00" + b"of a kind to come"
    turn = frame("turn", 1.0, 1.0, False, [], [later, MESSAGES[1], unknown, b"\0\0\0\0"], None)  # noqa: FBT003
    end = frame("end", 1.0, 1.0, {})
    _, batch, _ = read(MAGIC + frame(*head_members()) + turn + end)
    assert isinstance(batch, Batch)
    assert (len(batch.contexts), len(batch.tallies)) == (0, 1)


def test_counts_may_be_fewer_or_more_than_ours() -> None:
    end = frame("end", 1.0, 1.0, {"netlink_drops": 5, "of_another_version": "anything", "backlog": None})
    *_, last = read(MAGIC + frame(*head_members()) + end)
    assert isinstance(last, End)
    assert last.counts == KernelCounts(netlink_drops=5)


# -- the file ----------------------------------------------------------------------------------------


def test_a_capture_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(tmp_path / "c")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "directory", "fifo"])
def test_what_is_there_is_never_written_to(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "c", tmp_path / "target"
    target.write_bytes(b"evidence")
    if kind == "file":
        path.write_bytes(b"evidence")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(OutputFailed, match="exists") as caught:
        CaptureWriter(str(path))
    assert "never written over" in caught.value.hint
    assert target.read_bytes() == b"evidence"
    assert not (tmp_path / "nowhere").exists()
    assert kind != "file" or path.read_bytes() == b"evidence"


@pytest.mark.parametrize(
    ("name", "why"), [("no/c", "No such file"), ("a\0b", "null"), ("x" * 300, "too long")]
)
def test_what_cannot_be_made_is_said(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(OutputFailed, match=why) as caught:
        CaptureWriter(f"{tmp_path}/{name}")
    assert "\0" not in caught.value.message


def test_frames_are_written_at_once(tmp_path: Path) -> None:
    """Of a run that is killed, every batch is in the file before anything is made of it."""
    path = tmp_path / "c"
    with CaptureWriter(str(path)) as writer:
        for name, arguments in PARTS:
            getattr(writer, name)(*arguments)
            if name != "answer":
                assert path.stat().st_size == writer.size
        assert writer.turns == 3
    assert path.stat().st_size == writer.size


def test_a_file_without_a_head_is_removed(tmp_path: Path) -> None:
    """The start failed: nothing was captured, and the next try would be refused for nothing."""
    path = tmp_path / "c"
    writer = CaptureWriter(str(path))
    assert path.exists()
    with pytest.raises(ZeroDivisionError), writer:
        raise ZeroDivisionError
    assert not path.exists()
    writer.close()
    with CaptureWriter(str(path)) as writer:
        writer.head(HEAD)
    assert path.exists()
    with pytest.raises(DamagedInput, match="the end is missing"):
        read(path.read_bytes())


def test_only_its_own_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with CaptureWriter(str(path)):
        path.rename(tmp_path / "away")
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captures go to a device that is full."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    real = os.open
    monkeypatch.setattr("enricher.sources.capture.os.open", lambda *_: real("/dev/full", os.O_WRONLY))


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_said_when_it_happens_and_at_the_close(tmp_path: Path) -> None:
    writer = CaptureWriter(str(tmp_path / "c"))
    with pytest.raises(OutputFailed, match="No space left") as caught:
        writer.head(HEAD)
    assert "good up to here" in caught.value.hint
    with pytest.raises(OutputFailed, match="No space left") as caught:
        writer.close()
    assert "the end of the capture is missing" in caught.value.hint
    writer.close()


@pytest.mark.usefixtures("full")
def test_what_stopped_the_run_is_not_hidden_by_the_close(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), CaptureWriter(str(tmp_path / "c")):
        raise ZeroDivisionError
    with pytest.raises(OutputFailed, match="No space left"), CaptureWriter(str(tmp_path / "c")):
        pass


def test_what_was_written_to_a_disk_that_ran_full_is_good(tmp_path: Path) -> None:
    script = """if True:
        import resource, sys
        from enricher.errors import OutputFailed
        from tests.unit.sample_capture import write, PARTS
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            write(Path(sys.argv[1]), PARTS[:2] + PARTS[1:2] * 100)
        except OutputFailed as error:
            print(error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c")], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    data = (tmp_path / "c").read_bytes()
    assert len(data) == 3000
    reader = CaptureReader(BytesIO(data), "it")
    frames = reader.frames()
    assert next(frames) == HEAD
    turns: list[object] = []
    with pytest.raises(DamagedInput, match="the file ends within a frame"):
        turns.extend(frames)
    assert turns
    assert 1500 < reader.offset < 3000


def test_standard_output() -> None:
    script = """if True:
        from tests.unit.sample_capture import PARTS
        from enricher.sources.capture import CaptureWriter
        with CaptureWriter("-") as writer:
            for name, arguments in PARTS:
                getattr(writer, name)(*arguments)
        print("ours", end="")
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.endswith(b"ours"), "standard output stays open"
    assert len(read(done.stdout[:-4])) == len(PARTS)


def test_a_batch_that_no_reader_would_take_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CaptureWriter(str(tmp_path / "c"))
    writer.head(HEAD)
    size = writer.size
    monkeypatch.setattr(capture, "FRAME_MAX", 1000)
    batch = Batch([Record(1300, b"x" * 1000)], [], [], parked=False, now=1.0, wall=1.0)
    with pytest.raises(OutputFailed, match="more than a capture takes") as caught:
        writer.turn(batch, [])
    assert "--ring-memory" in caught.value.hint
    writer.close()
    assert (tmp_path / "c").stat().st_size == size


def test_a_capture_of_the_first_format_has_no_answers() -> None:
    _, *members = head_members()
    head = frame("head", 1, *members[1:])
    turn = frame("turn", 1.0, 2.0, False, [[1300, b"x", False]], [], None)  # noqa: FBT003 - a member
    _, batch, _ = read(MAGIC + head + turn + frame("end", 1.0, 1.0, {}))
    assert batch == Batch([Record(1300, b"x")], [], [], parked=False, now=1.0, wall=2.0)


# -- what is a capture -------------------------------------------------------------------------------


def test_what_is_a_capture() -> None:
    assert is_capture(MAGIC)
    assert is_capture(b"AUDENRC\x02 of another framing")
    assert not is_capture(MAGIC[:6])
    assert not is_capture(b"type=SYSCALL msg=audit(")


@pytest.mark.parametrize("data", [b"", b"AUD", b"type=SYSCALL", b"\0" * 100])
def test_no_capture_at_all(data: bytes) -> None:
    with pytest.raises(UsageError, match="it: not a capture"):
        read(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (MAGIC[:7] + b"\x02", "framing 2"),
        (MAGIC + frame("head", 3, sys.byteorder, 1, "of another form"), "format 3"),
        (MAGIC + frame("head", 0, sys.byteorder, 1, {}, {}), "format 0"),
        (MAGIC + frame("head", 1, "big" if sys.byteorder == "little" else "little", 1, {}, {}), "endian"),
        (MAGIC + frame("head", 1, "middle\x1b[31m", 1, {}, {}), r"'middle\\x1b\[31m' endian"),
        (MAGIC + frame("head", 1, sys.byteorder, 2, {}, {}), "messages 2"),
    ],
)
def test_other_versions_are_not_damage(data: bytes, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        read(data)
    assert "another version" in caught.value.message
    assert "the version that made it" in caught.value.hint
