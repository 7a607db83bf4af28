# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher doctor``: whether this host can run it, and what would be lost.

Owns this command's options, the table for people, the JSON for programs and the exit code. Never finds
anything out itself. Names of processes and files come from anyone: nothing of them reaches a terminal raw.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Final

from enricher.cli.options import put, settings_for_asking
from enricher.config.settings import DAEMON
from enricher.route.views.table import escape, terminal_width, wants_colour
from enricher.runtime import doctor as checks
from enricher.runtime.doctor import NAMES, Verdict, verdict
from enricher.runtime.doctor.rows import Host, State

if TYPE_CHECKING:
    from enricher.runtime.doctor.rows import Row

SCHEMA: Final = "audit-enricher-doctor/1"
EXIT_CODES: Final = {Verdict.WORKS: 0, Verdict.LOSES: 10, Verdict.FAILS: 11}
_WORDS: Final = {
    Verdict.WORKS: "it works here, and nothing is known to be lost",
    Verdict.LOSES: "nothing forbids it here, but something is lost or cannot be told: see what is not ok",
    Verdict.FAILS: "it cannot run here: see what failed",
}
_COLOURS: Final = {State.OK: "32", State.WARN: "33", State.FAIL: "1;31", State.UNKNOWN: "36"}
_STATE_WIDTH: Final = max(len(state.value) for state in State)
_NAME_WIDTH: Final = max(map(len, NAMES))
_INDENT: Final = " " * (_NAME_WIDTH + _STATE_WIDTH + 4)
_LEAST_TEXT: Final = 30

_EPILOG: Final = """\
Each row is one thing that was asked: its name, its state, what was found, and a hint where it is not ok.

states:
  ok       nothing is wrong
  warn     it runs, but something is lost, or will be
  fail     it cannot run here
  unknown  it could not be told, and why; never taken for ok

It can be started without any privilege, and then says what it could not see. As root, unless --no-load is
given, it does what `run` does at its start: loads its programs, sends one USER_AVC record to prove that they
see every record, and unloads them. It changes no setting and no rule. With --no-load the self-test is unknown,
and the exit code never 0.

exit codes:
  0   nothing is wrong
  10  it runs, but something is lost or cannot be told (warn, unknown)
  11  it cannot run here (fail)
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="tell whether this host can run it, and what would be lost",
        description="Examine this host and say in one table whether audit-enricher can run here, what would be"
        " lost, and what to do about it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")
    parser.add_argument(
        "--no-load", action="store_true", help="do not load the programs: the self-test stays unknown"
    )
    parser.set_defaults(call=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    daemon = settings_for_asking(None)[DAEMON]
    rows = list(checks.run(Host(daemon=daemon), load=not options.no_load))
    told = verdict(rows)
    if options.json:
        text = as_json(rows)
    else:
        terminal = sys.stdout is not None and sys.stdout.isatty()
        width = terminal_width(1) if terminal else None
        text = as_table(rows, width=width, colour=wants_colour(os.environ, terminal=terminal))
    put(text)
    return EXIT_CODES[told]


def as_json(rows: list[Row]) -> str:
    """Return the rows and the verdict as one JSON object in ASCII."""
    members = [
        {"name": row.name, "state": row.state.value, "detail": row.detail}
        | ({"hint": row.hint} if row.hint else {})
        for row in rows
    ]
    return json.dumps({"schema": SCHEMA, "rows": members, "verdict": verdict(rows).value}, indent=1)


def as_table(rows: list[Row], *, width: int | None = None, colour: bool = False) -> str:
    """Return the rows for people, each with its hint below it, and the verdict as the last line."""
    lines = []
    for row in rows:
        state = row.state.value.ljust(_STATE_WIDTH)
        if colour:
            state = f"\x1b[{_COLOURS[row.state]}m{state}\x1b[0m"
        first, *more = _wrapped(row.detail, width)
        lines.append(f"{row.name:{_NAME_WIDTH}}  {state}  {first}")
        lines += [_INDENT + line for line in more]
        lines += [_INDENT + line for line in (_wrapped(f"hint: {row.hint}", width) if row.hint else ())]
    told = verdict(rows)
    lines.append(f"\nverdict: {told.value}: {_WORDS[told]}")
    return "\n".join(lines)


def _wrapped(text: str, width: int | None) -> list[str]:
    """Return at least one line, made harmless; broken only where there is a terminal to break it for."""
    # A message may have lines of its own, as the verifier's: they stay lines.
    safe = [escape(line) for line in text.split("\n")]
    if width is None:
        return safe
    room = max(width - len(_INDENT), _LEAST_TEXT)
    return [piece for line in safe for piece in textwrap.wrap(line, room) or [""]]
