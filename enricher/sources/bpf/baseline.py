# SPDX-License-Identifier: Apache-2.0
"""The look at the start: every task's namespaces and cgroup, told by a program that the kernel calls for each task.

Owns how it is made: in steps that the rings have room for, and again until nothing was missed. Never interprets what is
told, which comes through the rings as everything else does; what the program writes of each task beside that is one
byte (``bpf/baseline.bpf.c``).
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from enricher.sources.bpf.libbpf import error_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.sources.bpf.libbpf import Libbpf

BASELINE_TOLD: Final = 1
BASELINE_GONE: Final = 2
BASELINE_CHANGED: Final = 3
BASELINE_DROPPED: Final = 4

LOOKS: Final = 6
"""What was told is not told again, so that another look costs little. A task that is changing its namespaces in all of
them is changing them all the time."""
QUIET: Final = 2
"""Looks there are at least. In the first a task can be missed that was made behind where the look was, by one that
ended before it got there: numbers of tasks begin anew at some point."""

STEP_BYTES: Final = 8192
"""Of a ring for each task: all that can be told of one but for hundreds of extents of users."""
STEP_MOST: Final = 1024

LONGEST: Final = 5.0
"""Seconds that a start waits for it, where the rings fill as fast as they are emptied. Some milliseconds are usual."""

_PARKED_WAIT: Final = 0.001


def step_for(ring_size: int) -> int:
    """Return for how many tasks at a time a ring of this many bytes has room."""
    return max(1, min(STEP_MOST, ring_size // STEP_BYTES))


def look(iterate: Callable[[], int], drain: Callable[[], object], step: int, deadline: float) -> str:
    """Look at all tasks until none was missed; returns why that could not be done, "" where it was.

    `iterate` begins a look and returns its descriptor, or a negative errno. `drain` empties the rings. `deadline` is by
    the monotonic clock.
    """
    seen: Counter[int] = Counter()
    for turn in range(LOOKS):
        fd = iterate()
        if fd < 0:
            return f"the look at all tasks could not begin: {error_text(fd)}"
        try:
            seen = _one(fd, drain, step, deadline)
        except OSError as error:
            return f"the look at all tasks ended early: {error.strerror}"
        finally:
            os.close(fd)
        if not seen:
            return "the look at all tasks saw none"
        missed = {outcome for outcome in seen if outcome not in {BASELINE_TOLD, BASELINE_GONE}}
        if not missed and turn + 1 >= QUIET:
            return ""
    if not (changed := seen[BASELINE_CHANGED]):
        return f"the rings had no room for what was to be told of {seen[BASELINE_DROPPED]} tasks"
    return f"{changed} tasks were changing their namespaces at each of {LOOKS} looks"


def _one(fd: int, drain: Callable[[], object], step: int, deadline: float) -> Counter[int]:
    seen: Counter[int] = Counter()
    while written := os.read(fd, step):
        seen.update(written)
        drain()
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"it took longer than {LONGEST:.0f} s")
    return seen


def settle(drain: Callable[[], object], parked: Callable[[], bool], deadline: float) -> bool:
    """Empty the rings until all that was told by now is out of them; returns whether it is."""
    drain()
    while parked():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PARKED_WAIT)
        drain()
    return True


class Iterator:
    """Begins looks by a program that is loaded; `close` when there are to be no more."""

    def __init__(self, lib: Libbpf, program: int) -> None:
        self._lib = lib
        self._link: int = lib.bpf_program__attach(program) or 0

    def begin(self) -> int:
        """Return the descriptor of a look that begins now, or a negative errno."""
        if not self._link:
            return -1
        fd: int = self._lib.bpf_iter_create(self._lib.bpf_link__fd(self._link))
        return fd

    def close(self) -> None:
        """Detach the program."""
        if self._link:
            self._lib.bpf_link__destroy(self._link)
            self._link = 0
