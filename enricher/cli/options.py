# SPDX-License-Identifier: Apache-2.0
"""What several commands have in common: values such as 30s and 64K, the options of the output, the signals.

Owns their spelling and their help. Never does a command's work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from enricher.config.kinds import Choice, Count, Duration, Kind, Size, Unfit
from enricher.config.load import DROP_INS, Settings, load, read
from enricher.config.settings import CHANGES, FILE, LIVES, Setting
from enricher.errors import OutputFailed, UsageError
from enricher.runtime.output import FORMATS, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

T = TypeVar("T")


def reader(kind: Kind[T]) -> Callable[[str], T]:
    """Return what argparse takes as a `type` for a kind of value."""

    def read(text: str) -> T:
        try:
            return kind.parse(text)
        except Unfit as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


duration: Final = reader(Duration())
size: Final = reader(Size())
count: Final = reader(Count())


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare where settings are read from."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"read settings from FILE, and from {DROP_INS}/*.toml beside it (default: {FILE})",
    )


def add_settings(parser: argparse.ArgumentParser, *rows: Setting[Any]) -> None:
    """Declare an option for each of these settings, and --config; `settings_of` reads them."""
    for row in rows:
        choices = row.kind.words if isinstance(row.kind, Choice) else None
        shown = row.kind.show(row.default).strip('"')
        parser.add_argument(
            row.option,
            dest=row.name,
            type=str if choices else reader(row.kind),
            choices=choices,
            metavar=None if choices else row.kind.metavar,
            help=f"{row.doc} (default: {shown}, or what the configuration says)",
        )
    add_config(parser)
    parser.set_defaults(rows=rows)


def settings_for_asking(path: str | None) -> Settings:
    """Return what can be read of the settings: wrong ones must not keep anybody from asking a running service."""
    settings, problems = read(path, os.environ)
    if problems:
        say("the configuration is wrong, `audit-enricher check` says where; going on without what is")
    return settings


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of files and environment, and of the options of `add_settings`. Raises ConfigInvalid."""
    settings = load(options.config)
    for row in options.rows:
        value = getattr(options, row.name)
        if value is not None:
            settings = settings.replaced(row, value, row.option)
    return settings


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Declare which events are wanted: `key`, `type` and `filter`, as `route.filters.Filter` takes them."""
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="K",
        help="only events with this audit key, and those about losses and the service (may be repeated)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="T",
        help="only events with a record of this type, by name or number, and those about losses and the service"
        " (may be repeated)",
    )
    parser.add_argument(
        "--filter",
        default="",
        metavar="EXPR",
        help="only events for which this holds, such as 'where == container and not user == root', and those about"
        " losses and the service",
    )


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
    add_filters(parser)
    parser.add_argument(
        "--ns-changes",
        choices=("containers", "all", "none"),
        default="none",
        help=f"{CHANGES.doc} (default: none)",
    )
    parser.add_argument("--ns-lives", action="store_true", help=LIVES.doc)
    parser.add_argument(
        "--no-self", action="store_true", help="leave out events that this program itself caused"
    )
    parser.add_argument(
        "--raw", action="store_true", help="json: add each record's text as the kernel wrote it"
    )


def wanted(options: argparse.Namespace) -> Wanted:
    """What was asked for by the options of `add_output`."""
    return Wanted(
        options.format,
        options.output,
        options.key,
        options.type,
        options.count,
        options.no_self,
        options.raw,
        getattr(options, "ns_changes", "none"),  # not of every command
        getattr(options, "ns_lives", False),
        options.filter,
    )


def need_destinations(options: argparse.Namespace, settings: Settings) -> None:
    """Raise UsageError where there is nothing to deliver to, or what is asked of an output has none to go to."""
    if not settings.sinks:
        raise UsageError("no destination is configured", "[sinks.NAME] in a file that --config names")
    if options.output:
        return
    for name in ("format", "key", "type", "filter", "count", "no_self", "raw"):
        if getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')} is of the output, and --sinks without --output has none",
                "each [sinks.NAME] says its own: filter, schema, skip_self, raw; or give --output FILE as well",
            )


def say(text: str) -> None:
    """A sentence about the command itself, to standard error."""
    tell(f"audit-enricher: {text}")


def tell(text: str) -> None:
    """Text to standard error, which may have gone with standard output (`2>&1 | head`): nobody is left then."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Print to standard output what a command was asked for. Raises OutputFailed where it cannot be written.

    A reader that went away (``| head``) has seen what it wanted: the exit code is as it would be.
    """
    if sys.stdout is None:
        return  # started with standard output closed: the exit code is all that is asked for
    encoding = sys.stdout.encoding or "ascii"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        # Python would try again, and complain, when it ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OutputFailed(f"standard output: {error.strerror}", "see where it leads to") from error


class Signals:
    """Signals within a `with` block: flags, and a pipe, `fd`, that wakes whoever waits for it.

    SIGINT and SIGTERM set `stopped`; the second one ends the process at once, as it would without us. Not where
    `once` says that more than one is sent to whoever shall end but once.
    SIGUSR1 makes `take_report` true once, SIGHUP `take_reload`; without `reload` SIGHUP is left alone.
    """

    def __init__(self, *, reload: bool = False, once: bool = False) -> None:
        self.stopped = False
        self._once = once
        self.fd = -1
        self._report = self._reload = False
        self._reloads = reload

    def __enter__(self) -> Self:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGUSR1: self._ask}
        if self._reloads:
            handlers[signal.SIGHUP] = self._ask
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
        self._empty()  # first: a signal that comes now is to wake again
        self._report = False
        return True

    def take_reload(self) -> bool:
        """Whether SIGHUP has come since this was last asked."""
        if not self._reload:
            return False
        self._empty()
        self._reload = False
        return True

    def _empty(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65_536)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.stopped and not self._once:
            # Somebody insists: the output may be blocked for good.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stopped = True

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._report = True
