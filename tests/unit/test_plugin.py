# SPDX-License-Identifier: Apache-2.0
"""Records from auditd's dispatcher: nothing but the kernel's own bytes, whatever comes down the pipe, and all of it."""

from __future__ import annotations

import os
import select
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.cli import plugin
from enricher.cli.main import main
from enricher.cli.options import Signals
from enricher.correlate.ledger import Ledger, Summary
from enricher.model import KernelCounts, Record
from enricher.runtime import privileges, service
from enricher.sources.audit.plugin import PluginReader
from enricher.sources.logformat import LINE_MAX

LINE = b"type=SYSCALL msg=audit(1.000:%d): arch=c000003e syscall=59\n"
TEXT = b"audit(1.000:%d): arch=c000003e syscall=59"


def frame(number: int, data: bytes, version: int = 0) -> bytes:
    """As ``format = binary`` has it."""
    return struct.pack("=IIII", version, 16, number, len(data)) + data


class Pipe:
    """auditd's end of it, and a reader."""

    def __init__(self, buffer: int = 1 << 20) -> None:
        read, self.write = os.pipe()
        self.reader = PluginReader(read, buffer)

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.write, data) :]

    def end(self) -> None:
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def until(self, count: int) -> list[Record]:
        """Receive so many, each time when the descriptor says that there are some."""
        records: list[Record] = []
        while len(records) < count:
            assert select.select([self.reader.fileno()], [], [], 20)[0]
            records += self.reader.receive()
        return records

    def all(self) -> list[Record]:
        """End it, and receive the rest."""
        self.end()
        records: list[Record] = []
        while not self.reader.ended:
            assert select.select([self.reader.fileno()], [], [], 20)[0]
            records += self.reader.receive()
        return records


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.end()
    made.reader.close()


def test_lines_are_records(pipe: Pipe) -> None:
    pipe.say(b"".join(LINE % number for number in range(3000)))
    assert pipe.until(3000) == [Record(1300, TEXT % number) for number in range(3000)]
    assert not select.select([pipe.reader.fileno()], [], [], 0)[0] or pipe.reader.receive() == []
    assert not pipe.reader.ended


def test_at_most_a_batch_at_a_time(pipe: Pipe) -> None:
    pipe.say(b"".join(LINE % number for number in range(1500)))
    pipe.end()
    sizes = []
    while not pipe.reader.ended:
        assert select.select([pipe.reader.fileno()], [], [], 20)[0]
        sizes.append(len(pipe.reader.receive()))
    assert sum(sizes) == 1500
    assert max(sizes) <= pipe.reader.batch


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b"node=web1 " + LINE % 1, Record(1300, TEXT % 1)),
        (b"type=UNKNOWN[1999] msg=audit(1.000:1): a=b\n", Record(1999, b"audit(1.000:1): a=b")),
        (LINE[:-1] % 1 + b'\x1dARCH=x86_64 SYSCALL=execve AUID="root"\n', Record(1300, TEXT % 1)),
        # In what a program wrote, a separator is its own.
        (
            b"type=USER_AVC msg=audit(1.000:1): pid=1 msg='a\x1dUID=\"root\"'\n",
            Record(1107, b"audit(1.000:1): pid=1 msg='a\x1dUID=\"root\"'"),
        ),
        (
            b'type=USER_AVC msg=audit(1.000:1): pid=1 msg=\'a\x1dUID="x"\'\x1dUID="root"\n',
            Record(1107, b"audit(1.000:1): pid=1 msg='a\x1dUID=\"x\"'"),
        ),
        (b"no record\n", Record(0, b"no record")),
    ],
)
def test_forms(pipe: Pipe, line: bytes, record: Record) -> None:
    pipe.say(line)
    assert pipe.all() == [record]


def test_auditds_own_records_are_none_of_the_kernels(pipe: Pipe) -> None:
    pipe.say(b"type=DAEMON_START msg=audit(1.000:7): op=start\n" + LINE % 8)
    assert pipe.all() == [Record(1300, TEXT % 8)]


@pytest.mark.parametrize("piece", [1 << 16, 7, 1])
@pytest.mark.parametrize(
    "sent",
    [
        frame(1300, TEXT % 1) + frame(1320, b"audit(1.000:1): ") + frame(1999, b"audit(1.000:2): a=b\n"),
        frame(1300, LINE[:-1] % 1 + b"\x1dARCH=x86_64", 1)
        + frame(1200, b"audit(1.000:7): op=start")
        + frame(1320, b"type=EOE msg=audit(1.000:1): ", 1)
        + frame(1999, b"type=UNKNOWN[1999] msg=audit(1.000:2): a=b", 1),
    ],
    ids=["the kernel's text", "lines"],
)
def test_the_binary_form(pipe: Pipe, sent: bytes, piece: int) -> None:
    """The same records, wherever a read ends."""
    for at in range(0, len(sent), piece):
        pipe.say(sent[at : at + piece])
    assert pipe.all() == [
        Record(1300, TEXT % 1),
        Record(1320, b"audit(1.000:1): "),
        Record(1999, b"audit(1.000:2): a=b"),
    ]


