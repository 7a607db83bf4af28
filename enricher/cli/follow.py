# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher follow``: the running service's events as they happen, until Ctrl-C or a count.

Owns this command's options and what is shown of which line. Never reads the kernel: the events come from the service,
over its control socket, and may be of another version. Standard output holds events and nothing else.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from enricher.cli.options import Signals, add_config, add_filters, count, say, settings_for_asking
from enricher.config.settings import GROUP, SOCKET
from enricher.errors import OutputFailed
from enricher.route.views.table import Table, escape, terminal_width, wants_colour
from enricher.runtime.control_client import Following
from enricher.sinks.stream import OutputClosed, StdoutSink

if TYPE_CHECKING:
    import argparse

_STDOUT = 1
_EVENT = b'{"schema":"audit-enricher/1",'


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "follow",
        help="show the running service's events as they happen",
        description="Show the events that the running service sees, as they happen, over its control socket."
        " Ends on Ctrl-C. Needs root or the group that control.group names.",
    )
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        help="table for people, json one event a line (default: table on a terminal, else json)",
    )
    parser.add_argument("--count", type=count, metavar="N", help="stop after N events were shown")
    add_filters(parser)
    parser.add_argument(
        "--no-self",
        action="store_true",
        help="leave out events that the service or this command itself caused",
    )
    add_config(parser)
    parser.set_defaults(call=follow)


def follow(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    if sys.stdout is None:
        raise OutputFailed("standard output is closed", "give the events somewhere to go")
    settings = settings_for_asking(options.config)
    with (
        Signals() as signals,
        Following(
            settings[SOCKET],
            settings[GROUP],
            options.key,
            options.type,
            options.filter,
            skip_self=options.no_self,
        ) as following,
    ):
        try:
            show = _Show(options.format, options.count)
            say("ready")
            _work(following, show, signals)
        except OutputClosed:
            say("the reader of the output went away")
    return 0


def _work(following: Following, show: _Show, signals: Signals) -> None:
    """Show what comes until something ends it. Raises OutputClosed, and NotRunning when the service goes."""
    poll = select.poll()
    poll.register(following.fileno(), select.POLLIN)
    poll.register(signals.fd, select.POLLIN)
    poll.register(_STDOUT, 0)  # a reader that goes away is told even while nothing comes
    lines = following.waiting()
    while True:
        if lines:
            show.lines(lines)
        if show.full:
            return
        ready = dict(poll.poll())
        signals.take_report()  # nothing to report, but its byte would wake us for ever
        if signals.stopped:
            return
        if _STDOUT in ready:
            raise OutputClosed("the reader of standard output has gone")
        lines = following.take() if following.fileno() in ready else []


class _Show:
    """Writes lines of the service to standard output, `limit` events at most, then it is `full`."""

    def __init__(self, view: str | None, limit: int | None) -> None:
        terminal = sys.stdout.isatty()
        self._sink = StdoutSink(_STDOUT)
        self._left = limit
        self._table: Table | None = None
        self.full = False
        self._terminal = terminal
        if (view or ("table" if terminal else "json")) == "table":
            self._table = Table(colour=wants_colour(os.environ, terminal=terminal))
            self._fit()
            self._sink.write([self._table.header()])

    def lines(self, lines: list[bytes]) -> None:
        """Show the events among them in one write, and say what else the service has to say."""
        events = [line for line in lines if line.startswith(_EVENT) or self._is_event(line)]
        if self._left is not None:
            events = events[: self._left]
            self._left -= len(events)
            self.full = not self._left
        if self._table is not None:
            self._fit()
            self._sink.write([_row(self._table, event) for event in events])
        else:
            self._sink.write([event + b"\n" for event in events])

    def _fit(self) -> None:
        """The terminal may have been made wider or narrower."""
        if self._table is not None and self._terminal:
            self._table.width = terminal_width(_STDOUT)

    @staticmethod
    def _is_event(line: bytes) -> bool:
        """Whether the line is an event of whatever schema; if not, say what it says."""
        said = _read(line)
        if isinstance(said, dict) and "schema" in said:
            return True
        if isinstance(said, dict) and "skipped" in said:
            say(
                f"{escape(str(said['skipped']))} events are not shown: they came faster than they were read here"
            )
        else:
            say(f"not understood, is the service of the same version? {_harmless(line)}")
        return False


def _read(line: bytes) -> Any:  # noqa: ANN401 - what a service of any version says
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _harmless(line: bytes) -> str:
    return escape(line.decode("utf-8", "backslashreplace"))


def _row(table: Table, line: bytes) -> bytes:
    """Return the event's line of the table; one of a shape that this version cannot read is shown as it came."""
    try:
        return table.render(_read(line))
    except (LookupError, TypeError, ValueError, AttributeError):
        return _harmless(line).encode() + b"\n"
