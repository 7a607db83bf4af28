# SPDX-License-Identifier: Apache-2.0
"""The rule of one direction: a stage imports nothing to its right.

    sources -> correlate -> enrich -> route -> sinks -> runtime -> cli

The vocabulary (model, messages, facts, errors, clock, metrics, codec, journalformat, sealformat, forms, scan, writing,
recent) may be imported by all, and imports only itself. The package itself may choose the form of what is imported.
config may be imported by all and imports only the vocabulary. runtime and cli stand at the right end:
they alone may know every stage. Imports inside functions and under TYPE_CHECKING count as well, and
so do literal names given to import_module().
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["STAGES", "violations"]

PACKAGE = "enricher"
STAGES = ("sources", "correlate", "enrich", "route", "sinks", "runtime", "cli")
VOCABULARY = frozenset(
    {
        "model",
        "messages",
        "facts",
        "errors",
        "clock",
        "metrics",
        "codec",
        "journalformat",
        "sealformat",
        "forms",
        "scan",
        "writing",
        "recent",
    }
)
CONFIG = "config"
ROOT = ""  # the package itself: its version
ENTRY = "__main__"  # python -m enricher: belongs to the command line

_DYNAMIC = frozenset({"import_module", "__import__", "find_spec", "files"})


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return one line for each import of `module` (dotted name, this source text) that breaks the rule."""
    part = _part(module)
    if part is None:
        return []
    if not _known(part):
        return [f"{module}: {part!r} is neither a stage nor vocabulary; give it a place in this check"]
    return [
        f"{module}:{line}: imports {target}; {_why(part)}"
        for target, line in _imports(module, source, is_package=is_package)
        if not _allowed(part, _part(target))
    ]


def _part(module: str) -> str | None:
    """Return the first name below the package, "" for the package itself, None for anything else."""
    head, _, rest = module.partition(".")
    return rest.partition(".")[0] if head == PACKAGE else None


def _known(part: str) -> bool:
    return part in STAGES or part in VOCABULARY or part in {CONFIG, ROOT, ENTRY}


def _allowed(part: str, target: str | None) -> bool:
    if target is None or target in {part, ROOT}:
        return True
    if part == ENTRY:
        return target in STAGES
    return target in _may_import(part)


def _may_import(part: str) -> frozenset[str]:
    if part == ROOT:
        return frozenset({"forms"})
    if part in VOCABULARY or part == CONFIG:
        return VOCABULARY
    return VOCABULARY | {CONFIG, *STAGES[: STAGES.index(part)]}


def _why(part: str) -> str:
    if part in STAGES:
        return f"{part} may import vocabulary, config and {', '.join(STAGES[: STAGES.index(part) + 1])}"
    return "it may import the vocabulary only" if part != ROOT else "the package itself imports forms only"


def _imports(module: str, source: str, *, is_package: bool) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node, is_package=is_package)
            # `from enricher import sinks` names the stage only here; an attribute looks the same.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]
            for name in names:
                yield (name if _known(_part(name) or "") else base), node.lineno
        elif isinstance(node, ast.Call):
            yield from ((name, node.lineno) for name in _dynamic(node))


def _absolute(module: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    steps = node.level - 1 if is_package else node.level
    base = module.split(".")
    base = base[: len(base) - steps]
    return ".".join([*base, node.module] if node.module else base)


def _dynamic(node: ast.Call) -> Iterator[str]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in _DYNAMIC:
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
