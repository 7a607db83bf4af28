# SPDX-License-Identifier: Apache-2.0
"""The command `doctor`: table, JSON, exit code; and that hostile names stay harmless on a terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.cli import doctor as command
from enricher.cli import main
from enricher.cli.doctor import as_json, as_table
from enricher.runtime import doctor
from enricher.runtime.doctor import NAMES, Verdict
from enricher.runtime.doctor.rows import Host, Row, State
from enricher.sources.bpf.features import Answer, Found

GOOD = Row("btf", State.OK, "is readable")
BAD = Row("rules", State.WARN, "none", "load some")
WORST = Row("audit", State.FAIL, "gone", "boot")
HOSTILE = Row("listeners", State.UNKNOWN, "held by \x1b]0;x\x07\r\u202e\ud800 (9)", "\x1b[2J")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """What the examination will find; the last one asked for is kept in `asked`."""
    found: list[Row] = [GOOD]

    def run(_host: Host, *, load: bool) -> Iterator[Row]:
        yield from found
        yield Row("self-test", State.OK, f"load={load}")

    monkeypatch.setattr(doctor, "run", run)
    return found


@pytest.mark.parametrize(
    ("more", "code", "word"), [([], 0, "works"), ([BAD], 10, "loses"), ([BAD, WORST], 11, "fails")]
)
def test_exit_code_and_verdict(
    rows: list[Row], capsys: pytest.CaptureFixture[str], more: list[Row], code: int, word: str
) -> None:
    rows += more
    assert main.main(["doctor"]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"verdict: {word}: ")
    assert main.main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["verdict"] == word


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(("argv", "load"), [(["doctor"], "True"), (["doctor", "--no-load"], "False")])
def test_no_load(capsys: pytest.CaptureFixture[str], argv: list[str], load: str) -> None:
    main.main(argv)
    assert f"load={load}" in capsys.readouterr().out


def test_every_verdict_has_its_own_code_and_words() -> None:
    assert list(command.EXIT_CODES) == list(Verdict)
    assert len(set(command.EXIT_CODES.values())) == len(Verdict)


def test_table() -> None:
    width = max(map(len, NAMES))
    assert as_table([GOOD, BAD]).splitlines() == [
        f"{'btf':{width}}  ok       is readable",
        f"{'rules':{width}}  warn     none",
        f"{'':{width}}           hint: load some",
        "",
        "verdict: loses: nothing forbids it here, but something is lost or cannot be told: see what is not ok",
    ]


def test_json() -> None:
    told = json.loads(as_json([GOOD, BAD]))
    assert told == {
        "schema": "audit-enricher-doctor/1",
        "rows": [
            {"name": "btf", "state": "ok", "detail": "is readable"},
            {"name": "rules", "state": "warn", "detail": "none", "hint": "load some"},
        ],
        "verdict": "loses",
    }


def test_hostile_text_is_harmless() -> None:
    for text in (as_table([HOSTILE]), as_table([HOSTILE], width=60), as_json([HOSTILE])):
        assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b]0;x\\x07\\x0d\\u202e\\ud800 (9)" in as_table([HOSTILE])
    assert json.loads(as_json([HOSTILE]))["rows"][0]["detail"] == HOSTILE.detail


def test_colour_is_on_the_state_alone() -> None:
    line = as_table([WORST], colour=True).splitlines()[0]
    assert line.endswith("  \x1b[1;31mfail   \x1b[0m  gone")
    assert "\x1b" not in as_table([WORST])


def test_lines_are_broken_for_a_terminal_and_kept_otherwise() -> None:
    long = Row("btf", State.OK, "word " * 60 + "\nsecond line")
    assert max(map(len, as_table([long], width=80).splitlines()[:-2])) <= 80
    assert as_table([long]).count("\n") == 3
    assert as_table([long], width=10).count("word") == 60
    assert as_table([Row("btf", State.OK, "")]).startswith("btf")


def test_a_stream_that_cannot_say_it_is_no_error(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    rows.append(Row("auditd", State.OK, "pid 1, caf\u00e9"))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert main.main(["doctor"]) == 0
    assert b"caf\\xe9" in out.getvalue()


def test_a_reader_that_goes_away_is_no_error() -> None:
    """A process of its own, since what Python says about a lost pipe comes at its end."""
    program = (
        "import sys; from enricher.cli import main; from enricher.runtime import doctor;"
        " doctor.run = lambda host, load: iter([]); sys.exit(main.main(['doctor', '--no-load']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0
    assert said == b""


@pytest.mark.usefixtures("rows")
def test_output_that_cannot_be_written_is_an_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main.main(["doctor"]) == 9
    assert "No space left" in capsys.readouterr().err


@pytest.mark.usefixtures("rows")
def test_without_standard_output_the_exit_code_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main.main(["doctor"]) == 0


def test_this_host_without_loading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this host is: every row, and an exit code that fits. Not even a disabled kprobe is set."""
    not_tried = Found(Answer.UNKNOWN, "not tried")
    monkeypatch.setattr("enricher.sources.bpf.features.try_kprobe", lambda _symbol: not_tried)
    code = main.main(["doctor", "--no-load", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert tuple(row["name"] for row in told["rows"]) == NAMES
    assert code == {"works": 0, "loses": 10, "fails": 11}[told["verdict"]]


def test_help_has_states_and_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["doctor", "--help"])
    said = capsys.readouterr().out
    assert all(f"  {state.value} " in said for state in State)
    assert all(f"\n  {code} " in said for code in command.EXIT_CODES.values())
