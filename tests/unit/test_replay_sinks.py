# SPDX-License-Identifier: Apache-2.0
"""`replay --sinks`: from a capture through real senders to a receiver that is there and one that is not."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.cli import main as command
from enricher.errors import OutputFailed, UsageError
from tests import schema
from tests.delivery.receivers.bulk import BulkReceiver
from tests.delivery.receivers.hec import HecReceiver
from tests.delivery.receivers.otlp import OtlpReceiver
from tests.unit.fake_receivers import Receiver
from tests.unit.sample_capture import write
from tests.unit.test_cli_replay import GOOD
from tests.unit.test_delivery_relp import Relp


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    path = tmp_path / "capture"
    write(path, GOOD)
    return path


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def configured(directory: Path, text: str) -> Path:
    path = directory / "conf.toml"
    path.write_text(text)
    return path


def relp(name: str, address: str, more: str = "") -> str:
    return f'[sinks.{name}]\ntype = "relp"\naddress = "{address}"\ntimeout = 5\n{more}\n'


def test_one_is_away_and_the_other_gets_everything(
    capture: Path, tmp_path: Path, nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    relp_side = Relp()
    with Receiver(relp_side) as receiver:
        config = configured(
            tmp_path,
            relp("here", receiver.address)
            + relp("away", nowhere)
            + f'[sinks.file]\ntype = "file"\npath = "{tmp_path}/out.json"\nfilter = "type == USER_AVC"\n',
        )
        code = command.main(["replay", str(capture), "--config", str(config), "--sinks", "--for", "2s"])
        receiver.join()
    said = capsys.readouterr()
    assert said.out == ""
    assert code == OutputFailed.exit_code
    assert "here: 2 taken, 0 retries, 0 waiting, 0 refused, 0 lost, 0 unsure\n" in said.err
    assert re.search(
        r"^away: 0 taken, \d+ retries, 2 waiting, 0 refused, 0 lost, 0 unsure$", said.err, re.MULTILINE
    )
    assert len(relp_side.uids) == 2
    (event,) = schema.parse((tmp_path / "out.json").read_bytes())
    assert event["type"] == "USER_AVC"

    # What waits is in the spool: the next replay delivers it before its own.
    other = Relp()
    with Receiver(other) as receiver:
        config = configured(tmp_path, relp("away", receiver.address))
        code = command.main(["replay", str(capture), "--config", str(config), "--sinks"])
        receiver.join()
    assert code == 0
    assert other.uids == relp_side.uids * 2


def test_the_output_may_be_written_as_well(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, f'[sinks.file]\ntype = "file"\npath = "{tmp_path}/out.json"\n')
    output = tmp_path / "output"
    argv = ["replay", str(capture), "--config", str(config), "--sinks", "--format", "json"]
    assert command.main([*argv, "--output", str(output)]) == 0
    assert capsys.readouterr().out == ""
    assert output.read_bytes() == (tmp_path / "out.json").read_bytes() != b""


def test_what_a_receiver_refuses_is_told_by_the_exit_code(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Receiver(Relp(lambda _: b"500 no")) as receiver:
        config = configured(tmp_path, relp("a", receiver.address))
        code = command.main(["replay", str(capture), "--config", str(config), "--sinks", "--for", "15s"])
    assert code == OutputFailed.exit_code
    assert "a: 0 taken, " in capsys.readouterr().err
    assert (tmp_path / "state" / "rejected" / "a.json").read_text().count("\n") == 2


@pytest.mark.parametrize(
    "argv, text, said",
    [
        (["--sinks"], "", "no destination is configured"),
        (["--for", "3s"], "", "--for without --sinks"),
        (["--sinks"], "[sinks.a]\ntype = 'relpp'\n", "conf.toml:2: type: there is no type 'relpp'"),
    ],
)
def test_what_cannot_be(  # noqa: PLR0913 - fixtures
    argv: list[str],
    text: str,
    said: str,
    capture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configured(tmp_path, text)
    code = command.main(["replay", str(capture), "--config", str(config), *argv])
    assert code == UsageError.exit_code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind, make", [("elasticsearch", BulkReceiver), ("splunk_hec", HecReceiver), ("otlp", OtlpReceiver)]
)
def test_every_type_that_speaks_http(
    kind: str,
    make: Callable[[], BulkReceiver | HecReceiver | OtlpReceiver],
    capture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with make() as receiver:
        config = configured(tmp_path, f'[sinks.a]\ntype = "{kind}"\nurl = "{receiver.url}"\n')
        code = command.main(["replay", str(capture), "--config", str(config), "--sinks", "--for", "20s"])
    assert code == 0
    assert "a: 2 taken, 0 retries, 0 waiting, 0 refused, 0 lost, 0 unsure\n" in capsys.readouterr().err
    assert len(receiver.uids) == 2


def test_a_receiver_that_says_nothing_and_goes_is_told_as_not_sure(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{receiver.getsockname()[1]}"
        text = f'[sinks.a]\ntype = "syslog"\ntransport = "udp"\naddress = "{address}"\nqueue = "memory"\n'
        config = configured(tmp_path, text)
        code = command.main(["replay", str(capture), "--config", str(config), "--sinks"])
        receiver.settimeout(10.0)
        assert b'"type":"SYSCALL"' in receiver.recv(65536)
    assert code == OutputFailed.exit_code  # UDP never tells
    assert "a: 2 taken, 0 retries, 0 waiting, 0 refused, 0 lost, 2 unsure\n" in capsys.readouterr().err


def test_an_auditd_consumer_gets_lines_of_a_socket(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(
        tmp_path, f'[sinks.a]\ntype = "unix"\npath = "{tmp_path}/sock"\nschema = "text"\ndrain = 0.1\n'
    )
    # Nobody is there, as with auditd: the events are gone, and nothing is wrong.
    assert command.main(["replay", str(capture), "--config", str(config), "--sinks"]) == 0
    assert ", 0 lost, 0 unsure, 2 unheard\n" in capsys.readouterr().err
    assert not (tmp_path / "sock").exists()
