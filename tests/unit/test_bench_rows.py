# SPDX-License-Identifier: Apache-2.0
"""How benchmarks run programs, and what they change in ours: what is timed is what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.bench_rivals import ratios, spread, table
from tests.bench.distinct import Log, made_log
from tests.bench.rows import REFERENCE, Job, Row, Run, rows

_FORGOTTEN = """
from tests.bench import replaying
for change in {changes!r}:
    replaying.CHANGES[change]()
from enricher import clock
from enricher.enrich import decode, keys, native
from enricher.model import Event, HostFacts, Record
from tests.bench.bench_views import HOST, exec_event
builder = native.NativeBuilder(HOST)
for _ in range(2):
    builder.build(exec_event(7))
memory = builder._entries.__self__
own = sum(map(len, memory._own.values()))
calls = len(memory._calls._calls) + len(memory._calls._arguments)
print(len(memory._common) + own, calls, len(keys._keys), hasattr(clock.utc_second, "cache_info"))
"""


def core() -> int:
    return min(os.sched_getaffinity(0))


def row_of(*words: str, output: str | None = "out") -> Row:
    return Row("x", "a program", "1", lambda _, at: Job([*words], at / output if output else None))


def test_what_a_program_costs_is_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\nc\n")
    script = f"cat >{tmp_path}/out; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    run = row_of("/bin/sh", "-c", script).run(log, tmp_path, core())
    assert run.lines == 3
    assert run.cpu > 0.005
    idle = row_of("/bin/sh", "-c", f"cat >{tmp_path}/out").run(log, tmp_path, core())
    assert idle.cpu < run.cpu
    # A large process that starts it is not its memory.
    held = bytearray(200 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert row_of("/bin/sh", "-c", f"cat >{tmp_path}/out").run(log, tmp_path, core()).memory < 60 << 10


def test_a_program_that_fails_is_no_figure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\n")
    with pytest.raises(RuntimeError, match=r"returned 3\nno luck"):
        row_of("/bin/sh", "-c", "echo no luck >&2; exit 3").run(log, tmp_path, core())


def test_what_read_it_says_how_much_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\n")
    assert row_of("/bin/sh", "-c", "echo 7 9", output=None).run(log, tmp_path, core()).lines == 7


@pytest.mark.parametrize(("changes", "kept"), [(["names"], True), (["names", "forget"], False)])
def test_nothing_is_remembered_where_that_is_asked_for(changes: list[str], *, kept: bool) -> None:
    script = _FORGOTTEN.format(changes=changes)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    words, calls, known, seconds = done.stdout.split()
    assert [int(words) > 0, int(calls) > 0, int(known) > 0, seconds == "True"] == [kept] * 4


def test_remembering_changes_no_byte_and_is_counted(tmp_path: Path) -> None:
    log = made_log(tmp_path / "log", 100)
    outputs = []
    for key in ("json-names", "json-forget", "json-count"):
        [row] = rows([key])
        at = tmp_path / key
        at.mkdir()
        assert row.run(log.path, at, core()).lines == 100
        outputs.append((at / "out").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    assert b'"UID":"root"' in outputs[0]
    counts = json.loads((tmp_path / "json-count/errors").read_text().splitlines()[-1])
    assert counts["tails"] == 300
    assert 100 <= counts["calls"] < 110  # one that is new is asked for twice
    assert 300 > counts["tails found"] > 200
    assert counts["words"] > counts["words found"] > 10


def test_users_are_named_only_where_that_is_asked_for(tmp_path: Path) -> None:
    log = made_log(tmp_path / "log", 10)
    [row] = rows(["json"])
    row.run(log.path, tmp_path, core())
    assert b'"UID":' not in (tmp_path / "out").read_bytes()


def test_a_ratio_is_of_one_round(tmp_path: Path) -> None:
    found = {
        REFERENCE: [Run(1.0, 1.0, 1, 1), Run(3.0, 1.0, 1, 1)],
        "x": [Run(1.0, 0.0, 1, 1), Run(8.0, 0.0, 1, 1)],
    }
    assert ratios(found, "x") == [2.0, 0.5]
    assert ratios({"x": found["x"]}, "x") == []
    assert spread([2.0, 0.5, 1.0]) == "0.50 / 1.00 / 2.00"
    row = Row("x", "a program", "1", lambda _, at: Job([], at))
    [*_, line] = table(Log(tmp_path, 10, 80, 1), found, [row])
    assert "| 45 | 0.50 / 1.25 / 2.00 |" in line
