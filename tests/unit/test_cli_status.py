# SPDX-License-Identifier: Apache-2.0
"""`audit-enricher status`: readable, whatever version answers, and honest when nobody does."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from enricher.cli import main as command
from enricher.cli.status import words
from enricher.errors import NotRunning, UsageError
from enricher.runtime import control_client
from tests.unit.fake_control import FakeService

STATUS: dict[str, Any] = {
    "version": "1.2",
    "pid": 812,
    "since": "2026-03-01T12:00:00.000Z",
    "kernel": "6.1.0-18-amd64",
    "mode": "full",
    "degraded": "",
    "hook": "audit_log_end",
    "loader": "libbpf",
    "rings": {"count": 4, "bytes": 32 << 20},
    "way": "daemon",
    "receive_buffer": 33_554_432,
    "output": {
        "path": "/var/log/audit-enricher/events.json",
        "format": "json",
        "written": 1234,
        "rotations": 2,
        "waiting": 0,
        "failed": 0,
        "error": "",
    },
    "sinks": [
        {
            "name": "siem",
            "type": "relp",
            "schema": "native",
            "queue": "spool",
            "waiting": 12,
            "waiting_bytes": 4096,
            "oldest_seconds": 3.2,
            "sent": 90,
            "taken": 78,
            "refused": 1,
            "retries": 2,
            "errors": 3,
            "bugs": 0,
            "lost": 4,
            "unsure": 5,
            "unheard": 6,
            "error": "siem is away",
        },
        {"name": "b", "type": "file", "schema": "ecs", "queue": "memory", "taken": 3, "new": [1]},
    ],
    "journal": {
        "path": "/var/lib/audit-enricher/journal.sqlite",
        "bytes": 3 << 20,
        "max_bytes": 256 << 20,
        "events": 70_000,
        "oldest": "2026-02-28T12:00:00.000Z",
        "waiting": 3,
        "lost": 0,
        "failed": 0,
        "error": "",
    },
    "account": {"events": 1234, "counts": {"netlink_drops": 0}},
    "account_words": "events  1234\nevery record is accounted for",
    "gap": {"first": 10, "last": 19, "reason": "restart", "events": 10},
    "reloaded": None,
    "config": {"files": ["/etc/audit-enricher/audit-enricher.toml"]},
    "followers": 0,
    "capabilities": ["CAP_AUDIT_READ", "CAP_BPF"],
    "rss": 47_185_920 + 52_429,
    "watchdog": True,
}

SHOWN = """\
mode            full
version         1.2
pid             812
running since   2026-03-01T12:00:00.000Z
configuration   /etc/audit-enricher/audit-enricher.toml
kernel          6.1.0-18-amd64
hook            audit_log_end
loader          libbpf
rings           4, together 32 MiB
records by      daemon
receive buffer  32 MiB
output          /var/log/audit-enricher/events.json (json), 1234 events written, 2 rotations
SINKS
journal         /var/lib/audit-enricher/journal.sqlite, 3 MiB, 70000 events, from 2026-02-28T12:00:00.000Z on
followers       0
gap             serials 10 to 19, at most 10 events: between two runs of the service nobody looked
capabilities    CAP_AUDIT_READ, CAP_BPF
memory          45.1 MiB
watchdog        yes

