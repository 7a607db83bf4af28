# SPDX-License-Identifier: Apache-2.0
"""Which form of a module runs: the source, interpreted, or what `make compiled` makes of the same source.

Owns that choice, and telling which was made. The extension module stands beside the source and Python prefers it; where
there is none, or one for another Python, the source runs. Both give the same bytes; only the time differs
(docs/adr/0022-hot-modules-compiled.md). Never compiles anything.

``ENRICHER_INTERPRETED=1`` in the environment leaves the extension modules out: to look for an error, to measure.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE: Final = "ENRICHER_INTERPRETED"
_PROBE: Final = "enricher.enrich.memo"
"""One of the compiled modules stands for all: they are made together."""


class _SourcesOnly(MetaPathFinder):
    """Finds the package's modules as if there were no extension modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one as `importlib` asks for it; None for what is not ours."""
        del target
        if path is None or not fullname.startswith("enricher."):
            return None
        for directory in path:
            spec = FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None and spec.loader is not None:
                return spec
        return None


def interpret() -> None:
    """Have every module that is imported from now on run from its source."""
    if not any(isinstance(finder, _SourcesOnly) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SourcesOnly())


def choose() -> None:
    """Do as the environment says."""
    if os.environ.get(VARIABLE) == "1":
        interpret()


def form() -> str:
    """Return ``compiled`` or ``interpreted``: what an import now would give, without one."""
    spec = find_spec(_PROBE)
    loader = None if spec is None else spec.loader
    return "compiled" if isinstance(loader, ExtensionFileLoader) else "interpreted"
