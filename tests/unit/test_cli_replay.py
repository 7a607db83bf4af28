# SPDX-License-Identifier: Apache-2.0
"""`replay`: captures and logs told apart, damage told after everything before it was used, no host asked."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from enricher.cli import main as command
from enricher.cli import replay as replay_command
from enricher.model import Batch, KernelCounts
from enricher.runtime import startup
from enricher.runtime.output import Output
from enricher.sinks.stream import OutputClosed
from enricher.sources import host as hosts
from enricher.sources.audit.types import text_name_of
from tests import schema
from tests.unit.fake_host import image
from tests.unit.sample_capture import HEAD, MAGIC, PARTS, frame, head_members, write
from tests.unit.sample_events import EXEC
from tests.unit.sample_stream import alone, context, record, tally

Event = dict[str, object]
EVENT = (context(101), tally(101, 7))
BATCH = Batch([record(101, *each) for each in EXEC], [], [], parked=False, now=50.0, wall=1772366450.0)
NAMES: list[tuple[str, tuple[object, ...]]] = [
    ("answer", ("user", 0, "root")),
    ("answer", ("group", 0, "wheel")),
]
NONCE = Batch([record(102, 1107)], [], [], parked=False, now=51.0, wall=1772366451.0)
GOOD: list[tuple[str, tuple[object, ...]]] = [
    ("head", (HEAD,)),
    ("turn", (BATCH, [image(each) for each in EVENT])),
    *NAMES,
    ("stop", (102,)),
    ("turn", (NONCE, [image(alone(102))])),
    ("end", (52.0, 1772366452.0, KernelCounts(hook_records=8, counted=8))),
]
LOG = b"".join(b"type=%b msg=%b\n" % (text_name_of(each.type).encode(), each.text) for each in BATCH.records)


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: ARG001 - pytest asks for a name to make it
    """Nothing is attached, no name is looked up, no fact of this machine is read."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the host was asked")

    for owner, name in ((startup, "start"), (hosts, "read_host_facts"), (hosts, "standing")):
        monkeypatch.setattr(owner, name, asked)
    for name in ("pwd.getpwuid", "grp.getgrgid", "os.uname"):
        monkeypatch.setattr(name, asked)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "capture"
    write(path, GOOD)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(LOG)
    return path


class Replayed:
    """What a replay did."""

    def __init__(self, code: int, output: Path, said: str) -> None:
        self.code = code
        self.output = output
        self.lines = output.read_bytes().splitlines() if output.exists() else []
        self.said = said

    @property
    def events(self) -> list[Event]:
        return schema.parse(b"\n".join(self.lines))


def replay(capsys: pytest.CaptureFixture[str], output: Path, *argv: object) -> Replayed:
    output.unlink(missing_ok=True)
    code = command.main(["replay", *map(str, argv), "--format", "json", "--output", str(output)])
    said = capsys.readouterr()
    assert said.out == ""
    return Replayed(code, output, said.err)


class Raw(io.BytesIO, io.RawIOBase):
    """Bytes as a raw file."""


class Broken(io.RawIOBase):
    """A disk that cannot be read."""

    def readable(self) -> bool:
        return True

    def readinto(self, _: object) -> int:
        raise OSError(5, "Input/output error")


def on_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Raw(data))))


def named(event: Event) -> object:
    return event["records"][0]["fields"].get("UID")  # type: ignore[index]


# -- a capture or a log ------------------------------------------------------------------------------


