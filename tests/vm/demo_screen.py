# SPDX-License-Identifier: Apache-2.0
"""The reader's side of the demo: standard output, and the table that runs on a terminal of the guest.

Owns passing the guest's lines on as they come and knowing when an act's rows are all there. Never changes a line.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from enricher.route.views.table import wants_colour
from tests.vm.errors import VmError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from tests.vm.guest import Guest

__all__ = ["BALANCED", "LIMIT", "STEP", "Screen", "Table"]

BALANCED: Final = "every record is accounted for"
"""The last line of the account that `audit-enricher run` prints."""

LIMIT: Final = 60.0
"""Seconds that the program may take to get ready, and to end."""

STEP: Final = 0.03
"""Seconds between two looks at what has arrived."""

_COLUMNS: Final = 140  # where standard output is no terminal
_ROWS_LIMIT: Final = 15.0
_QUIET: Final = 0.8  # seconds without a row after which an act's rows are taken to be all there


class Screen:
    """Standard output: bold headlines on a terminal, plain text elsewhere."""

    def __init__(self) -> None:
        self._out = sys.stdout.buffer
        self.terminal = sys.stdout.isatty()
        self.colour = wants_colour(os.environ, terminal=self.terminal)
        self.size = shutil.get_terminal_size((_COLUMNS, 24))

    def write(self, line: bytes) -> None:
        """Pass a line of the guest on."""
        self._out.write(line + b"\n")
        self._out.flush()

    def say(self, text: str = "") -> None:
        """Print our own words."""
        self.write(text.encode())

    def headline(self, text: str) -> None:
        """Set a text off from what comes before; a later line of it is an explanation."""
        self.say()
        for line in text.split("\n"):
            self.say(f"\x1b[1m# {line}\x1b[0m" if self.colour else f"# {line}")


class Table:
    """The running table. Its lines go to the screen whenever somebody calls `show`."""

    def __init__(self, guest: Guest, screen: Screen, argv: Sequence[str]) -> None:
        env = {"TERM": os.environ.get("TERM", "dumb") if screen.terminal else "dumb"}
        if not screen.colour:
            env["NO_COLOR"] = "1"
        self._screen = screen
        self._process = guest.popen(argv, env=env, pty=(screen.size.lines, screen.size.columns))
        self._rest = b""
        self.lines = 0
        self.moved = time.monotonic()
        self.said: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)

    def show(self) -> None:
        """Pass on the whole lines that have arrived."""
        data = self._rest + self._process.read_available()
        # The terminal in the guest ends lines as terminals do.
        *lines, self._rest = data.replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            self._screen.write(line)
        self.said += lines
        if lines:
            self.lines += len(lines)
            self.moved = time.monotonic()

    @property
    def rows(self) -> list[str]:
        """Rows of events so far: what stands between "ready" and the account."""
        said = list(itertools.dropwhile(lambda line: not line.endswith(b": ready"), self.said))
        rows = itertools.takewhile(lambda line: not line.startswith(b"events "), said[1:])
        return [row.decode(errors="replace") for row in rows]

    def wait_ready(self) -> None:
        """Show what it says until it is ready."""
        deadline = time.monotonic() + LIMIT
        while not any(line.endswith(b": ready") for line in self.said):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.show()
                raise VmError("audit-enricher did not get ready: see above")
            time.sleep(STEP)
            self.show()

    def settle(self, since: int, rows: int) -> int:
        """Show rows until there are `rows` since the line number `since` and no more come; return how many."""
        deadline = time.monotonic() + _ROWS_LIMIT
        while time.monotonic() < deadline:
            if self.lines - since >= rows and time.monotonic() - self.moved > _QUIET:
                break
            time.sleep(STEP)
            self.show()
        return self.lines - since

    def stop(self) -> bool:
        """End it as Ctrl-C does, show its account; return whether it balances."""
        self._process.signal(signal.SIGINT)
        status = self._process.wait(LIMIT)
        self.show()
        return status == 0 and any(line.startswith(BALANCED.encode()) for line in self.said[-3:])
