# SPDX-License-Identifier: Apache-2.0
"""How long the service's loop stands still, and in what: the latency's tail, told turn by turn.

    python -m tests.bench.bench_standstills [TURNS [EVENTS]]   # EVENTS in each turn; 12000 turns of one by default

A turn is what lies between two waits: `tests.bench.bench_turns` with a clock in each of them. The parts that may take
long are named and timed within it: the journal's write, the entry of how far the run has come, questions for containers
and their answers, Python's own search for cycles of objects. Time is this thread's own CPU
(what stands for itself on a machine with other work) and the clock's, which has waiting for the disk in it as well.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from tests.bench.bench_turns import WARM, Turns

if TYPE_CHECKING:
    import select
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

TURNS: Final = 12_000
WORST: Final = 8
"""Turns that are shown one by one."""
PARTS: Final = ("journal", "state", "containers", "cycles")


class Turn(NamedTuple):
    """Seconds of one turn: of the clock, of this thread's CPU, and of the clock in each of `PARTS`."""

    wall: float
    cpu: float
    parts: dict[str, float]


class Watch:
    """Times turns, and within them what goes through `timed`."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._parts: dict[str, float] = {}
        self._began: tuple[float, float] | None = None
        self._cycles = 0.0

    def begin(self) -> None:
        """The wait is over."""
        self._parts = {}
        self._began = time.perf_counter(), time.thread_time()

    def end(self) -> None:
        """The next wait begins."""
        if self._began is not None:
            wall, cpu = self._began
            self.turns.append(Turn(time.perf_counter() - wall, time.thread_time() - cpu, self._parts))
            self._began = None

    def timed(self, part: str, call: Callable[P, T]) -> Callable[P, T]:
        """Return the function with its time entered under that name."""

        def run(*args: P.args, **named: P.kwargs) -> T:
            begin = time.perf_counter()
            try:
                return call(*args, **named)
            finally:
                self._enter(part, time.perf_counter() - begin)

        return run

    def cycle(self, phase: str, _: object) -> None:
        """What `gc.callbacks` calls."""
        if phase == "start":
            self._cycles = time.perf_counter()
        else:
            self._enter("cycles", time.perf_counter() - self._cycles)

    def _enter(self, part: str, seconds: float) -> None:
        self._parts[part] = self._parts.get(part, 0.0) + seconds


class _Waits:
    """An epoll that says when its wait begins and when it is over."""

    def __init__(self, epoll: select.epoll, watch: Watch) -> None:
        self._epoll = epoll
        self._watch = watch
        self.register = epoll.register

    def poll(self, limit: float) -> list[tuple[int, int]]:
        found = self._epoll.poll(limit)
        self._watch.begin()
        return found


def attach(line: Turns, watch: Watch) -> None:
    """Have the parts of the service timed."""
    service: Any = line.service
    pipeline: Any = line.pipeline
    pipeline._epoll = _Waits(pipeline._epoll, watch)
    service._save = watch.timed("state", service._save)
    journal = service._journal
    service._journal = _Timed(
        journal, watch.timed("journal", journal.begin), watch.timed("journal", journal.due)
    )
    metadata = line.metadata
    assert metadata is not None
    pipeline._serving[metadata.fileno()] = watch.timed("containers", metadata.serve)
    gc.callbacks.append(watch.cycle)


class _Timed:
    """The journal, with its write and the question for it timed."""

    def __init__(self, journal: object, begin: Callable[[float], None], due: Callable[[float], bool]) -> None:
        self._journal = journal
        self.begin = begin
        self.due = due

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._journal, name)
        return found


def _share(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def tell(turns: list[Turn]) -> None:
    """Print the distribution, the longest turns, and what each part took at most."""
    for what, values in (
        ("CPU", sorted(turn.cpu for turn in turns)),
        ("clock", sorted(turn.wall for turn in turns)),
    ):
        shares = " ".join(
            f"p{100 * share:g} {1e3 * _share(values, share):.2f}" for share in (0.5, 0.9, 0.99, 0.999)
        )
        print(f"{what}: {shares} max {1e3 * values[-1]:.2f} ms a turn, {len(values)} turns")
    for part in PARTS:
        found = [turn.parts[part] for turn in turns if part in turn.parts]
        if found:
            print(
                f"{part}: in {len(found)} turns, at most {1e3 * max(found):.2f} ms, {1e3 * sum(found):.1f} in all"
            )
    for turn in sorted(turns, key=lambda turn: turn.cpu, reverse=True)[:WORST]:
        parts = ", ".join(f"{part} {1e3 * seconds:.2f}" for part, seconds in turn.parts.items())
        print(f"  {1e3 * turn.cpu:.2f} ms of CPU, {1e3 * turn.wall:.2f} of the clock: {parts or 'events'}")


def main() -> None:
    """Run the turns, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TURNS
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as directory:
        line = Turns(directory)
        line.run(1, WARM)
        watch = Watch()
        attach(line, watch)
        line.run(1 + WARM, count * events, events, watch.end)
        written = line.service._output.written
        line.close()
    assert written == WARM + count * events, written
    tell(watch.turns)


if __name__ == "__main__":
    main()
