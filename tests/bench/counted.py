# SPDX-License-Identifier: Apache-2.0
"""What a record costs at each stage, counted and not timed: calls, instructions of the interpreter, objects kept.

    python -m tests.bench.counted            # compare with the table; exit status 1 where it is more, or far less
    python -m tests.bench.counted --write    # make the table anew, and commit it with the reason

Owns the meters, the table (counted.json) and how far a figure may be from it. Nothing depends on the machine's speed
or on what else it does: the sample is fixed (tests/bench/line.py), hashes are not random, and what a stage remembers
has been filled by other records before. The interpreted form is counted, where there is a compiled one beside it:
calls between compiled functions are nobody's to see.

* ``calls``: calls of Python functions and of functions in C that Python code makes;
* ``instructions``: of the interpreter; a loop or an expression that grew shows here, without any call more;
* ``objects``: blocks of memory that are still held when the stage has done its work, for what it gives to the next.

An interpreter of another version has other instructions: a table is one version's, and says which.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bench.line import ROWS, Line, Step, made, rows_of

if TYPE_CHECKING:
    from types import FrameType

TABLE: Final = Path(__file__).with_name("counted.json")
WARM: Final = 8
"""Batches before the counted ones."""
COUNTED: Final = 4
MORE: Final = 0.02
LESS: Final = 0.10
"""Shares of a figure by which it may grow or shrink; and in any case `SLACK` a record."""
SLACK: Final = {"calls": 0.02, "instructions": 0.3, "objects": 0.05}
ENVIRONMENT: Final = {"ENRICHER_INTERPRETED": "1", "PYTHONHASHSEED": "0"}

Table = dict[str, dict[str, float]]
"""Stage, unit, figure for each record."""


def _calls(step: Step) -> tuple[int, object]:
    count = 0

    def note(_frame: FrameType, event: str, _what: object) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1

    sys.setprofile(note)
    try:
        result = step()
    finally:
        sys.setprofile(None)
    return count - 2, result  # the step's own call, and that of setprofile


def _instructions(step: Step) -> tuple[int, object]:
    count = 0

    def within(_frame: FrameType, event: str, _what: object) -> Any:  # noqa: ANN401 - the interpreter's protocol
        nonlocal count
        if event == "opcode":
            count += 1
        return within

    def enter(frame: FrameType, _event: str, _what: object) -> Any:  # noqa: ANN401 - the same
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return within

    sys.settrace(enter)
    try:
        result = step()
    finally:
        sys.settrace(None)
    return count, result


def _objects(step: Step) -> tuple[int, object]:
    before = sys.getallocatedblocks()
    result = step()
    return sys.getallocatedblocks() - before, result


METERS: Final = {"calls": _calls, "instructions": _instructions, "objects": _objects}


def count() -> Table:
    """Count in this process, which is to have been started with `ENVIRONMENT`."""
    table: Table = {row.name: {} for row in ROWS}
    gc.disable()
    for unit, measured in METERS.items():
        steps: Counter[str] = Counter()

        def meter(name: str, step: Step) -> object:
            number, result = measured(step)  # noqa: B023 - used in this turn of the loop only
            steps[name] += number  # noqa: B023 - the same
            return result

        records = 0
        with Line() as line:
            for batch in range(WARM):
                line.pass_on(made(batch), lambda _, step: step())
            for batch in range(WARM, WARM + COUNTED):
                prepared = made(batch)
                records += len(prepared.records)
                line.pass_on(prepared, meter)
        figures = rows_of({name: number / records for name, number in steps.items()})
        for name, figure in figures.items():
            table[name][unit] = round(figure, 3)
    return table


def version() -> str:
    """Return the interpreter's version as far as its instructions go."""
    return ".".join(platform.python_version_tuple()[:2])


def in_a_process() -> Table:
    """Count in a process of its own, so that nothing of the caller's shows."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--count"],
        env={**os.environ, **ENVIRONMENT},
        cwd=TABLE.parents[2],
        stdout=subprocess.PIPE,
        check=True,
    )
    table: Table = json.loads(done.stdout)
    return table


def known() -> tuple[str, Table]:
    """Return the interpreter's version that the table is of, and the table."""
    said = json.loads(TABLE.read_text(encoding="ascii"))
    return said["python"], said["records"]


def faults(table: Table, now: Table) -> list[str]:
    """Say where the figures are not those of the table."""
    said = []
    for stage, figures in now.items():
        for unit, figure in figures.items():
            was = table.get(stage, {}).get(unit)
            if was is None:
                said.append(f"{stage}: the table has no {unit}")
            elif figure > was + max(MORE * abs(was), SLACK[unit]):
                said.append(f"{stage}: {figure} {unit} a record, and {was} in the table")
            elif figure < was - max(LESS * abs(was), 2 * SLACK[unit]):
                said.append(f"{stage}: only {figure} {unit} a record, and {was} in the table: make it anew")
    return said


def shown(table: Table) -> str:
    """Return the table for a terminal."""
    lines = [f"{'a record':12}" + "".join(f"{unit:>14}" for unit in METERS)]
    lines += [
        f"{stage:12}" + "".join(f"{figures[unit]:14.2f}" for unit in METERS)
        for stage, figures in table.items()
    ]
    sums = {unit: sum(figures[unit] for figures in table.values()) for unit in METERS}
    return "\n".join([*lines, f"{'all':12}" + "".join(f"{sums[unit]:14.2f}" for unit in METERS)])


def main(words: list[str]) -> int:
    """Count, compare or write; returns the exit status."""
    if words == ["--count"]:
        print(json.dumps(count()))
        return 0
    now = in_a_process()
    print(shown(now))
    if words == ["--write"]:
        TABLE.write_text(json.dumps({"python": version(), "records": now}, indent=1) + "\n", encoding="ascii")
        return 0
    python, table = known()
    if python != version():
        print(f"the table is of Python {python}: nothing to compare with", file=sys.stderr)
        return 0
    said = faults(table, now)
    for line in said:
        print(line, file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
