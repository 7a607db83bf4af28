# SPDX-License-Identifier: Apache-2.0
"""The command ``audit-enricher``: finds the subcommand, turns errors into a message, a hint and an exit code.

Owns nothing else: every subcommand is a module of its own. A traceback that reaches the user is a bug.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from enricher import __version__
from enricher.errors import EnricherError
from enricher.forms import form

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = """\
exit codes:
  0  done
  1  an unexpected error
  2  the command line or the configuration asks for something that cannot be done
  3  a capability is missing
  4  not in the initial user, pid or network namespace
  5  the kernel has no audit
  6  the kernel lacks BTF or a function to attach to, or object and program differ
  7  the kernel refused the BPF programs
  8  the self-test failed: no hook sees every record
  9  the output cannot be opened or written
  10 doctor: it runs here, but something is lost or cannot be told
  11 doctor: it cannot run here
  12 a capture or a log is damaged; everything before the damage was used
  13 no service answers on the control socket
  14 what was asked of a container identifier was refused
  15 verify: files are not as they were written and sealed
  16 fleet: the receivers are not as they should be, or do not answer
"""


COMMANDS = (
    "run",
    "record",
    "replay",
    "doctor",
    "namespaces",
    "schema",
    "service",
    "plugin",
    "status",
    "follow",
    "check",
    "verify",
    "contid",
    "exec",
    "collect",
    "fleet",
)
"""Each is a module of its own in this package. Only the one that is asked for is loaded."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line of one command, or of all."""
    top = argparse.ArgumentParser(
        prog="audit-enricher",
        description="Linux audit records with the namespaces of the task that acted, read in kernel context.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"audit-enricher {__version__} ({form()})")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS if command is None else (command,):
        importlib.import_module(f"enricher.cli.{name}").add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    asked = words[0] if words and words[0] in COMMANDS else None
    options = parser(asked).parse_args(words)
    try:
        code: int = options.call(options)
    except EnricherError as error:
        print(f"audit-enricher: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return code
