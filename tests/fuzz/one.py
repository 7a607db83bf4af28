# SPDX-License-Identifier: Apache-2.0
"""One target under the fuzzer: ``python -m tests.fuzz.one TARGET [libFuzzer's arguments]``.

A process of its own: libFuzzer ends it in its own way. The package is instrumented while it is imported,
so nothing of it may be imported before. How long an input may take is counted in CPU time: by the clock, one that waits
for a processor would be a finding.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, cast

SLOW = 20.0  # seconds of CPU for one input, as the fuzzer's report names it


class TooSlow(Exception):
    """An input took more CPU than any may."""


class Atheris(Protocol):
    """What is used of the fuzzer: it has no types of its own."""

    def instrument_imports(self, include: list[str]) -> AbstractContextManager[None]: ...
    def Setup(self, argv: list[str], target: Callable[[bytes], None]) -> object: ...  # noqa: N802
    def Fuzz(self) -> None: ...  # noqa: N802


def limited(run: Callable[[bytes], None], seconds: float = SLOW) -> Callable[[bytes], None]:
    """`run`, with TooSlow raised in the midst of an input that has taken `seconds` of CPU."""

    def too_slow(_number: int, _frame: object) -> None:
        raise TooSlow(f"{seconds:g} seconds of CPU")

    def one(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            run(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    signal.signal(signal.SIGVTALRM, too_slow)
    return one


def main() -> None:
    atheris = cast("Atheris", importlib.import_module("atheris"))
    with atheris.instrument_imports(include=["enricher"]):
        targets = importlib.import_module("tests.fuzz.targets")
    run: Callable[[bytes], None] = targets.TARGETS[sys.argv[1]].run
    atheris.Setup([sys.argv[0], *sys.argv[2:]], limited(run))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
