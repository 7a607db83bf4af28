# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets without the fuzzer: seeds pass, a broken reader is found, findings fail the run."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.correlate.join import Correlator
from enricher.model import Record
from enricher.route.expression import Expression
from enricher.route.views import native_json
from enricher.route.views.audit_text import AuditText
from enricher.sinks.delivery import relp
from enricher.sources.audit.text import parse
from enricher.sources.logformat import Lines, LogRecord
from tests.fuzz import __main__ as driver
from tests.fuzz import targets
from tests.fuzz.one import TooSlow, limited
from tests.fuzz.relp import OPENED
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_ruins_pass(name: str) -> None:
    target = TARGETS[name]
    chance = random.Random(name)  # noqa: S311 - the same ruins in each run
    for seed in target.seeds:
        target.run(seed)
        for _ in range(30):
            ruin = bytearray(seed)
            for _ in range(chance.randint(1, 4)):
                at = chance.randint(0, len(ruin))
                ruin[at : at + chance.randint(0, 3)] = chance.choice([*target.words, chance.randbytes(2)])
            target.run(bytes(ruin))


def test_an_input_has_so_much_of_a_processor() -> None:
    def busy(data: bytes) -> None:
        while data and time.process_time() < limit:
            pass

    before = signal.getsignal(signal.SIGVTALRM)
    limit = time.process_time() + 30
    try:
        one = limited(busy, 0.05)
        with pytest.raises(TooSlow, match="seconds of CPU"):
            one(b"x")
        one(b"")
    finally:
        signal.signal(signal.SIGVTALRM, before)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_lost_bytes_of_a_text_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "parse", lambda record: parse(record)._replace(fields=[]))
    with pytest.raises(AssertionError, match="bytes that are gone"):
        TARGETS["record_text"].run(TARGETS["record_text"].seeds[1])


def test_a_record_that_is_not_given_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Correlator, "finish", lambda *_: [])
    with pytest.raises(AssertionError, match="something is left"):
        TARGETS["join"].run(bytes([0, 0, 1]))


def test_a_line_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(_: Lines, line: bytes, out: list[LogRecord], *__: object, **___: object) -> None:
        out.append(LogRecord(b"", None, Record(0, line)))

    monkeypatch.setattr(Lines, "_line", forgetful)
    with pytest.raises(AssertionError, match="counted as nothing"):
        TARGETS["log_lines"].run(b"\x07x\n")


def test_an_error_of_another_kind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("of another kind")

    monkeypatch.setattr(targets, "read_log", broken)
    with pytest.raises(ValueError, match="of another kind"):
        TARGETS["log_file"].run(b"")


def test_text_that_reads_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AuditText, "_ns_info", lambda *_: b"type=CWD msg=audit(1.2:3): x")
    with pytest.raises(AssertionError, match="text that reads otherwise"):
        TARGETS["log_file"].run(TARGETS["log_file"].seeds[1])


def test_an_escape_sequence_in_the_output_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_json, "render", lambda _: b"\x1b[2J")
    with pytest.raises(AssertionError, match="a control character reaches the output"):
        TARGETS["log_file"].run(TARGETS["log_file"].seeds[1])


def test_stages_of_a_filter_that_disagree_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Expression, "early", lambda *_: False)
    monkeypatch.setattr(Expression, "matches", lambda *_: True)
    with pytest.raises(AssertionError, match="the two stages do not agree"):
        TARGETS["filter"].run(b"where == host")


def test_an_answer_that_is_taken_for_a_200_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relp, "_code_of", lambda _: 200)
    with pytest.raises(AssertionError, match="taken without an answer for each of its frames"):
        TARGETS["relp"].run(b"\x00" + OPENED + b"".join(b"%d rsp 3 500\n" % txnr for txnr in range(2, 7)))