def test_the_binary_form_cut_off(pipe: Pipe) -> None:
    pipe.say(frame(1320, b"audit(1.000:1): ") + frame(1300, TEXT % 2)[:-5])
    assert pipe.all() == [
        Record(1320, b"audit(1.000:1): "),
        Record(1300, (TEXT % 2)[:-5], truncated=True),
    ]


def test_a_header_without_sense_is_counted_and_survived(pipe: Pipe) -> None:
    pipe.say(frame(1300, TEXT % 1) + struct.pack("=IIII", 0, 16, 1300, 1 << 31) + b"x" * 100)
    assert pipe.until(1) == [Record(1300, TEXT % 1)]
    pipe.say(frame(1300, TEXT % 2))
    assert pipe.until(1) == [Record(1300, TEXT % 2)]
    assert pipe.reader.drops() == 1


def test_records_of_another_host_are_left_out_and_counted(pipe: Pipe) -> None:
    """Their serials are those of another kernel."""
    pipe.say(b"node=here " + LINE % 1 + b"node=there " + LINE % 2 + b"node=here " + LINE % 3)
    assert pipe.all() == [Record(1300, TEXT % 1), Record(1300, TEXT % 3)]
    assert pipe.reader.foreign == 1


def test_a_line_comes_in_pieces(pipe: Pipe) -> None:
    line = LINE % 1
    for at in range(0, len(line), 7):
        pipe.say(line[at : at + 7])
    assert pipe.until(1) == [Record(1300, TEXT % 1)]


def test_the_end_without_a_newline(pipe: Pipe) -> None:
    pipe.say((LINE % 1) + (LINE % 2)[:-1])
    assert pipe.all() == [Record(1300, TEXT % 1), Record(1300, TEXT % 2, truncated=True)]
    assert pipe.reader.ended


def test_what_there_is_no_room_for_is_counted_by_whole_lines() -> None:
    """Auditd never waits, whoever does not receive."""
    pipe = Pipe(buffer=1000)
    try:
        pipe.say(b"".join(LINE % number for number in range(20_000)))
        records = pipe.all()
        assert len(records) + pipe.reader.drops() == 20_000
        assert pipe.reader.drops() > 0
        assert pipe.reader.overflows > 0
        assert all(record.type == 1300 for record in records)
    finally:
        pipe.end()
        pipe.reader.close()


@pytest.mark.parametrize("buffer", [1000, 100_000, 1 << 20])
@pytest.mark.parametrize("size", [LINE_MAX + 1, 400_000])
def test_a_line_that_is_too_long(buffer: int, size: int) -> None:
    """Its beginning, marked as cut, whatever may wait; what comes behind it is a line of its own."""
    pipe = Pipe(buffer)
    try:
        pipe.say(b"x" * size + b"\n")
        assert pipe.until(1) == [Record(0, b"x" * LINE_MAX, truncated=True)]
        pipe.say(LINE % 1)
        assert pipe.until(1) == [Record(1300, TEXT % 1)]
        pipe.say(b"y" * size)
        assert pipe.all() == [Record(0, b"y" * LINE_MAX, truncated=True)]
        assert (pipe.reader.truncated, pipe.reader.drops()) == (2, 0)
    finally:
        pipe.end()
        pipe.reader.close()


def test_closed_while_it_is_written_to(pipe: Pipe) -> None:
    pipe.reader.close()
    pipe.reader.close()
    pipe.say(LINE % 1)


def test_the_thread_begins_with_what_it_was_told() -> None:
    read, write = os.pipe()
    began: list[int] = []
    reader = PluginReader(read, 1000, lambda: began.append(os.write(write, LINE % 1)))
    assert select.select([reader.fileno()], [], [], 20)[0]
    assert began
    os.close(write)
    reader.close()


def test_the_end_is_that_of_the_last_line() -> None:
    """The pipe may end between two receives: what is left of a line is still to come then."""
    read, write = os.pipe()
    reader = PluginReader(read, 1000)
    os.write(write, (LINE % 1)[:-1])
    assert reader.receive() == []
    os.close(write)
    assert select.select([reader.fileno()], [], [], 20)[0]
    before, last, after = reader.ended, reader.receive(), reader.ended
    assert (before, len(last), after) == (False, 1, True)
    reader.close()


def test_signalled_by_auditd_and_by_systemd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One run, and one end of it with its account, as often as it is told to end."""
    read, write = os.pipe()
    os.close(write)
    config = tmp_path / "x.toml"
    config.touch()

    def run(_path: object, _settings: object, asked: Signals, *_: object) -> Summary:
        for _number in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert asked.stopped
        return Ledger(1).summary(KernelCounts())

    monkeypatch.setattr(plugin, "make_directories", lambda _: None)
    monkeypatch.setattr(privileges, "keep_only", lambda _: None)
    monkeypatch.setattr(service, "run", run)
    with open(read, "rb") as stdin:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["plugin", "--config", str(config)]) == 0
    assert "records delivered" in capsys.readouterr().err


def test_by_hand_it_says_who_starts_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    config = f"{tmp_path}/x.toml"
    with open(config, "w"):  # noqa: PTH123
        pass
    assert main(["plugin", "--config", config]) == 2
    assert "auditd starts it" in capsys.readouterr().err
