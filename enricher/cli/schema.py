# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher schema``: the JSON Schemas of what the program writes, for consumers that validate what they get.

Owns where the files are. Never makes or changes one: each file is the published contract, byte for byte.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

FILES: Final = {
    "events": "audit-enricher-1.schema.json",
    "namespaces": "audit-enricher-namespaces-1.schema.json",
}
"""By the name that the command takes."""

_FIRST: Final = "events"


def published(name: str = _FIRST) -> bytes:
    """Return one of `FILES` (JSON Schema, draft 2020-12, UTF-8)."""
    return files("enricher").joinpath("schemas", FILES[name]).read_bytes()


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command; it has no options."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of the events that `run --format json` writes",
        description="Print the JSON Schema (draft 2020-12) of one event as `run --format json` writes it, or of the"
        " document that `namespaces --json` writes.",
    )
    parser.add_argument(
        "name", nargs="?", choices=tuple(FILES), default=_FIRST, help="which one (default: %(default)s)"
    )
    parser.set_defaults(call=_print)


def _print(options: argparse.Namespace) -> int:
    sys.stdout.write(published(options.name).decode())
    return 0