def test_a_part_that_nobody_answered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second message's two parts and the third's two lines one has an answer."""

    def forgetful(self: relp._Session) -> Iterator[tuple[int, int]]:
        for name, code in answers(self):
            self.waiting.clear()
            yield name, code

    answers = relp._Session.answers
    receipt = relp.RelpSender._receipt
    monkeypatch.setattr(relp._Session, "answers", forgetful)
    monkeypatch.setattr(
        relp.RelpSender,
        "_receipt",
        lambda self, messages, _, failed, refused: receipt(self, messages, [0] * 3, failed, refused),
    )
    with pytest.raises(AssertionError, match="taken without an answer for each of its frames"):
        TARGETS["relp"].run(b"\xfe" + OPENED + b"2 rsp 3 200\n3 rsp 3 200\n")


def test_a_frame_that_fills_the_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relp, "_ANSWER_MAX", 1 << 30)
    with pytest.raises(AssertionError, match=r"read otherwise|more than one frame"):
        TARGETS["relp"].run(b"\xff" + b"1 rsp 99999999 " + b"x" * 9_000)


def test_a_frame_without_its_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trusting(bytearray):
        """Has a newline wherever it is asked for one."""

        def __getitem__(self, at: object) -> object:  # type: ignore[override]
            return ord("\n") if isinstance(at, int) else super().__getitem__(at)  # type: ignore[call-overload]

    monkeypatch.setattr(relp, "bytearray", Trusting, raising=False)
    with pytest.raises(AssertionError, match="frames that are read otherwise"):
        TARGETS["relp"].run(b"\xff" + OPENED[:-1] + b"x")


def test_findings_fail_a_run_until_they_are_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver, "WORK", tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/true")  # a fuzzer that finds nothing
    monkeypatch.setattr(sys, "argv", ["fuzz", "join"])
    assert driver.main() == 0
    corpus, findings, words = driver.prepare("join")
    assert sorted(path.read_bytes() for path in corpus.iterdir()) == sorted(TARGETS["join"].seeds)
    assert words.read_text() == ""
    (findings / "crash-1").write_bytes(b"x")
    monkeypatch.setattr(driver, "reproduced", lambda *_: True)
    assert driver.main() == 1
    assert "crash-1" in capsys.readouterr().out
    monkeypatch.setattr(driver, "reproduced", lambda *_: False)
    assert driver.main() == 0
    assert (corpus / "crash-1").read_bytes() == b"x"


def test_targets_run_together_and_each_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-in for the fuzzer succeeds for one target and fails for the other."""
    fuzzer = tmp_path / "fuzzer"
    fuzzer.write_text('#!/bin/sh\necho "stat::number_of_executed_units: 42"\n[ "$3" = join ]\n')
    fuzzer.chmod(0o755)
    monkeypatch.setattr(driver, "WORK", tmp_path)
    monkeypatch.setattr(sys, "executable", str(fuzzer))
    monkeypatch.setattr(sys, "argv", ["fuzz", "--jobs", "2", "join", "log_file"])
    assert driver.main() == 1
    said = capsys.readouterr().out
    assert re.search(r"^join: exit 0 after .* 42 executions", said, re.MULTILINE)
    assert re.search(r"^log_file: exit 1 after .* 42 executions", said, re.MULTILINE)
    assert re.search(r"^\| join \| \d{4}-\d\d-\d\d \| \d+ \| 42 \| 0 \|$", said, re.MULTILINE)
    assert said.index(driver.HEAD) < said.index("\n| join |") < said.index("\n| log_file |")
    assert "log_file: FAILED" in said
    assert "join: FAILED" not in said


def test_two_run_at_a_time_where_there_are_two_cores() -> None:
    jobs = driver.arguments().parse_args([]).jobs
    assert jobs == min(2, os.cpu_count() or 1)
    minutes = -(-len(TARGETS) // 2) * driver.SECONDS / 60
    assert minutes < 60, "a soak stays below an hour"


def test_the_last_whole_run_is_written_down_for_every_target() -> None:
    text = (Path(__file__).parents[2] / "docs/testing.md").read_text(encoding="utf-8")
    table = text.partition(f"{driver.HEAD}\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE) == list(TARGETS)


def test_a_finding_is_reproduced_without_the_fuzzer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = tmp_path / "crash"
    finding.write_bytes(b"x")
    assert not driver.reproduced("join", finding)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert driver.reproduced("join", finding)


def test_a_fuzzer_that_does_not_run_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "WORK", tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(sys, "argv", ["fuzz", "join"])
    assert driver.main() == 1
    monkeypatch.setattr(sys, "argv", ["fuzz", "nothing"])
    assert driver.main() == 2
