# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher exec``: run a program with an audit container identifier from its first instruction on.

Owns the order: a child that waits, the identifier, the program. It stays the parent, and so the identifier's owner,
passes signals on and ends as the program did. Never runs the program without the identifier, unless told to.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from enricher.cli.options import add_config, say, settings_for_asking
from enricher.config.settings import CONTID_SOCKET
from enricher.errors import EnricherError, UsageError
from enricher.runtime import contid_client
from enricher.runtime.contid_request import AUTO, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_PASSED_ON: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_NOT_FOUND: Final = 127
_NOT_RUN: Final = 126
_BY_SIGNAL: Final = 128


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "exec",
        help="run a program with an audit container identifier",
        description="Run a program that has an audit container identifier before its first instruction, as has"
        " everything it starts. Ends as the program does: with its exit code, 128 and the signal's number, 127 where"
        " there is no such program, 126 where it cannot be run.",
    )
    parser.add_argument(
        "--contid",
        required=True,
        metavar="CONTID",
        help="the identifier: a number below 2^64 - 1, or auto for one that nobody uses",
    )
    parser.add_argument(
        "--or-without",
        action="store_true",
        help="run the program all the same where the identifier cannot be set",
    )
    add_config(parser)
    parser.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="-- PROGRAM", help="the program, with its arguments"
    )
    parser.set_defaults(call=execute)


def execute(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    words: list[str] = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not words:
        raise UsageError(
            "there is no program to run", "audit-enricher exec --contid auto -- PROGRAM ARGUMENT..."
        )
    number = number_of(options.contid)
    path = settings_for_asking(options.config)[CONTID_SOCKET]
    # Before the fork: from here on a signal is the program's.
    child = _Child(words)
    try:
        target = os.pidfd_open(child.pid)
        try:
            shown = "auto" if number == AUTO else str(number)
            contid_client.ask(path, {"op": "set", "contid": shown}, target)
        finally:
            os.close(target)
    except EnricherError as error:
        if not options.or_without:
            child.give_up()
            raise
        say(f"no container identifier: {error.message}")
    except BaseException:
        child.give_up()
        raise
    return child.run()


class _Child:
    """A fork that waits for `run`; it ends with us where that never comes."""

    def __init__(self, words: Sequence[str]) -> None:
        waiting, self._go = os.pipe()
        self._failed, failing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._go)
            os.close(self._failed)
            _become(words, waiting, failing)
        os.close(waiting)
        os.close(failing)
        self._words = words

    def run(self) -> int:
        """Let it go on, and wait for its end; returns the exit code."""

        def pass_on(number: int, _: FrameType | None) -> None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

        for each in _PASSED_ON:
            signal.signal(each, pass_on)
        os.write(self._go, b"!")
        os.close(self._go)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        failed = os.read(self._failed, 16)
        os.close(self._failed)
        if failed:
            number = int(failed)
            say(f"{self._words[0]}: {os.strerror(number)}")
            return _NOT_FOUND if number == _ENOENT else _NOT_RUN
        return code if code >= 0 else _BY_SIGNAL - code

    def give_up(self) -> None:
        """Have it end without having run anything."""
        os.close(self._go)
        os.waitpid(self.pid, 0)
        os.close(self._failed)


_ENOENT: Final = 2


def _become(words: Sequence[str], waiting: int, failing: int) -> None:
    """Wait for the word to go on, then be the program. Returns never."""
    try:
        if os.read(waiting, 1):
            signal.signal(
                signal.SIGPIPE, signal.SIG_DFL
            )  # Python ignores it, and an ignored one would be inherited
            os.execvp(words[0], list(words))  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        os.write(failing, b"%d" % (error.errno or 0))
    finally:
        os._exit(_NOT_RUN)
