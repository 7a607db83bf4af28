# SPDX-License-Identifier: Apache-2.0
"""What several commands have in common: values such as 30s and 64K, the options of the output, the signals.

Owns their spelling and their help. Never does a command's work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Final

from enricher.runtime.output import FORMATS, Wanted

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

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


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` and `replay` can be told of their output; `wanted` reads it."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="table for people, json one event a line, text the kernel's lines plus ours"
        " (default: table on a terminal, else json)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write to FILE (made with mode 0600) instead of stdout"
    )
    parser.add_argument("--count", type=count, metavar="N", help="stop after N events were written")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="K",
        help="only events with this audit key, and LOST events (may be repeated)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="T",
        help="only events with a record of this type, by name or number, and LOST events (may be repeated)",
    )
    parser.add_argument(
        "--no-self", action="store_true", help="leave out events that this program itself caused"
    )
    parser.add_argument(
        "--raw", action="store_true", help="json: add each record's text as the kernel wrote it"
    )


def wanted(options: argparse.Namespace) -> Wanted:
    """What was asked for by the options of `add_output`."""
    return Wanted(
        options.format, options.output, options.key, options.type, options.count, options.no_self, options.raw
    )


def say(text: str) -> None:
    """A sentence about the command itself, to standard error."""
    tell(f"audit-enricher: {text}")


def tell(text: str) -> None:
    """Text to standard error, which may have gone with standard output (`2>&1 | head`): nobody is left then."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Signals:
    """Signals within a `with` block: flags, and a pipe, `fd`, that wakes whoever waits for it.

    SIGINT and SIGTERM set `stopped`; the second one ends the process at once, as it would without us.
    SIGUSR1 makes `take_report` true once.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.fd = -1
        self._report = False

    def __enter__(self) -> Self:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGUSR1: self._ask}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)
        os.close(self.fd)

    def take_report(self) -> bool:
        """Whether SIGUSR1 has come since this was last asked."""
        if not self._report:
            return False
        self._report = False
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65_536)
        return True

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.stopped:
            # Somebody insists: the output may be blocked for good.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stopped = True

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._report = True