events  1234
every record is accounted for
""".replace(
    "SINKS",
    "destinations    siem (relp, native, spool): 78 taken, 12 wait (4 KiB, the oldest for 3s), 1 REFUSED for ever,"
    " 4 LOST, 5 perhaps not there, 6 while nobody was connected, it FAILS now: siem is away;"
    " b (file, ecs, memory): 3 taken, new [1]",
)


def asked(service: FakeService, *options: str) -> int:
    return command.main(["status", "--config", str(service.config), *options])


def nobody(directory: Path) -> Path:
    config = directory / "config.toml"
    config.write_text(f'[control]\nsocket = "{directory / "sock"}"\ngroup = "readers"\n')
    return config


def test_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeService(tmp_path, STATUS) as service:
        assert asked(service) == 0
    assert capsys.readouterr() == (SHOWN, "")


def test_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = STATUS | {"config": {"files": ["/etc/\udcff\x9b"]}}
    with FakeService(tmp_path, status) as service:
        assert asked(service, "--json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err, out.count("\n")) == (status, "", 1)
    assert out.isascii()


def row(answer: dict[str, Any], label: str) -> str:
    return next((line for line in words(answer) if line.startswith(label)), "")


@pytest.mark.parametrize(
    ("member", "value", "shown"),
    [
        ("hook", "", ""),
        ("config", {"files": []}, "configuration   defaults"),
        ("capabilities", [], "capabilities    none"),
        ("watchdog", False, "watchdog        no"),
        ("gap", None, "gap             none before this run"),
        ("gap", {"first": 1, "last": 2, "reason": "boot", "events": 2}, "from the start of this boot"),
        ("gap", {"first": 1, "last": 2, "reason": "new \x1b", "events": 2}, "events: new \\x1b"),
        ("rings", {"count": 0, "bytes": 0}, "rings           none"),
        ("receive_buffer", 1000, "receive buffer  1000 bytes"),
        ("receive_buffer", None, ""),
        ("reloaded", "2026-03-01T13:00:00Z", "settings reloaded  2026-03-01T13:00:00Z"),
        ("output", STATUS["output"] | {"failed": 3}, "3 events NOT written"),
        ("output", STATUS["output"] | {"waiting": 7}, "7 events wait for it"),
        ("output", STATUS["output"] | {"error": "disk \x1b full"}, "it FAILS now: disk \\x1b full"),
        ("output", STATUS["output"] | {"new": [1]}, "new [1]"),
        ("journal", None, "none is kept"),
        ("journal", STATUS["journal"] | {"oldest": None}, "70000 events"),
        ("journal", STATUS["journal"] | {"lost": 4, "failed": 5}, "4 events NOT kept, 5 writes failed"),
        ("journal", STATUS["journal"] | {"error": "disk \x1b full"}, "it FAILS now: disk \\x1b full"),
        ("journal", {"path": 1}, "path"),
    ],
)
def test_members(member: str, value: object, shown: str) -> None:
    labels = {
        "way": "records by",
        "receive_buffer": "receive buffer",
        "config": "configuration",
        "reloaded": "settings",
    }
    assert shown in row(STATUS | {member: value}, labels.get(member, member))
    assert shown or not row(STATUS | {member: value}, labels.get(member, member))


def test_degraded_is_the_first_thing_said() -> None:
    first = words(STATUS | {"mode": "degraded", "degraded": "no hook \x1b"})[0]
    assert first == "mode            DEGRADED: no hook \\x1b"


def test_members_may_be_missing() -> None:
    assert words({}) == []
    for member in STATUS:
        assert words({name: value for name, value in STATUS.items() if name != member})
    for member in STATUS["output"]:
        assert words({"output": {name: value for name, value in STATUS["output"].items() if name != member}})


@pytest.mark.parametrize(
    "value", [None, 0, -1, 1.5, float("inf"), float("nan"), True, "x\x1b", [], ["x"], {}]
)
def test_members_may_be_of_any_shape(value: object) -> None:
    for member in STATUS:
        for line in words(STATUS | {member: value}):
            assert line.isprintable()
    for outer in ("rings", "output", "gap", "config"):
        for member in STATUS[outer]:
            for line in words({outer: STATUS[outer] | {member: value}}):
                assert line.isprintable()


def test_new_members_are_shown_as_they_are() -> None:
    assert 'new\\x1b  {"a": [1, null, "\\\\u001b"]}' in words({"new\x1b": {"a": [1, None, "\x1b"]}})
    assert words({"account": {"events": 1}}) == ['account  {"events": 1}'], "where there are no words for it"


def test_nothing_hostile_reaches_the_terminal() -> None:
    answer = dict.fromkeys(STATUS, "\x1b]0;\x07\x9b\u202e\udcff") | {"\x1b[2J": "\x1b[2J"}
    for line in words(answer):
        assert line.isprintable()


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = nobody(tmp_path)
    assert command.main(["status", "--config", str(config)]) == 13
    out, err = capsys.readouterr()
    assert (out, "no service answers" in err, "hint: " in err) == ("", True, True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "sock"))
    assert command.main(["status", "--config", str(config)]) == 13


def test_who_is_not_admitted_is_told_whom_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "connect", refused)
    assert command.main(["status", "--config", str(nobody(tmp_path))]) == 2
    assert "hint: be root or in the group readers" in capsys.readouterr().err


def test_a_configuration_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It keeps nobody from asking: the service runs on with the settings it had."""
    config = tmp_path / "config.toml"
    socket_path = tmp_path / "nobody.sock"
    config.write_text(f'[control]\nsocket = "{socket_path}"\n[output]\npath = 1\n')
    assert command.main(["status", "--config", str(config)]) == 13
    said = capsys.readouterr().err
    assert "the configuration is wrong" in said
    assert str(socket_path) in said


def test_the_reader_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with FakeService(tmp_path, STATUS) as service, open(writer, "w", encoding="utf-8") as gone:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stdout", gone)
        assert asked(service) == 0


# -- what else may answer ----------------------------------------------------------------------------


def answered(directory: Path, said: bytes) -> dict[str, object]:
    """Return what the client makes of a service that says this, and goes."""
    path = str(directory / "sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return control_client.status(path)
        finally:
            thread.join()


@pytest.mark.parametrize(
    "said", [b"", b"{}", b"x\n", b"[]\n", b"\xff\n", b"[" * 100_000 + b"\n", b"\n", b"1\n"]
)
def test_what_is_no_answer(tmp_path: Path, said: bytes) -> None:
    with pytest.raises(NotRunning) as caught:
        answered(tmp_path, said)
    assert caught.value.hint


def test_an_answer_without_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "ANSWER_MAX", 1 << 10)
    monkeypatch.setattr(control_client, "_READ", 1 << 10)
    with pytest.raises(NotRunning):
        answered(tmp_path, b"{" + b" " * 10_000 + b"}\n")


def test_what_is_refused_is_said_harmlessly(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        answered(tmp_path, b'{"error":"no \\u001b[2J","hint":"\\u009b"}\n')
    assert (caught.value.message, caught.value.hint) == ("no \\x1b[2J", "\\x9b")


def test_who_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "ANSWER_WITHIN", 0.01)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "sock"))
        deaf.listen(0)
        with pytest.raises(NotRunning, match="does not answer"):
            control_client.status(str(tmp_path / "sock"))
        with pytest.raises(NotRunning, match="does not answer"):  # its queue is full
            control_client.status(str(tmp_path / "sock"))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"state": "off"}, "names of containers  off"),
        (
            {"state": "on", "asked": 5, "answered": 3, "unknown": 2, "timed_out": 0, "held": 3},
            "names of containers  on, 3 of 5 questions answered, 2 unknown, held 3",
        ),
        ({"state": "ended", "asked": 0, "timed_out": 1}, "names of containers  ended, timed out 1"),
        ({"state": "on", "asked": 5}, 'names of containers  {"state": "on", "asked": 5}'),
    ],
)
def test_what_is_known_of_containers(value: dict[str, object], line: str) -> None:
    assert words({"metadata": value}) == [line]
