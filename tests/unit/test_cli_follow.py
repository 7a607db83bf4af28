# SPDX-License-Identifier: Apache-2.0
"""`audit-enricher follow`: the service's events, each once, until somebody has enough of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.cli import main as command
from enricher.cli.follow import _row
from enricher.enrich.native import NativeBuilder
from enricher.model import Event
from enricher.route.language import LENGTH_MAX
from enricher.route.views import native_json
from enricher.route.views.table import Table
from enricher.runtime.control import ControlServer
from enricher.sources.names import NoNames
from tests.unit.fake_control import FakeService, offer
from tests.unit.sample_events import BOX_INUMS, HOST, USER_LOGIN, context, event, exec_event

Act = Callable[[ControlServer], None]

EVENTS = [
    exec_event(),
    exec_event(context(inums=BOX_INUMS, levels=((4026531836, 4711), (4026532260, 7)))),
    event((1112, USER_LOGIN)),
    event((1300, b"\xff\x1b broken")),
]
NATIVE = [NativeBuilder(HOST, raw=False, names=NoNames()).build(each) for each in EVENTS]
LINES = [native_json.render(native) for native in NATIVE]


def publish(lines: list[bytes]) -> Act:
    return lambda server: offer(server, [Event(b"1.000:1", 0.0) for _ in lines], lines)


def follow(service: FakeService, *options: str) -> int:
    return command.main(["follow", "--config", str(service.config), *options])


def test_events_come_as_the_service_wrote_them(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with FakeService(tmp_path, act=publish(LINES)) as service:
        assert follow(service, "--count", str(len(LINES))) == 0
    assert capfdbinary.readouterr() == (b"".join(LINES), b"audit-enricher: ready\n")


def test_no_more_than_were_asked_for(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with FakeService(tmp_path, act=publish(LINES)) as service:
        assert follow(service, "--count", "2", "--format", "json") == 0
    assert capfdbinary.readouterr().out == b"".join(LINES[:2])


def test_the_table_is_that_of_the_events(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with FakeService(tmp_path, act=publish(LINES)) as service:
        assert follow(service, "--count", str(len(LINES)), "--format", "table") == 0
    table = Table()
    rows = [table.header(), *map(table.render, NATIVE)]
    assert capfdbinary.readouterr().out == b"".join(rows)


def test_the_filters_are_the_services(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    ours = exec_event()
    ours.self_caused = True
    events = [EVENTS[2], ours, EVENTS[0]]

    def act(server: ControlServer) -> None:
        offer(server, events, [b'{"schema":"audit-enricher/1","n":%d}\n' % number for number in range(3)])

    with FakeService(tmp_path, act=act) as service:
        assert follow(service, "--key", "exec", "--type", "EXECVE", "--no-self", "--count", "1") == 0
    assert capfdbinary.readouterr().out == b'{"schema":"audit-enricher/1","n":2}\n'


def test_a_type_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeService(tmp_path) as service:
        assert follow(service, "--type", "SYSCAL\x1b") == 2
    err = capsys.readouterr().err
    assert "no such record type: SYSCAL\\x1b" in err
    assert "SYSCALL" in err


def test_an_expression_is_compiled_by_the_service(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def act(server: ControlServer) -> None:
        offer(server, EVENTS, LINES)

    with FakeService(tmp_path, act=act) as service:
        assert follow(service, "--filter", "namespace.net != host and ses == 3", "--count", "2") == 0
    assert capfdbinary.readouterr().out == LINES[1] + LINES[2]


def test_a_wrong_expression_is_shown_as_if_it_were_compiled_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeService(tmp_path) as service:
        assert follow(service, "--filter", "key == 'a\x9b' and\nwhere = host") == 2
    assert capsys.readouterr().err.splitlines() == [
        "audit-enricher: filter, line 2, column 7: = means nothing here",
        "  where = host",
        "        ^",
        "  hint: equal is written ==",
    ]
    with FakeService(tmp_path) as service:
        assert follow(service, "--filter", r"comm == a\b and nonsense == 1") == 2
    assert capsys.readouterr().err.splitlines()[1:3] == [
        r"  comm == a\b and nonsense == 1",
        "                  ^",
    ]
    for wrong in ("nonsense \x1b[2J == \x9b", "(" * 5_000, "\udcff" * 2_000, "key == \udcff\x9b nonsense"):
        with FakeService(tmp_path) as service:
            assert follow(service, "--filter", wrong) == 2
        err = capsys.readouterr().err
        assert err.startswith("audit-enricher: filter, column ")
        assert err.replace("\n", "").isprintable()


def test_the_longest_filter_goes_through_the_socket(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    start = "not key in (x"
    longest = start + ", \U0001f600" * ((LENGTH_MAX - len(start) - 1) // 6) + ")"
    with FakeService(tmp_path, act=publish(LINES)) as service:
        assert follow(service, "--filter", longest, "--count", "1") == 0
    assert capfdbinary.readouterr().out == LINES[0]


def test_more_than_can_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The service does not read all of it, and its answer is read all the same."""
    with FakeService(tmp_path) as service:
        assert follow(service, "--key", "x" * 1_000_000) == 2
    assert "a request of more than" in capsys.readouterr().err


