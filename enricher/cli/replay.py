# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher replay``: events from a capture, or from audit logs that exist already.

Owns this command's options and telling the two kinds of input apart. Asks nothing of its host and needs no
privilege but to read the files.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from enricher.cli.options import Signals, add_output, say, tell, wanted
from enricher.correlate import ledger
from enricher.correlate.logjoin import LogJoin
from enricher.errors import DamagedInput, EnricherError, UsageError
from enricher.model import KINDS, HostFacts
from enricher.route.filters import made_of
from enricher.route.views.table import escape
from enricher.runtime.output import Output
from enricher.runtime.replay import Recall, replay
from enricher.sinks.stream import OutputClosed
from enricher.sources.capture import MAGIC, CaptureReader, Head, is_capture
from enricher.sources.journal import JournalReader
from enricher.sources.logfile import STDIN, read_log
from enricher.sources.logformat import LogCounts
from enricher.sources.names import NoNames
from enricher.sources.recorded import RecordedNames

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from enricher.model import Event

NOWHERE: Final = HostFacts("", "", "", "", (0,) * len(KINDS))
"""What is known of the host a log comes from."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "replay",
        help="write the events of a capture, or of existing audit logs",
        description="Write the events of a capture made by `record` or `run --capture`, the same bytes that the"
        " run wrote; or those of audit logs. A log tells no namespaces and no containers: the service's journal does.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a capture; or audit logs, plain or compressed, directories of them, and - for standard input",
    )
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="of logs: find namespaces and containers in this journal.sqlite of the service",
    )
    add_output(parser)
    parser.set_defaults(call=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code. Raises DamagedInput when everything else is done."""
    made_of(options.key, options.type, options.filter)  # raises for what is wrong before anything is read
    stdin = _stdin(options.files)
    capture = _names_capture(options.files, stdin)
    if capture and options.journal is not None:
        raise UsageError("a capture needs no journal: it has its contexts", "leave out --journal")
    with Signals() as signals:
        try:
            damage = _capture(options, signals, stdin) if capture else _logs(options, signals, stdin)
        except OutputClosed:
            say("the reader of the output went away")
            return 0
    if damage is not None:
        raise damage
    return 0


def _stdin(files: list[str]) -> io.BufferedReader:
    """Standard input. Raises UsageError where it is closed (``<&-``) and wanted."""
    stdin: io.BufferedReader | None = getattr(sys.stdin, "buffer", None)
    if stdin is not None:
        with suppress(OSError, ValueError):  # no file behind it
            # What started us may have left its pipe non-blocking; then one that is empty seems to be at its end.
            os.set_blocking(stdin.fileno(), True)
        return stdin
    if STDIN in files:
        raise UsageError("standard input is closed", "redirect it from a file or a pipe, or name a file")
    return io.BufferedReader(cast("io.RawIOBase", io.BytesIO()))


def _names_capture(files: list[str], stdin: io.BufferedReader) -> bool:
    """Whether the only file is a capture. Raises UsageError where one of several is."""
    found = [name for name in files if is_capture(_beginning(name, stdin))]
    if found and len(files) > 1:
        raise UsageError(f"{found[0]} is a capture, and there are other files", "replay captures one by one")
    return bool(found)


def _beginning(name: str, stdin: io.BufferedReader) -> bytes:
    """The first bytes of a file that can be read more than once; b"" of any other, and of what is none."""
    path = Path(name)
    try:
        if name == STDIN:
            return stdin.peek(len(MAGIC))[: len(MAGIC)]
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(len(MAGIC))
    except (OSError, ValueError):
        return b""  # the reader of logs says what is wrong with it


@contextmanager
def _opened(name: str, stdin: io.BufferedReader) -> Iterator[BinaryIO]:
    if name == STDIN:
        yield stdin
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below; only the opening may fail like this
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    with file:
        yield file


def _capture(options: argparse.Namespace, signals: Signals, stdin: io.BufferedReader) -> DamagedInput | None:
    name = options.files[0]
    with _opened(name, stdin) as file:
        reader = CaptureReader(file, "standard input" if name == STDIN else name)
        frames = reader.frames()
        head = next(frames)
        if not isinstance(head, Head):  # the reader sees to that
            raise DamagedInput(f"{name}: no head")
        names = RecordedNames()
        # Somebody else's words, perhaps meant for a terminal.
        name, kernel, hook, loader, program = map(
            escape, (head.facts.name, head.kernel, head.hook, head.loader, head.program)
        )
        say(f"a capture of {name}, Linux {kernel}, hook {hook}, loader {loader}, made by version {program}")
        with Output(wanted(options), head.facts, names) as output:
            summary, damage = replay(
                head, frames, names, output.emit, lambda: signals.stopped or output.full, output.learn
            )
            output.flush()
    tell(ledger.words(summary))
    return damage


@contextmanager
def _recall(path: str | None) -> Iterator[Recall | None]:
    if path is None:
        yield None
        return
    journal = JournalReader(path)
    try:
        yield Recall(journal)
    finally:
        journal.close()


def _logs(options: argparse.Namespace, signals: Signals, stdin: io.BufferedReader) -> EnricherError | None:
    counts = LogCounts()
    join = LogJoin()
    damage: EnricherError | None = None
    with ExitStack() as stack:
        recall = stack.enter_context(_recall(options.journal))
        batches = read_log(options.files, counts, stdin)
        output = stack.enter_context(Output(wanted(options), NOWHERE, NoNames()))

        def emit(done: list[Event]) -> None:
            if recall is not None:
                recall.fill(done)
            output.emit(done)

        try:
            for batch in batches:
                if done := join.feed(batch):
                    emit(done)
                if signals.stopped or output.full:
                    break
        except (DamagedInput, UsageError) as error:  # a stream is opened, and looked at, when its turn comes
            damage = error
        if done := join.finish():
            emit(done)
        output.flush()
    if recall is not None:
        say(f"{recall.found} of {join.events} events found in the journal")
        damage = damage or recall.damage
    say(
        f"{counts.records} records in {join.events} events; {counts.own} lines of our own left out,"
        f" {counts.malformed} malformed lines passed through, {counts.truncated} truncated"
    )
    return damage
