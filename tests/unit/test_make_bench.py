# SPDX-License-Identifier: Apache-2.0
"""`make bench` with a stand-in for Python: every program runs, and one that fails is told in the end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {path.stem for path in (ROOT / "tests/bench").glob("bench_*.py")}


@pytest.mark.parametrize("fails", ["bench_rivals", "bench_filters", ""])
def test_every_program_runs_and_a_failure_is_told(fails: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python, ran = tmp_path / "bin/python", tmp_path / "ran"
    python.write_text(f'#!/bin/sh\necho "${{2##*.}}" >>{ran}\n[ "$2" != "tests.bench.{fails}" ]\n')
    python.chmod(0o755)
    (tmp_path / ".stamp").touch()  # the environment is there: newer than what it is made from
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    command = ["make", "--no-print-directory", "bench", f"VENV={tmp_path}", "HOST="]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == bool(fails), done.stderr
    names = ran.read_text().split()
    assert set(names) == PROGRAMS
    assert len(names) == len(PROGRAMS)
    assert names[-1] == "bench_rivals", "what may need a mirror is the last"
    assert (f"make bench: failed: {fails}\n" in done.stderr) == bool(fails)
