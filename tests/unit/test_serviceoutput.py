# SPDX-License-Identifier: Apache-2.0
"""The service's output: filters, followers, another file on a reload, and a disk that is full for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from enricher.clock import TurnClock
from enricher.config import settings as rows
from enricher.config.load import Settings
from enricher.enrich.native import NativeBuilder
from enricher.errors import OutputFailed, UsageError
from enricher.model import Event, Loss, Notice, Record
from enricher.route.expression import Native
from enricher.runtime import serviceoutput
from enricher.runtime.serviceoutput import RETRY, ServiceOutput
from enricher.sources.names import NoNames
from tests import schema
from tests.unit.sample_events import EXEC, HOST, event


class Followers:
    def __init__(self) -> None:
        self.wants_events = True
        self.got: list[tuple[Event, bytes]] = []

    def publish(self, events: Sequence[Event], lines: Sequence[bytes], natives: Sequence[Native]) -> None:
        assert [native()["id"] for native in natives] == [event.stamp.decode() for event in events]
        self.got += zip(events, lines, strict=True)


def of_serial(serial: int, key: bytes = b"exec") -> Event:
    body = EXEC[0][1].rsplit(b" key=", 1)[0] + b' key="%b"' % key
    made = event((1300, body))
    made.stamp = b"1772366400.042:%d" % serial
    return made


def own() -> Event:
    made = Event(b"1772366400.042:0", 0.0)
    made.own_id, made.complete, made.notice = "1a2b3c4d/7", True, Notice("reload", "new settings")
    return made


class Made:
    """An output to a file of its own, with settings that a test may change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = TurnClock()
        self.said: list[str] = []
        self.settings = Settings()
        self.set(rows.OUTPUT_PATH, str(path))
        self.set(rows.GROUP, "")
        self.output = ServiceOutput(self.settings, HOST, NoNames(), self.clock, self.said.append)

    def set(self, row: rows.Setting[Any], value: object) -> Settings:
        self.settings = self.settings.replaced(row, value, "here")
        return self.settings

    def serials(self, path: Path | None = None) -> list[int]:
        events = schema.parse((path or self.path).read_bytes())
        return [int(event["id"].rpartition(":")[2]) for event in events]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "events.json")


def test_events_are_lines_of_json(made: Made) -> None:
    made.output.emit([of_serial(1), of_serial(2)])
    made.output.emit([own()])
    assert made.serials() == [1, 2, 0]
    assert made.path.stat().st_mode & 0o777 == 0o640
    assert made.output.written == 3
    made.output.close()


def test_where_only_the_file_wants_an_event_nothing_is_kept_of_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serviceoutput, "Shared", None)  # what holds a native form for several
    made.output.emit([of_serial(1), of_serial(2)])
    assert made.serials() == [1, 2]
    made.output.reload(made.set(rows.OUTPUT_KEYS, ("wanted",)))
    with pytest.raises(TypeError):
        made.output.emit([of_serial(3)])
    made.output.close()


def test_filters_leave_out_nothing_of_our_own(made: Made) -> None:
    made.output.reload(made.set(rows.OUTPUT_KEYS, ("wanted",)))
    made.output.emit([of_serial(1), of_serial(2, b"wanted"), own()])
    assert made.serials() == [2, 0]
    made.output.reload(made.set(rows.OUTPUT_SKIP_SELF, value=True))
    ours = of_serial(3, b"wanted")
    ours.self_caused = True
    made.output.emit([ours])
    assert made.serials() == [2, 0]
    made.output.close()


def ids(followers: Followers) -> list[str]:
    return [event["id"] for event in schema.parse(b"".join(line for _, line in followers.got))]


def test_followers_get_all_events_as_json_whatever_the_file_holds(made: Made) -> None:
    made.output.followers = followers = Followers()
    made.output.reload(made.set(rows.OUTPUT_FORMAT, "text"))
    made.output.reload(made.set(rows.OUTPUT_KEYS, ("wanted",)))
    made.output.emit([of_serial(1), of_serial(2, b"wanted")])
    assert made.path.read_bytes().count(b"type=SYSCALL") == 1
    assert ids(followers) == ["1772366400.042:1", "1772366400.042:2"]
    followers.wants_events = False
    made.output.emit([of_serial(3)])
    assert len(followers.got) == 2
    made.output.close()


