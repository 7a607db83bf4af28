# SPDX-License-Identifier: Apache-2.0
"""Audit text of events of every shape: to ausearch, auparse and LAUREL our lines are of the events that are there.

They see the events that they would see without our lines, and our lines as records of these, with their values.
And the comparison finds text of which that is not so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.model import Event
from enricher.route.views.audit_text import AuditText
from tests.interop.readers import Reader
from tests.interop.text_events import INSIDE, events, losses, malformed, surroundings
from tests.interop.texts import DEVIATIONS, Difference, compare, kernel_lines
from tests.unit.sample_events import HOST

pytestmark = pytest.mark.timeout(1800)

UNREADABLE = 12
"""Events with a record that one of the tools refuses, for what a program said in it or for its missing end."""

_OUR_LINE = re.compile(
    rb"^(?:node=\S+ )?type=UNKNOWN\[(139\d)\] msg=audit\(\S+:(\d+)\): (.*)\n", re.MULTILINE
)
_VALUE = re.compile(r'(\w+)="([^"]*)"')


def rendered(made: list[Event]) -> bytes:
    view = AuditText(HOST, surroundings())
    return b"".join(map(view.render, made))


def compared(tools: list[Reader], text: bytes, scratch: Path) -> dict[str, Difference]:
    return {reader.name: compare(reader, text, scratch / reader.name.replace("/", "-")) for reader in tools}


@pytest.fixture(scope="module")
def seen(tools: list[Reader], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Difference]:
    return compared(tools, rendered(events()), tmp_path_factory.mktemp("small"))


def test_the_same_events(seen: dict[str, Difference]) -> None:
    for tool, found in seen.items():
        assert not found.faults, f"{tool}\n" + "\n".join(found.faults)
        assert found.events >= len(events()) - UNREADABLE, tool


def test_every_deviation_is_needed(seen: dict[str, Difference]) -> None:
    used = set().union(*(found.explained for found in seen.values()))
    assert [known.reason for known in DEVIATIONS if known.reason not in used] == []


def values_of(record: str) -> dict[str, str]:
    """The values that a tool shows of one of our records."""
    kind, _, rest = record.partition(" ")
    if kind.startswith("UNKNOWN["):
        return dict(json.loads(rest))
    if kind == "R":
        fields = (line.split(" ")[1:3] for line in record.splitlines()[1:])
        values = {name: bytes.fromhex(raw).decode() for name, raw in fields if raw != "-"}
        return {name: value.strip('"') for name, value in values.items() if value[0] == '"'}
    return dict(_VALUE.findall(record))


def test_our_values_are_read(tools: list[Reader], tmp_path: Path) -> None:
    """Every value of our lines, as we wrote it, in each tool; ausearch leaves out some events as a whole."""
    text = rendered([*events(), *losses()])
    log = tmp_path / "text"
    log.write_bytes(text)
    written = Counter(
        frozenset(_VALUE.findall(found[3].decode("ascii"))) for found in _OUR_LINE.finditer(text)
    )
    for reader in tools:
        read = Counter(
            frozenset(values_of(record).items()) for event in reader.read(log) for record in event.ours
        )
        assert not read - written, (reader.name, read - written)
        missing = (written - read).total()
        assert missing == 0 or (reader.name.startswith("ausearch") and missing < UNREADABLE), reader.name


def test_who_somebody_is_inside_is_told_in_lines_of_the_event(tools: list[Reader], tmp_path: Path) -> None:
    text = rendered(events())
    assert text.count(b' subject_inside_owner_uid="1000" ') == len(INSIDE)
    log = tmp_path / "text"
    log.write_bytes(text)
    for reader in tools:
        told = [
            event.id
            for event in reader.read(log)
            for record in event.ours
            if values_of(record).get("subject_inside_owner_uid") == "1000"
        ]
        assert len(told) == len(set(told)) == len(INSIDE), reader.name


def test_a_loss_is_an_event_of_one_record(tools: list[Reader], tmp_path: Path) -> None:
    log = tmp_path / "text"
    log.write_bytes(rendered([*events()[:1], *losses()]))
    for reader in tools:
        lost = [event for event in reader.read(log) if event.id.endswith(":0")]
        assert len(lost) == len(losses()), reader.name
        assert all(len(event.records) == len(event.ours) == 1 for event in lost)
        uids = [values_of(event.ours[0])["event_uid"] for event in lost]
        assert uids == [f"{HOST.boot_id}/{event.own_id}" for event in losses()], reader.name


def test_what_is_no_record_is_none(tools: list[Reader], tmp_path: Path) -> None:
    """Such a line is nobody's event, least of all one that it names; our line beside it says why."""
    log = tmp_path / "text"
    log.write_bytes(rendered([*events()[:1], *malformed()]))
    for reader in tools:
        one, *others = reader.read(log)
        assert one.kernel.records
        assert all(event.id.endswith(":0") and not event.kernel.records for event in others), reader.name
        assert sum(len(event.ours) for event in others) == _OUR_LINE.subn(b"", rendered(malformed()))[1]


def named(text: bytes) -> bytes:
    return text.replace(b"type=UNKNOWN[1390]", b"type=NS_INFO")


def behind_proctitle(text: bytes) -> bytes:
    return re.sub(rb"(type=UNKNOWN\[1390\] .*\n)(type=PROCTITLE .*\n)", rb"\2\1", text)


def behind_a_record_that_stands_alone(text: bytes) -> bytes:
    return re.sub(rb"(type=UNKNOWN\[1390\] .*\n)(type=(?:USER_LOGIN|AVC) .*\n)", rb"\2\1", text)


def with_another_stamp(text: bytes) -> bytes:
    return re.sub(rb"(type=UNKNOWN\[1390\] msg=audit\(\d+\.)\d+:", rb"\g<1>999:", text)


@pytest.mark.parametrize(
    ("change", "who"),
    [
        (named, ("auparse", "ausearch", "laurel")),
        (behind_proctitle, ("auparse",)),
        (behind_a_record_that_stands_alone, ("auparse",)),
        (with_another_stamp, ("auparse", "ausearch", "laurel")),
    ],
)
def test_text_that_is_not_read_so_is_found(
    change: Callable[[bytes], bytes], who: tuple[str, ...], tools: list[Reader], tmp_path: Path
) -> None:
    text = rendered(events())
    changed = change(text)
    assert changed != text
    for tool, found in compared(tools, changed, tmp_path).items():
        if tool.startswith(who):
            assert found.faults, tool


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"ppid=4000", b"ppid=4001"), (b"type=CWD ", b"type=UNKNOWN[1390] "), (b":5001)", b":5999)")],
    ids=["value", "record", "id"],
)
def test_another_record_is_found(
    before: bytes, after: bytes, tools: list[Reader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kernel record beside our lines that is not what it is without them."""
    text = rendered(events()[:3])
    assert before in text
    plain = kernel_lines(text)
    monkeypatch.setattr("tests.interop.texts.kernel_lines", lambda _: plain)
    for tool, found in compared(tools, text.replace(before, after), tmp_path).items():
        assert found.faults, tool
