# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher collect``: the events of many hosts, from a JetStream stream into Parquet files.

Owns this command's options. Never needs privileges, nor the service's configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from enricher.cli.cluster import add_cluster, nats_options
from enricher.cli.options import Signals, count, duration, reader, say, size
from enricher.runtime.collect.collector import Collector, Limits
from enricher.runtime.collect.lane import Lane
from enricher.runtime.collect.stream import Stream
from enricher.sinks.delivery.jetstream import StreamKind

if TYPE_CHECKING:
    from collections.abc import Callable

_LANE = re.compile(r"([0-9]{1,3})/([0-9]{1,3})")


def _lane(text: str) -> tuple[int, int]:
    found = _LANE.fullmatch(text)
    if not found or not int(found[1]) < int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no lane: NUMBER/LANES, the first one is 0/LANES")
    return int(found[1]), int(found[2])


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "collect",
        help="write the events of many hosts, from a JetStream stream, to Parquet files",
        description="Read the stream that destinations of type nats publish to, and write its events to Parquet"
        " files, one directory for each day and host, each event once. Ends on Ctrl-C with everything written that"
        " it has read. Needs the extras collect and nats.",
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="where the files are; made if need be"
    )
    parser.add_argument(
        "--stream",
        type=reader(StreamKind()),
        default="AUDIT",
        metavar="NAME",
        help="the stream (default: AUDIT)",
    )
    add_cluster(parser)
    parser.add_argument(
        "--lane",
        type=_lane,
        default=(0, 1),
        metavar="NUMBER/LANES",
        help="take only hosts of this lane, as one of several collectors: 0/2 and 1/2 (default: 0/1, all)",
    )
    parser.add_argument(
        "--batch-events", type=count, default=200_000, metavar="N", help="events in a batch (default: 200000)"
    )
    parser.add_argument(
        "--batch-size", type=size, default=256 << 20, metavar="SIZE", help="bytes in a batch (default: 256M)"
    )
    parser.add_argument(
        "--interval",
        type=duration,
        default=60.0,
        metavar="TIME",
        help="write a batch after this long, full or not (default: 1min)",
    )
    parser.add_argument(
        "--lateness",
        type=duration,
        default=60.0,
        metavar="TIME",
        help="count an event as late that is so much older than the newest one before its batch (default: 1min)",
    )
    parser.add_argument(
        "--memory", type=size, default=1 << 30, metavar="SIZE", help="what DuckDB may use (default: 1G)"
    )
    parser.add_argument(
        "--until-idle", action="store_true", help="end when the stream has had nothing new for a second"
    )
    parser.set_defaults(call=collect)


def collect(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    stream = Stream(nats_options(options, stream=options.stream))
    if stream.advice:
        say(f"advice: {stream.advice}")
    limits = Limits(
        options.batch_events,
        options.batch_size,
        options.interval,
        f"{options.memory >> 20}MiB",
        options.lateness,
        options.until_idle,
    )
    number, lanes = options.lane
    lane = Lane(options.directory, number, lanes)
    try:
        collector = Collector(stream, lane, number, lanes, limits, say)
        with Signals() as signals:
            _run(collector, stream, lambda: signals.stopped)
    finally:
        lane.close()
    return 0


def _run(collector: Collector, stream: Stream, stopped: Callable[[], bool]) -> None:
    async def work() -> None:
        watch = asyncio.create_task(_watch(stream, stopped))
        try:
            await collector.run(stopped)
        finally:
            watch.cancel()

    asyncio.run(work())


async def _watch(stream: Stream, stopped: Callable[[], bool]) -> None:
    """End also where no server answers, when there is nothing to write."""
    while not stopped():  # noqa: ASYNC110 - a signal sets it, no event of the loop's
        await asyncio.sleep(0.2)
    if not stream.created:
        stream.ended = True
