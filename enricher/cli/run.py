# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher run``: enriched events from the running kernel, until Ctrl-C, a time or a count.

Owns this command's options. What it says about itself goes to standard error, so that standard output
holds events and nothing else.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, nullcontext
from typing import TYPE_CHECKING

from enricher import __version__
from enricher.cli.options import (
    Signals,
    add_output,
    add_settings,
    duration,
    need_destinations,
    say,
    settings_of,
    tell,
    wanted,
)
from enricher.clock import TurnClock
from enricher.config import settings as rows
from enricher.correlate import ledger
from enricher.errors import OutputFailed, UsageError
from enricher.runtime import prefetch, startup
from enricher.runtime.loaders import pick
from enricher.runtime.output import Output
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.stages import Opening
from enricher.sinks.stream import OutputClosed
from enricher.sources.bpf.hook import Hook
from enricher.sources.capture import CaptureWriter, Head
from enricher.sources.host import read_host_facts
from enricher.sources.names import HostNames
from enricher.sources.recorded import RecordingNames

if TYPE_CHECKING:
    import argparse

    from enricher.config.load import Settings
    from enricher.correlate.ledger import Summary
    from enricher.model import Loss
    from enricher.runtime.rundelivery import RunDelivery
    from enricher.runtime.startup import Started
    from enricher.sources.host import HostReading
    from enricher.sources.names import Names


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "run",
        help="write enriched events of this host as they happen",
        description="Load the programs, read the audit stream beside auditd, and write enriched events."
        " Ends on Ctrl-C with an account of every record.",
    )
    add_output(parser)
    parser.add_argument(
        "--capture",
        metavar="FILE",
        help="also write a capture of both raw streams, for `replay`; FILE must not exist",
    )
    parser.add_argument(
        "--sinks",
        action="store_true",
        help="deliver to the configured destinations, [sinks.NAME]; nothing is written to standard output then. Spools"
        " are below STATE_DIRECTORY, which the service's user must have alone: name another one",
    )
    add_sources(parser)
    parser.set_defaults(call=run, discard=False, max_size=None)


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` and `record` can be told of where events come from and when to stop."""
    parser.add_argument(
        "--for", dest="duration", type=duration, metavar="DURATION", help="stop after 30s, 5m, 1h"
    )
    add_settings(parser, rows.HOOK, rows.LOADER, rows.RING_MEMORY, rows.RECEIVE_BUFFER)
    parser.add_argument("--verbose", action="store_true", help="the verifier's whole log where loading fails")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    with Signals() as signals, ExitStack() as attached:
        done = _run(options, signals, attached)
        # Before the programs are let go of, for which the kernel takes a tenth of a second each.
        if done is None:
            return 0
        summary, delivery = done
        tell(ledger.words(summary))
        if delivery is None:
            return 0
        for line in delivery.words():
            tell(line)
        return 0 if delivery.complete else OutputFailed.exit_code


def _run(
    options: argparse.Namespace, signals: Signals, attached: ExitStack
) -> tuple[Summary, RunDelivery | None] | None:
    """The run's account, and its destinations; None where the reader of the output went away before its end.

    `attached` takes what ends the run after its outputs are closed.
    """
    _keep_apart(options)
    settings = settings_of(options)
    if options.sinks:
        need_destinations(options, settings)
    reading = read_host_facts()
    for note in reading.notes:
        say(note)
    clock = TurnClock()
    names = HostNames(clock)
    # First of all, while nothing is open that its processes must not have; then the outputs: a file that cannot be
    # written is known before anything is attached.
    metadata = prefetch.start(settings, clock, say)
    with (
        closing(metadata) if metadata else nullcontext(),
        CaptureWriter(options.capture) if options.capture else nullcontext() as capture,
        ExitStack() as stack,
    ):
        known = RecordingNames(names, capture) if capture else names
        output: Output | RunDelivery
        delivery: RunDelivery | None = None
        if not options.sinks:
            output = stack.enter_context(_output(options, reading, known))
        else:
            written = stack.enter_context(_output(options, reading, known)) if options.output else None
            output = delivery = stack.enter_context(_delivery(options, written, settings, reading, known))
        if metadata is not None:
            output.cgroups.asker = metadata.want
        if output.advice:
            say(output.advice)
        started = startup.start(
            say,
            forced=None if settings[rows.HOOK] == "auto" else Hook(settings[rows.HOOK]),
            budget=settings[rows.RING_MEMORY],
            receive_buffer=settings[rows.RECEIVE_BUFFER],
            tap=capture is not None,
            verbose=options.verbose,
            loader=pick(settings[rows.LOADER], say, verbose=options.verbose),
        )
        attached.callback(startup.stop, started)
        try:
            say(startup.describe(started))
            opening = Opening(os.getpid(), os.urandom(4).hex(), started.trial.serial)
            if capture:
                capture.head(_head(reading, started, opening))
            if delivery is not None:
                delivery.start()
            pipeline = Pipeline(started, output.emit, opening, capture, clock, output.learn, metadata)
            try:
                return _work(pipeline, output, options, signals, capture), delivery
            except OutputFailed:
                tell(ledger.words(pipeline.summary()))  # what went wrong is told by the exception
                raise
        except OutputClosed:
            say("the reader of the output went away")
            return None


def _output(options: argparse.Namespace, reading: HostReading, names: Names) -> Output:
    return Output(wanted(options), reading.facts, names, discard=options.discard)


def _delivery(
    options: argparse.Namespace, output: Output | None, settings: Settings, reading: HostReading, names: Names
) -> RunDelivery:
    from enricher.runtime.rundelivery import RunDelivery  # noqa: PLC0415 - it loads every protocol

    changes, lives = options.ns_changes, options.ns_lives
    return RunDelivery(output, settings, reading.facts, names, say, changes=changes, lives=lives)


def _keep_apart(options: argparse.Namespace) -> None:
    """Raise UsageError where events and capture would go to one file, which nobody could read."""
    if options.discard or not options.capture:
        return
    if options.capture == "-" and not options.output and not options.sinks:
        raise UsageError("events and capture would both go to standard output", "give --output FILE as well")
    if options.output and os.path.realpath(options.output) == os.path.realpath(options.capture):
        raise UsageError(f"{options.output}: both the output and the capture", "name two files")


def _work(
    pipeline: Pipeline,
    output: Output | RunDelivery,
    options: argparse.Namespace,
    signals: Signals,
    capture: CaptureWriter | None,
) -> Summary:
    """From ready to the account."""
    pipeline.wake_on(signals.fd)
    say("ready")
    deadline = None if options.duration is None else time.monotonic() + options.duration
    delivery = None if isinstance(output, Output) else output
    if delivery is not None:
        pipeline.longest_wait = delivery.longest_wait

    def tell_loss(loss: Loss) -> None:
        pipeline.stages.tell(loss, time.time())

    def stop() -> bool:
        if delivery is not None:
            for loss in delivery.losses(pipeline.clock.now):
                tell_loss(loss)
        if signals.take_report():
            tell(ledger.words(pipeline.summary()))
        full = capture is not None and options.max_size is not None and capture.size >= options.max_size
        return signals.stopped or output.full or full

    pipeline.run(stop, deadline)
    summary = pipeline.finish()
    if delivery is not None:
        delivery.end(tell_loss)
    output.flush()
    return summary


def _head(reading: HostReading, started: Started, opening: Opening) -> Head:
    return Head(
        reading.facts,
        opening.pid,
        opening.run,
        __version__,
        os.uname().release,
        started.hook_name,
        started.loader,
        opening.start,
    )
