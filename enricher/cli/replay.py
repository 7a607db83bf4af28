# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher replay``: events from a capture, or from audit logs that exist already.

Owns this command's options and telling the two kinds of input apart. Asks nothing of its host and needs no
privilege but to read the files.
"""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from enricher.cli.options import (
    Signals,
    add_config,
    add_output,
    duration,
    need_destinations,
    say,
    tell,
    wanted,
)
from enricher.config.load import load
from enricher.correlate import ledger
from enricher.correlate.logjoin import LogJoin
from enricher.errors import DamagedInput, EnricherError, OutputFailed, UsageError
from enricher.model import KINDS, HostFacts
from enricher.route.filters import made_of
from enricher.route.views.table import escape
from enricher.runtime.cycles import seldom
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
    from typing import Self

    from enricher.model import Batch, Event
    from enricher.runtime.delivery import Delivery
    from enricher.sources.names import Names

_CYCLES: Final = 200_000
"""Objects: a batch or two."""

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
    parser.add_argument(
        "--sinks",
        action="store_true",
        help="deliver to the configured destinations, [sinks.NAME], and wait until they have everything; nothing is"
        " written to standard output then. Spools are below STATE_DIRECTORY, which a running service holds",
    )
    parser.add_argument(
        "--for",
        dest="duration",
        type=duration,
        metavar="DURATION",
        help="with --sinks: end after 30s, 5m, 1h, whatever still waits",
    )
    add_config(parser)
    add_output(parser)
    parser.set_defaults(call=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code. Raises DamagedInput when everything else is done."""
    made_of(options.key, options.type, options.filter)  # raises for what is wrong before anything is read
    stdin = _stdin(options.files)
    capture = _names_capture(options.files, stdin)
    if capture and options.journal is not None:
        raise UsageError("a capture needs no journal: it has its contexts", "leave out --journal")
    if options.duration is not None and not options.sinks:
        raise UsageError(
            "--for without --sinks", "a replay ends where its input does; it can wait for destinations"
        )
    with Signals() as signals, seldom(_CYCLES):
        outputs = _Outputs(options, signals)
        try:
            damage = (_capture if capture else _logs)(options, outputs, stdin)
        except OutputClosed:
            say("the reader of the output went away")
            return 0
    for line in outputs.words():
        tell(line)
    if damage is not None:
        raise damage
    return 0 if outputs.complete else OutputFailed.exit_code


class _Outputs:
    """Where events go: to the output, to destinations, or to both."""

    def __init__(self, options: argparse.Namespace, signals: Signals) -> None:
        self._options = options
        self._signals = signals
        self._end = None if options.duration is None else time.monotonic() + options.duration
        self._settings = load(options.config) if options.sinks else None
        if self._settings is not None:
            need_destinations(options, self._settings)
        self._output: Output | None = None
        self._delivery: Delivery | None = None

    @property
    def over(self) -> bool:
        """Whether it is to end."""
        late = self._end is not None and time.monotonic() >= self._end
        return late or self._signals.stopped or (self._output is not None and self._output.full)

    @contextmanager
    def opened(self, facts: HostFacts, names: Names) -> Iterator[Self]:
        options = self._options
        with ExitStack() as stack:
            if self._settings is None or options.output:
                self._output = stack.enter_context(Output(wanted(options), facts, names))
            if self._settings is not None:
                from enricher.runtime.delivery import Delivery  # noqa: PLC0415 - it loads every protocol

                self._delivery = stack.enter_context(
                    Delivery(
                        self._settings,
                        facts,
                        names,
                        say,
                        lambda: self.over,
                        changes=options.ns_changes,
                        lives=options.ns_lives,
                    )
                )
            yield self

    def emit(self, events: list[Event]) -> None:
        for each in (self._output, self._delivery):
            if each is not None:
                each.emit(events)

    def learn(self, batch: Batch) -> None:
        for each in (self._output, self._delivery):
            if each is not None:
                each.learn(batch)

    def finish(self) -> None:
        if self._output is not None:
            self._output.flush()
        if self._delivery is not None:
            self._delivery.finish()

    def words(self) -> list[str]:
        return [] if self._delivery is None else self._delivery.words()

    @property
    def complete(self) -> bool:
        return self._delivery is None or self._delivery.complete


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


def _capture(options: argparse.Namespace, outputs: _Outputs, stdin: io.BufferedReader) -> DamagedInput | None:
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
        with outputs.opened(head.facts, names):
            summary, damage = replay(head, frames, names, outputs.emit, lambda: outputs.over, outputs.learn)
            outputs.finish()
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


def _logs(options: argparse.Namespace, outputs: _Outputs, stdin: io.BufferedReader) -> EnricherError | None:
    counts = LogCounts()
    join = LogJoin()
    damage: EnricherError | None = None
    with ExitStack() as stack:
        recall = stack.enter_context(_recall(options.journal))
        batches = read_log(options.files, counts, stdin)
        stack.enter_context(outputs.opened(NOWHERE, NoNames()))

        def emit(done: list[Event]) -> None:
            if recall is not None:
                recall.fill(done)
            outputs.emit(done)

        try:
            for batch in batches:
                if done := join.feed(batch):
                    emit(done)
                if outputs.over:
                    break
        except (DamagedInput, UsageError) as error:  # a stream is opened, and looked at, when its turn comes
            damage = error
        if done := join.finish():
            emit(done)
        outputs.finish()
    if recall is not None:
        say(f"{recall.found} of {join.events} events found in the journal")
        damage = damage or recall.damage
    say(
        f"{counts.records} records in {join.events} events; {counts.own} lines of our own left out,"
        f" {counts.malformed} malformed lines passed through, {counts.truncated} truncated"
    )
    return damage