@pytest.mark.parametrize("form", ["json", "raw", "text"])
def test_an_expression_is_asked_in_every_form(made: Made, form: str) -> None:
    made.output.reload(made.set(rows.OUTPUT_FORMAT, "text" if form == "text" else "json"))
    made.output.reload(made.set(rows.OUTPUT_RAW, value=form == "raw"))
    made.output.reload(made.set(rows.OUTPUT_FILTER, "comm == ls and key == wanted"))
    followers = Followers()
    for each in (None, followers):
        made.output.followers = each
        made.path.write_bytes(b"")
        made.output.emit([of_serial(1), of_serial(2, b"wanted"), own()])
        text = made.path.read_bytes()
        assert (text.count(b"type=SYSCALL"), text.count(b'"SYSCALL",')) in [(1, 0), (0, 2)]
        assert (b":1)" in text or b':1"' in text, b"wanted" in text, b"reload" in text) == (
            False,
            True,
            True,
        )
        assert (b'"raw"' in text) is (form == "raw")
    assert [id_.rpartition(":")[2] for id_ in ids(followers)] == ["1", "2", "0"]
    assert not any(b'"raw"' in line for _, line in followers.got)
    made.output.close()


def test_the_native_event_is_made_once_for_filter_file_and_followers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    real = NativeBuilder.build

    def build(builder: NativeBuilder, one: Event) -> object:
        counted.append(one.stamp)
        return real(builder, one)

    monkeypatch.setattr(NativeBuilder, "build", build)
    made = Made(tmp_path / "events.json")
    made.output.reload(made.set(rows.OUTPUT_FILTER, "comm == ls and key == wanted"))
    made.output.emit([of_serial(1), of_serial(2, b"wanted")])
    assert len(counted) == 1, "it was made for an event whose key decides"
    made.output.followers = Followers()
    made.output.emit([of_serial(3), of_serial(4, b"wanted")])
    assert len(counted) == 3
    made.output.close()


def test_followers_get_the_same_line_once_made(made: Made) -> None:
    made.output.followers = followers = Followers()
    made.output.emit([of_serial(1)])
    assert followers.got[0][1] == made.path.read_bytes()
    made.output.close()


