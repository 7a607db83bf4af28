# SPDX-License-Identifier: Apache-2.0
"""Examines the host: whether audit-enricher can run here, and what would be lost.

The checks are a module for each subject: `kernel`, `process`, `audit`, `listeners`; `rows` has what they
share. This one owns their order, the self-test at their end, which starts and stops the program as the command
`run` does, and the verdict. Never changes the host; a check that fails is a row, never an error.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from enricher.errors import EnricherError
from enricher.runtime import startup
from enricher.runtime.doctor import audit, kernel, listeners, process
from enricher.runtime.doctor.rows import Group, Host, Row, State, run_group, single
from enricher.runtime.loaders import caveats
from enricher.runtime.selftest import Proof
from enricher.sources.bpf.hook import CAVEATS, Hook

if TYPE_CHECKING:
    from collections.abc import Iterator


class Verdict(enum.Enum):
    """What all rows together say; the value is what programs read."""

    WORKS = "works"
    LOSES = "loses"  # it runs, and something is lost or cannot be told
    FAILS = "fails"  # it cannot run here


def _not_loaded(_host: Host) -> Row:
    return Row(
        "self-test",
        State.UNKNOWN,
        "not done: --no-load",
        "whether the hook sees every record is proved only by loading it",
    )


def _self_test(_host: Host) -> Row:
    notes: list[str] = []
    try:
        started = startup.start(notes.append)
    except EnricherError as error:
        return Row("self-test", State.FAIL, error.message, error.hint)
    try:
        loaded, hook, proof = started.loaded, started.hook, started.trial.proof
        detail = (
            f"{proof.value}, hook {started.hook_name}, loader {started.loader},"
            f" {loaded.ring_count} rings of {loaded.ring_size >> 10} KiB"
        )
        unknown = caveats(loaded)
    finally:
        startup.stop(started)
    # What else a start-up has to say has a row of its own.
    told = [note for note in notes if note.startswith(("hook ", "the self-test"))]
    detail = "; ".join([detail, *told, *unknown])
    if proof is Proof.SILENT:
        return Row("self-test", State.WARN, detail, "see the rows `excluded-types` and `audit-rate-limit`")
    if hook is Hook.QUEUE:
        return Row("self-test", State.WARN, detail, f"a last resort: it {CAVEATS[Hook.QUEUE]}")
    if unknown:
        return Row("self-test", State.WARN, detail, "a kernel with BTF tells it: see the row `btf`")
    return Row("self-test", State.OK, detail)


GROUPS: Final = (
    *kernel.GROUPS,
    *process.GROUPS,
    *audit.GROUPS,
    *listeners.GROUPS,
)
"""All checks but the self-test. The kernel's come first: some others depend on the hook."""

NAMES: Final = (*(name for group in GROUPS for name in group.names), "self-test")
"""The name of every row, in order."""


def groups(*, load: bool) -> tuple[Group, ...]:
    """Return the checks; without `load` nothing is sent to the kernel that it would write down."""
    return (*GROUPS, single("self-test", _self_test if load else _not_loaded))


def run(host: Host, *, load: bool = True) -> Iterator[Row]:
    """Yield one row for each of `NAMES`, as they are found."""
    for group in groups(load=load):
        yield from run_group(group, host)


def verdict(rows: list[Row]) -> Verdict:
    """Say what the rows come to."""
    states = {row.state for row in rows}
    if State.FAIL in states:
        return Verdict.FAILS
    return Verdict.WORKS if states <= {State.OK} else Verdict.LOSES
