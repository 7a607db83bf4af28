# SPDX-License-Identifier: Apache-2.0
"""One target under the fuzzer: ``python -m tests.fuzz.one TARGET [libFuzzer's arguments]``.

A process of its own: libFuzzer ends it in its own way. The package is instrumented while it is imported,
so nothing of it may be imported before.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, cast


class Atheris(Protocol):
    """What is used of the fuzzer: it has no types of its own."""

    def instrument_imports(self, include: list[str]) -> AbstractContextManager[None]: ...
    def Setup(self, argv: list[str], target: Callable[[bytes], None]) -> object: ...  # noqa: N802
    def Fuzz(self) -> None: ...  # noqa: N802


def main() -> None:
    atheris = cast("Atheris", importlib.import_module("atheris"))
    with atheris.instrument_imports(include=["enricher"]):
        targets = importlib.import_module("tests.fuzz.targets")
    run: Callable[[bytes], None] = targets.TARGETS[sys.argv[1]].run
    atheris.Setup([sys.argv[0], *sys.argv[2:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
