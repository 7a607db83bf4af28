# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher schema``: the JSON Schema of the native event, for consumers that validate what they get.

Owns where the file is. Never makes or changes it: the file is the published contract, byte for byte.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

_FILE: Final = "audit-enricher-1.schema.json"


def published() -> bytes:
    """Return the file (JSON Schema, draft 2020-12, UTF-8)."""
    return files("enricher").joinpath("schemas", _FILE).read_bytes()


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command; it has no options."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of the events that `run --format json` writes",
        description="Print the JSON Schema (draft 2020-12) of one event as `run --format json` writes it.",
    )
    parser.set_defaults(call=_print)


def _print(_options: argparse.Namespace) -> int:
    sys.stdout.write(published().decode())
    return 0