def test_without_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[control]\nsocket = "{tmp_path / "sock"}"\n')
    assert command.main(["follow", "--config", str(config)]) == 13
    assert "no service answers" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_the_end(tmp_path: Path, number: signal.Signals) -> None:
    with FakeService(tmp_path, act=lambda _server: os.kill(os.getpid(), number)) as service:
        assert follow(service) == 0


def test_sigusr1_is_nothing(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def act(server: ControlServer) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        publish(LINES)(server)

    with FakeService(tmp_path, act=act) as service:
        assert follow(service, "--count", "4") == 0
    assert capfdbinary.readouterr().out == b"".join(LINES)


def test_the_service_goes_away(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """What it sent before is shown, and then it is said."""
    with FakeService(tmp_path, act=publish(LINES), ends=True) as service:
        assert follow(service) == 13
    out, err = capfdbinary.readouterr()
    assert out == b"".join(LINES)
    assert b"has ended" in err
    assert b"hint: " in err


@pytest.mark.parametrize("events", [0, 1])
def test_the_reader_goes_away(tmp_path: Path, events: int) -> None:
    """Also while nothing comes."""
    script = "import sys; from enricher.cli.main import main; sys.exit(main())"
    reader, writer = os.pipe()
    os.close(reader)
    with FakeService(tmp_path, act=publish(LINES[:events])) as service:
        done = subprocess.run(
            [sys.executable, "-c", script, "follow", "--config", str(service.config)],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    os.close(writer)
    assert (done.returncode, b"the reader of the output went away" in done.stderr) == (0, True)


def test_what_was_skipped_is_said_and_is_no_event(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    lines = [LINES[0], b'{"skipped":17}\n', LINES[1]]
    with FakeService(tmp_path, act=publish(lines)) as service:
        assert follow(service, "--count", "2") == 0
    out, err = capfdbinary.readouterr()
    assert out == LINES[0] + LINES[1]
    assert b"17 events are not shown" in err


def test_a_long_event_is_put_together(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    long = b'{"schema":"audit-enricher/1","x":"' + b"x" * 2_000_000 + b'"}\n'
    with FakeService(tmp_path, act=publish([long, LINES[0]])) as service:
        assert follow(service, "--count", "2") == 0
    assert capfdbinary.readouterr().out == long + LINES[0]


# -- another version ---------------------------------------------------------------------------------


def test_lines_of_another_version(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = [b'{"schema":"audit-enricher/9"}\n', b'{"news":"\\u001b"}\n', b"\x1b\xff\n", b"[]\n", b"\n"]
    with FakeService(tmp_path, act=publish(lines)) as service:
        assert follow(service, "--count", "1", "--format", "json") == 0
    out, err = capfdbinary.readouterr()
    assert out == lines[0]
    assert err.count(b"not understood") == 4
    assert b"\x1b" not in err


@pytest.mark.parametrize(
    "line",
    [
        b'{"schema":"audit-enricher/9"}',
        b'{"schema":1,"id":2}',
        b"[]",
        b"{",
        b"\xff\x1b",
        b'{"schema":"audit-enricher/1","id":"x","type":"\\u001b","keys":[],"enrichment":{},"records":[]}',
        b'{"id":"1.0:1","type":1,"keys":null,"enrichment":[],"records":{}}',
    ],
)
def test_an_event_of_any_shape_is_a_harmless_row(line: bytes) -> None:
    row = _row(Table(), line)
    assert row.endswith(b"\n")
    assert row[:-1].decode().isprintable()


@pytest.mark.parametrize("width", [None, 80, 120])
@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_the_row_of_an_event_that_was_json(number: int, width: int | None) -> None:
    table = Table(width, colour=True)
    assert _row(table, LINES[number]) == table.render(NATIVE[number])
    assert json.loads(LINES[number]) == NATIVE[number]