def test_a_reload_goes_over_to_another_file_between_two_lines(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    made.output.emit([of_serial(1)])
    made.output.reload(made.set(rows.OUTPUT_PATH, str(other)))
    made.output.emit([of_serial(2)])
    assert (made.serials(), made.serials(other)) == ([1], [2])
    assert made.output.written == 2
    assert made.output.facts()["path"] == str(other)
    made.output.close()


@pytest.mark.parametrize(
    ("row", "value", "error"),
    [
        (rows.OUTPUT_PATH, "/nowhere/at/all", OutputFailed),
        (rows.OUTPUT_TYPES, ("SYSCAL",), UsageError),
        (rows.OUTPUT_FILTER, "where == here", UsageError),
    ],
)
def test_a_reload_that_fails_changes_nothing(
    made: Made, row: rows.Setting[Any], value: object, error: type[Exception]
) -> None:
    made.output.emit([of_serial(1)])
    with pytest.raises(error):
        made.output.reload(made.settings.replaced(row, value, "here"))
    made.output.emit([of_serial(2)])
    assert made.serials() == [1, 2]
    made.output.close()


# -- a full disk -------------------------------------------------------------------------------------


class Full:
    """Makes writes fail after so many lines: what the file system does when it is full."""

    def __init__(self, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.tries = 0
        sink = made.output._sink
        real: Callable[[list[bytes]], None] = sink.write

        def write(lines: list[bytes]) -> None:
            self.tries += 1
            fits = lines if self.room is None else lines[: self.room]
            if fits:
                real(fits)
            if self.room is not None:
                self.room -= len(fits)
            if len(fits) < len(lines):
                raise OutputFailed("cannot write to events.json: No space left on device")

        monkeypatch.setattr(sink, "write", write)


@pytest.fixture
def full(made: Made, monkeypatch: pytest.MonkeyPatch) -> Full:
    return Full(made, monkeypatch)


def test_what_cannot_be_written_waits_and_keeps_its_order(made: Made, full: Full) -> None:
    full.room = 1
    made.output.emit([of_serial(1), of_serial(2), of_serial(3)])
    assert made.output.waits
    assert [said for said in made.said if "No space left" in said] == made.said
    made.output.emit([of_serial(4)])
    made.output.emit([of_serial(5)])
    assert full.tries == 1, "tried again at once"
    made.clock.now += RETRY
    assert made.output.settle() is None
    assert full.tries == 2
    assert len(made.said) == 1, "the same trouble was told twice"
    full.room = None
    made.clock.now += RETRY
    made.output.emit([of_serial(6)])
    assert made.serials() == [1, 2, 3, 4, 5, 6]
    assert (made.output.waits, made.output.error, made.output.failed) == (False, "", 0)
    assert "can be written again" in made.said[-1]
    made.output.close()


def test_what_does_not_fit_into_memory_is_counted_and_told(
    made: Made, full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.room = 0
    size = len(made.output._view.line(of_serial(1)))
    monkeypatch.setattr(serviceoutput, "HELD_MAX", 2 * size)
    made.output.emit([of_serial(serial) for serial in range(1, 6)])
    made.output.emit([own()])
    made.clock.now += RETRY
    assert made.output.settle() is None, "told before it could be written down"
    full.room = None
    made.clock.now += RETRY
    assert made.output.settle() == Loss("sink", "sink", 3, "records", 3, 5, ())
    assert made.output.settle() is None
    assert made.serials() == [1, 2]
    assert made.output.facts()["failed"] == 4
    made.output.close()


def test_a_reload_to_another_disk_takes_what_waits_along(made: Made, full: Full, tmp_path: Path) -> None:
    full.room = 0
    made.output.emit([of_serial(1)])
    other = tmp_path / "other.json"
    made.output.reload(made.set(rows.OUTPUT_PATH, str(other)))
    made.output.emit([of_serial(2)])
    assert made.serials(other) == [1, 2]
    made.output.close()


def test_the_end_tries_at_once(made: Made, full: Full) -> None:
    full.room = 0
    made.output.emit([of_serial(1)])
    full.room = None
    assert made.output.settle(at_once=True) is None
    made.output.close()
    assert made.serials() == [1]
    assert made.output.facts()["failed"] == 0


def test_a_loss_has_the_bounds_of_serials_not_of_arrival(
    made: Made, full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.room = 0
    monkeypatch.setattr(serviceoutput, "HELD_MAX", 0)
    made.output.emit([of_serial(serial) for serial in (9, 5, 12, 7)])
    full.room = None
    assert made.output.settle(at_once=True) == Loss("sink", "sink", 4, "records", 5, 12, ())
    made.output.close()


def test_an_old_file_that_cannot_be_closed_keeps_nothing_from_the_new(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OutputFailed("cannot write to events.json: Input/output error")

    monkeypatch.setattr(made.output._sink, "close", fail)
    other = tmp_path / "other.json"
    made.output.reload(made.set(rows.OUTPUT_PATH, str(other)))
    assert made.output.path == str(other)
    assert made.said == ["cannot write to events.json: Input/output error"]
    made.output.close()


def test_a_record_without_a_stamp_has_no_serial_to_tell(made: Made, full: Full) -> None:
    full.room = 0
    bad = event()
    bad.records = [Record(1300, b"nonsense")]
    bad.malformed, bad.stamp = True, b"1772366400.042:0"
    made.output.emit([bad])
    full.room = None
    made.clock.now += RETRY
    assert made.output.settle() is None
    assert made.serials() == [0]
    made.output.close()
