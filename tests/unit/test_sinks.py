# SPDX-License-Identifier: Apache-2.0
"""File and standard output: safe to open, whole batches, honest about what went out."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.errors import OutputFailed
from enricher.sinks.stream import FileSink, NullSink, OutputClosed, Sink, StdoutSink

Writes = list[bytes]


def patched_write(monkeypatch: pytest.MonkeyPatch, plan: Callable[[int, bytes], int]) -> Writes:
    """Let os.write ask ``plan`` how many bytes it takes of call n; a negative answer is an errno."""
    calls: Writes = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        calls.append(bytes(data))
        taken = plan(len(calls), bytes(data))
        if taken < 0:
            raise OSError(-taken, os.strerror(-taken))
        return real(fd, bytes(data)[:taken])

    monkeypatch.setattr(os, "write", write)
    return calls


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    target = tmp_path / "out"
    before = os.umask(umask)
    try:
        sink = FileSink(str(target))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sink.advice == ""
    sink.close()


def test_an_existing_file_is_appended_to_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before\n")
    target.chmod(0o644)
    sink = FileSink(str(target))
    sink.write([b"a\n", b"b\n"])
    sink.close()
    assert target.read_bytes() == b"before\na\nb\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert "0644" in sink.advice


def test_a_private_existing_file_needs_no_advice(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.touch(mode=0o600)
    assert FileSink(str(target)).advice == ""


def test_links_and_directories_are_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(real)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (link, dangling):
        with pytest.raises(OutputFailed) as caught:
            FileSink(str(path))
        assert "symbolic link" in caught.value.hint
    with pytest.raises(OutputFailed):
        FileSink(str(tmp_path))
    assert not (tmp_path / "nowhere").exists()
    assert real.read_bytes() == b""


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed) as caught:
        FileSink(str(tmp_path / "no" / "out"))
    assert caught.value.exit_code == 9
    assert "directory" in caught.value.hint


def test_a_fifo_needs_a_reader_and_then_works(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OutputFailed) as caught:  # and does not hang
        FileSink(str(fifo))
    assert "reader" in caught.value.hint
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        sink = FileSink(str(fifo))
        sink.write([b"x\n"])
        assert os.read(reader, 10) == b"x\n"
        assert os.get_blocking(sink.fileno())
        assert stat.S_ISFIFO(os.fstat(sink.fileno()).st_mode)
        sink.close()
    finally:
        os.close(reader)


def test_a_character_device_is_accepted() -> None:
    sink = FileSink(os.devnull)
    sink.write([b"x\n"])
    assert (sink.written, sink.advice) == (1, "")
    sink.close()


def test_a_full_device_is_output_failed() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    sink = FileSink("/dev/full")
    with pytest.raises(OutputFailed) as caught:
        sink.write([b"x\n"])
    assert "No space left" in caught.value.message
    assert "space" in caught.value.hint
    assert sink.written == 0
    sink.close()


def test_a_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = patched_write(monkeypatch, lambda _, data: len(data))
    sink = FileSink(str(tmp_path / "out"))
    sink.write([b"%d\n" % number for number in range(1000)])
    sink.write([])
    assert len(calls) == 1
    assert sink.written == 1000
    sink.close()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = patched_write(monkeypatch, lambda _, data: min(7, len(data)))
    sink = FileSink(str(tmp_path / "out"))
    lines = [b"line %d\n" % number for number in range(100)]
    sink.write(lines)
    sink.close()
    assert (tmp_path / "out").read_bytes() == b"".join(lines)
    assert len(calls) > 1
    assert sink.written == 100


@pytest.mark.parametrize(
    ("taken", "whole", "then"),
    [
        (0, 0, b"next\n"),
        (1, 0, b"o\nnext\n"),
        (3, 1, b"one\nnext\n"),  # all but the newline, which comes before the next
        (4, 1, b"one\nnext\n"),
        (9, 1, b"one\ntwo\nt\nnext\n"),  # the second element has two lines, one of them out
        (12, 2, b"one\ntwo\ntwo\nnext\n"),
    ],
)
def test_after_a_failure_half_way_the_count_is_right_and_the_next_line_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int, whole: int, then: bytes
) -> None:
    target = tmp_path / "out"
    sink = FileSink(str(target))

    answers = [taken, -errno.ENOSPC] if taken else [-errno.ENOSPC]
    patched_write(monkeypatch, lambda call, data: answers[call - 1] if call <= len(answers) else len(data))
    with pytest.raises(OutputFailed):
        sink.write([b"one\n", b"two\ntwo\n", b"three\n"])
    assert sink.written == whole
    sink.write([b"next\n"])
    assert sink.written == whole + 1
    assert target.read_bytes() == then
    sink.close()


def test_a_second_failure_after_mending_counts_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(str(tmp_path / "out"))
    answers = iter([2, -errno.ENOSPC, 1, -errno.ENOSPC, 5, -errno.ENOSPC])
    patched_write(monkeypatch, lambda _, __: next(answers))
    with pytest.raises(OutputFailed):
        sink.write([b"aaaa\n"])
    with pytest.raises(OutputFailed):  # only the mending newline went out
        sink.write([b"bb\n", b"cc\n"])
    assert sink.written == 0
    with pytest.raises(OutputFailed):
        sink.write([b"dd\n", b"ee\n"])
    assert sink.written == 2
    assert (tmp_path / "out").read_bytes() == b"aa\ndd\nee"


def test_a_file_that_ends_inside_a_line_is_mended(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b'{"half":')
    sink = FileSink(str(target))
    sink.write([b"{}\n"])
    sink.write([b"{}\n"])
    sink.close()
    assert target.read_bytes() == b'{"half":\n{}\n{}\n'
    again = FileSink(str(target))
    again.write([b"x\n"])
    again.close()
    assert target.read_bytes() == b'{"half":\n{}\n{}\nx\n'


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "out"))
    sink.flush()
    sink.close()
    sink.close()
    assert sink.fileno() == -1


def test_a_descriptor_is_not_inherited(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "out"))
    assert not os.get_inheritable(sink.fileno())
    sink.close()


def test_a_reader_that_leaves_is_a_clean_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = StdoutSink(writer)
    with pytest.raises(OutputClosed) as caught:
        sink.write([b"x\n"])
    assert caught.value.exit_code == 0
    os.close(writer)


def test_a_nonblocking_standard_output_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines = [b"%06d %b\n" % (number, b"x" * 200) for number in range(5000)]
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reader, 4096):
            got.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    sink = StdoutSink(writer)
    sink.write(lines)
    sink.close()
    os.close(writer)
    thread.join()
    os.close(reader)
    assert bytes(got) == b"".join(lines)
    assert sink.written == 5000


def test_nowhere_counts_and_writes_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink: Sink = NullSink()
    sink.write([b"a\n", b"b\n"])
    sink.write([])
    sink.write([b"c\n"])
    sink.flush()
    sink.close()
    sink.close()
    assert sink.written == 3
    assert capfdbinary.readouterr() == (b"", b"")


def test_closing_standard_output_leaves_the_descriptor_open() -> None:
    reader, writer = os.pipe()
    StdoutSink(writer).close()
    assert os.write(writer, b"x") == 1
    os.close(reader)
    os.close(writer)