def test_a_capture(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = replay(capsys, tmp_path / "out", good)
    assert done.code == 0
    assert [event["type"] for event in done.events] == ["SYSCALL", "USER_AVC"]
    assert done.events[0]["host"]["name"] == HEAD.facts.name  # type: ignore[index]
    assert named(done.events[0]) == "root"
    assert done.said.startswith(
        "audit-enricher: a capture of web1, Linux 6.12.0, hook audit_log_end, loader libbpf, made by version 1.2.3\n"
    )
    assert "records delivered " in done.said
    assert done.said.endswith("every record is accounted for\n")


def test_a_log(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = replay(capsys, tmp_path / "out", log)
    assert done.code == 0
    (event,) = done.events
    assert (event["type"], event["host"], named(event)) == ("SYSCALL", {}, None)
    assert "namespaces" not in event
    assert done.said == (
        "audit-enricher: 7 records in 1 events; 0 lines of our own left out, 0 malformed lines passed through,"
        " 0 truncated\n"
    )


@pytest.mark.parametrize(("wanted", "found"), [("contid == 1", 1), ("contid == 4", 1), ("contid == 3", 0)])
def test_a_logs_container_identifiers(
    wanted: str, found: int, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of our own text output they are read: nothing else in a log tells them."""
    stamp = LOG.partition(b"audit(")[2].partition(b")")[0]
    log.write_bytes(LOG + b'type=UNKNOWN[1391] msg=audit(%b): record="1" contid="4,^2,^1"\n' % stamp)
    done = replay(capsys, tmp_path / "out", log, "--filter", wanted)
    assert [event["contid"] for event in done.events] == found * [["4", "2", "1"]]
    assert "0 lines of our own left out" in done.said


def test_names_of_a_log_are_not_looked_up(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the id that stands for nobody has its word."""
    log.write_bytes(LOG.replace(b"auid=1000", b"auid=4294967295"))
    (event,) = replay(capsys, tmp_path / "out", log).events
    fields = event["records"][0]["fields"]  # type: ignore[index]
    assert {name: fields.get(name) for name in ("AUID", "UID", "GID")} == {
        "AUID": "unset",
        "UID": None,
        "GID": None,
    }


@pytest.mark.parametrize("kind", ["capture", "log"])
def test_standard_input(
    kind: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_stdin(monkeypatch, good.read_bytes() if kind == "capture" else LOG)
    done = replay(capsys, tmp_path / "out", "-")
    assert (done.code, len(done.events)) == (0, 2 if kind == "capture" else 1)
    assert ("namespaces" in done.events[0]) == (kind == "capture")


def test_damage_of_standard_input_names_it(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_stdin(monkeypatch, good.read_bytes()[:-1])
    done = replay(capsys, tmp_path / "out", "-")
    assert (done.code, len(done.events)) == (12, 2)
    assert "audit-enricher: standard input: the file ends within a frame, at byte " in done.said


def test_several_logs(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "audit.log.1"
    other.write_bytes(gzip.compress(LOG.replace(b":101)", b":100)")))
    done = replay(capsys, tmp_path / "out", log, other)
    assert [str(event["id"])[-3:] for event in done.events] == ["100", "101"]


@pytest.mark.parametrize("order", [["c", "l"], ["l", "c"], ["c", "c"], ["l", "-"]])
def test_a_capture_among_others_is_refused(  # noqa: PLR0913 - fixtures
    order: list[str],
    good: Path,
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_stdin(monkeypatch, good.read_bytes())
    files = [{"c": str(good), "l": str(log), "-": "-"}[name] for name in order]
    done = replay(capsys, tmp_path / "out", *files)
    assert (done.code, done.lines) == (2, [])
    name = "-" if "-" in files else str(good)
    assert done.said.startswith(f"audit-enricher: {name} is a capture, and there are other files\n")


def test_a_log_may_begin_almost_as_a_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"AUDENR\n" + LOG)
    done = replay(capsys, tmp_path / "out", tmp_path / "x")
    assert (done.code, len(done.events)) == (0, 2)


def test_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").touch()
    done = replay(capsys, tmp_path / "out", tmp_path / "x")
    assert (done.code, done.lines) == (0, [])
    assert "0 records in 0 events" in done.said


@pytest.mark.parametrize(
    ("name", "why"),
    [("nowhere", "No such file"), (".", "no audit.log"), ("a\0b", "null byte"), ("x" * 300, "too long")],
)
def test_what_cannot_be_read(name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = replay(capsys, tmp_path / "out", f"{tmp_path}/{name}")
    assert (done.code, done.lines) == (2, [])
    assert why in done.said


def test_a_capture_that_is_gone_when_it_is_opened(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object) -> bool:
        good.unlink()
        return True

    monkeypatch.setattr(replay_command, "_names_capture", looked)
    done = replay(capsys, tmp_path / "out", good)
    assert (done.code, "cannot be read: No such file" in done.said) == (2, True)


@pytest.mark.parametrize(
    ("shell", "code", "why"),
    [
        ("replay - <&-", 2, "standard input is closed"),
        ("replay %s <&-", 0, "7 records in 1 events"),
        ("replay - </dev/null", 0, "0 records in 0 events"),
    ],
)
def test_odd_standard_inputs(shell: str, code: int, why: str, log: Path) -> None:
    line = f"{sys.executable} -m enricher {shell.replace('%s', str(log))}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - redirections
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert why in done.stderr


def test_a_standard_input_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    done = replay(capsys, tmp_path / "out", "-")
    assert (done.code, done.lines) == (12, [])
    assert "standard input" in done.said
    assert "Input/output error" in done.said


@pytest.mark.parametrize("kind", ["capture", "log"])
def test_a_real_pipe(kind: str, good: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "enricher", "replay", "-", "--format", "json"],
        input=good.read_bytes() if kind == "capture" else LOG,
        capture_output=True,
        check=True,
    )
    assert len(schema.parse(done.stdout)) == (2 if kind == "capture" else 1)


NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all", "--inh-caps=-all", "--"),
)
AS_NOBODY = """
import os, sys
held = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapPrm", "CapEff", "CapBnd"))]
assert os.getresuid() == (65534,) * 3 and not any(int(each, 16) for each in held), held
from enricher.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("kind", ["capture", "log"])
def test_who_may_do_nothing_gets_the_same_bytes(
    kind: str, good: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No user's rights and no capability; what is read is handed over, since this directory is not open to all."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    if subprocess.run([*NOBODY, "test", "-r", command.__file__], check=False).returncode:
        pytest.skip("nobody may not read this checkout")
    source = good if kind == "capture" else log
    done = subprocess.run(
        [*NOBODY, sys.executable, "-c", AS_NOBODY, "replay", "-", "--format", "json"],
        input=source.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == (own := replay(capsys, tmp_path / "own", source)).output.read_bytes()
    assert len(own.events) == (2 if kind == "capture" else 1)


def test_a_pipe_that_was_left_non_blocking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look as if it had ended wherever the writer is slower."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, LOG)
    os.close(writer)
    with os.fdopen(reader, encoding="ascii") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        done = replay(capsys, tmp_path / "out", "-")
        assert os.get_blocking(reader)
    assert (done.code, len(done.events)) == (0, 1)


def test_what_is_held_of_a_log_comes_out_where_a_later_stream_cannot_be_used(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(LOG[: LOG.rindex(b"type=")])  # without its EOE
    on_stdin(monkeypatch, b"\x28\xb5\x2f\xfd" + bytes(10))
    done = replay(capsys, tmp_path / "out", log, "-")
    assert (done.code, len(done.events)) == (2, 1)
    assert done.said.index("6 records in 1 events") < done.said.index("standard input: packed with zstd")


# -- damage ------------------------------------------------------------------------------------------


def test_a_damaged_capture_is_used_accounted_for_and_then_told(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(good.read_bytes())
    data[-3] ^= 1
    good.write_bytes(bytes(data))
    done = replay(capsys, tmp_path / "out", good)
    assert (done.code, len(done.events)) == (12, 2)
    account, _, error = done.said.partition("audit-enricher: " + str(good))
    assert "records delivered " in account
    assert error.startswith(": the checksum of a frame does not fit, at byte ")
    assert error.endswith("hint: everything before that was used\n")


def test_a_run_that_was_killed_is_not_marked(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.unlink()
    write(good, GOOD[:4])
    done = replay(capsys, tmp_path / "out", good)
    assert (done.code, len(done.events)) == (12, 1)
    assert "not marked by a self-test record at both ends" in done.said
    assert "the end is missing" in done.said


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (MAGIC, 12),
        (MAGIC[:7], 12),
        (MAGIC[:7] + b"\x02", 2),
        (MAGIC + frame("head", 2, "x", 1), 2),
        (MAGIC + frame("stop", 1), 12),
        (MAGIC + b"\xff" * 100, 12),
    ],
)
def test_a_head_that_is_none(
    data: bytes, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(data)
    done = replay(capsys, tmp_path / "out", tmp_path / "x")
    assert (done.code, done.lines) == (code, [])


def test_a_damaged_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit.log.gz").write_bytes(gzip.compress(LOG)[:-6])
    done = replay(capsys, tmp_path / "out", tmp_path / "audit.log.gz")
    assert (done.code, len(done.events)) == (12, 1)
    assert done.said.index("7 records in 1 events") < done.said.index(str(tmp_path / "audit.log.gz"))


def test_nothing_of_a_head_reaches_a_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;x\x07\n\u202eroot"
    head = head_members(name=evil, program=evil, kernel=evil, hook=evil, loader=evil)
    (tmp_path / "x").write_bytes(MAGIC + frame(*head) + frame("end", 1.0, 1.0, {}))
    done = replay(capsys, tmp_path / "out", tmp_path / "x")
    assert done.code == 0
    assert all(line.isprintable() for line in done.said.splitlines())
    assert done.said.count("\\x1b") == 5


# -- the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["capture", "log"])
def test_a_count_ends_it(
    kind: str, good: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_bytes(LOG + LOG.replace(b":101)", b":102)"))
    done = replay(capsys, tmp_path / "out", good if kind == "capture" else log, "--count", "1")
    assert (done.code, len(done.events)) == (0, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(
    number: signal.Signals,
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emit = Output.emit

    def interrupted(self: Output, events: list[object]) -> None:
        emit(self, events)  # type: ignore[arg-type]
        signal.raise_signal(number)

    monkeypatch.setattr(Output, "emit", interrupted)
    done = replay(capsys, tmp_path / "out", good)
    assert (done.code, len(done.events)) == (0, 1)
    assert "not marked by a self-test record at both ends" in done.said


def test_a_request_for_the_account_ends_nothing(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = Output.emit

    def asked(self: Output, events: list[object]) -> None:
        emit(self, events)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(Output, "emit", asked)
    assert len(replay(capsys, tmp_path / "out", good).events) == 2


@pytest.mark.parametrize("kind", ["capture", "log"])
def test_a_reader_that_goes_away(  # noqa: PLR0913 - fixtures
    kind: str,
    good: Path,
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> None:
        raise OutputClosed("the reader of standard output has gone")

    monkeypatch.setattr(Output, "emit", gone)
    done = replay(capsys, tmp_path / "out", good if kind == "capture" else log)
    assert done.code == 0
    assert done.said.endswith("audit-enricher: the reader of the output went away\n")


def test_a_full_output(good: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert command.main(["replay", str(good), "--output", "/dev/full"]) == 9


@pytest.mark.parametrize("view", ["json", "text", "table"])
def test_every_format_of_every_frame(view: str, tmp_path: Path) -> None:
    """Hostile texts, deep levels, a record without a stamp."""
    write(tmp_path / "x", PARTS)
    out = tmp_path / view
    assert command.main(["replay", str(tmp_path / "x"), "--format", view, "--output", str(out), "--raw"]) == 0
    text = out.read_bytes()
    assert len(text) > 300
    assert b"\x1b" not in text
    assert b"\0" not in text


def test_the_log_is_one() -> None:
    """Of the tests themselves: the log is one that the reader knows."""
    assert LOG.startswith(b"type=SYSCALL msg=audit(1772366400.042:101): arch=")
    assert LOG.count(b"\n") == len(EXEC)
