# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher run``: enriched events from the running kernel, until Ctrl-C, a time or a count.

Owns this command's options and its signals. What it says about itself goes to standard error, so
that standard output holds events and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from enricher.correlate import ledger
from enricher.runtime import startup
from enricher.runtime.output import FORMATS, Output, Wanted
from enricher.runtime.pipeline import Pipeline
from enricher.sinks.stream import OutputClosed
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.loader import DEFAULT_BUDGET
from enricher.sources.host import read_host_facts

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

    from enricher.correlate.ledger import Summary

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"(\d+)([KMG]?)")
_SHIFTS: Final = {"": 0, "K": 10, "M": 20, "G": 30}


def duration(text: str) -> float:
    """Seconds of "30", "30s", "500ms", "5m" or "1h"."""
    found = _DURATION.fullmatch(text)
    if not found or not float(found[1]):
        msg = f"{text!r} is not a duration such as 30s, 5m or 1h"
        raise argparse.ArgumentTypeError(msg)
    return float(found[1]) * _UNITS[found[2]]


def size(text: str) -> int:
    """Bytes of "33554432", "32M" or "64K"."""
    found = _SIZE.fullmatch(text)
    if not found or not int(found[1]):
        msg = f"{text!r} is not a size such as 64K or 32M"
        raise argparse.ArgumentTypeError(msg)
    return int(found[1]) << _SHIFTS[found[2]]


def count(text: str) -> int:
    """A whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is not a whole number of 1 or more"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "run",
        help="write enriched events of this host as they happen",
        description="Load the programs, read the audit stream beside auditd, and write enriched events."
        " Ends on Ctrl-C with an account of every record.",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="table for people, json one event a line, text the kernel's lines plus ours"
        " (default: table on a terminal, else json)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write to FILE (made with mode 0600) instead of stdout"
    )
    parser.add_argument(
        "--for", dest="duration", type=duration, metavar="DURATION", help="stop after 30s, 5m, 1h"
    )
    parser.add_argument("--count", type=count, metavar="N", help="stop after N events were written")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="K",
        help="only events with this audit key (may be repeated)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="T",
        help="only events with a record of this type, by name or number (may be repeated)",
    )
    parser.add_argument(
        "--no-self", action="store_true", help="leave out events that this program itself caused"
    )
    parser.add_argument(
        "--raw", action="store_true", help="json: add each record's text as the kernel wrote it"
    )
    parser.add_argument(
        "--hook",
        choices=["auto", *(hook.value for hook in Hook)],
        default="auto",
        help="the kernel function to attach to (default: chosen by what the kernel offers)",
    )
    parser.add_argument(
        "--ring-memory",
        type=size,
        default=DEFAULT_BUDGET,
        metavar="SIZE",
        help="memory of all BPF rings together, at least 64K each (default: 32M)",
    )
    parser.add_argument("--verbose", action="store_true", help="the verifier's whole log where loading fails")
    parser.set_defaults(call=run)


def _say(text: str) -> None:
    _tell(f"audit-enricher: {text}")


def _tell(text: str) -> None:
    # Standard error may have gone with standard output (`2>&1 | head`): then nobody is left to be told.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class _Signals:
    """SIGINT and SIGTERM end the loop, within a `with` block: a flag, and a pipe that wakes the wait."""

    def __init__(self) -> None:
        self.stopped = False
        self.fd = -1

    def __enter__(self) -> Self:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)
        os.close(self.fd)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    with _Signals() as signals:
        summary = _run(options, signals)
    if summary is not None:
        _tell(ledger.words(summary))
    return 0


def _run(options: argparse.Namespace, signals: _Signals) -> Summary | None:
    """The run's account; None where the reader of the output went away before its end."""
    reading = read_host_facts()
    for note in reading.notes:
        _say(note)
    # The output first: a file that cannot be written is known before anything is attached.
    wanted = Wanted(
        options.format, options.output, options.key, options.type, options.count, options.no_self, options.raw
    )
    with Output(wanted, reading.facts) as output:
        if output.advice:
            _say(output.advice)
        forced = None if options.hook == "auto" else Hook(options.hook)
        started = startup.start(_say, forced=forced, budget=options.ring_memory, verbose=options.verbose)
        try:
            _say(
                f"Linux {os.uname().release}, hook {started.candidate.hook.value} ({started.candidate.reason}),"
                f" self-test {started.trial.proof.value}, loader {started.loader},"
                f" {started.loaded.ring_count} rings of {started.loaded.ring_size >> 10} KiB"
            )
            pipeline = Pipeline(started, output.emit)
            pipeline.wake_on(signals.fd)
            _say("ready")
            deadline = None if options.duration is None else time.monotonic() + options.duration
            pipeline.run(lambda: signals.stopped or output.full, deadline)
            summary = pipeline.finish()
            output.flush()
        except OutputClosed:
            _say("the reader of the output went away")
            return None
        finally:
            startup.stop(started)
    return summary
