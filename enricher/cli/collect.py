# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher collect``: the events of many hosts, from a JetStream stream or a Kafka topic into Parquet files.

Owns this command's options. Never needs privileges, nor the service's configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from enricher.cli.cluster import KINDS, add_cluster, add_names, kafka_options, nats_options
from enricher.cli.options import Signals, count, duration, say, size
from enricher.runtime.collect.collector import Collector, Limits
from enricher.runtime.collect.lane import Lane
from enricher.runtime.collect.stream import Stream
from enricher.runtime.collect.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.runtime.collect.source import Source

_LOOK = 0.2
"""Seconds between two looks."""
_REASONS = 8
"""That are told until it works again."""
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
        help="write the events of many hosts, from a JetStream stream or a Kafka topic, to Parquet files",
        description="Read the stream that destinations of type nats publish to, or the topic of those of type kafka,"
        " and write its events to Parquet files, one directory for each day and host, each event once. Ends on Ctrl-C"
        " with everything written that it has read. Needs the extra collect; for Kafka the extra kafka too.",
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="where the files are; made if need be"
    )
    parser.add_argument(
        "--from", dest="source", choices=KINDS, default="nats", help="what it is (default: nats)"
    )
    add_names(parser)
    add_cluster(parser)
    parser.add_argument(
        "--lane",
        type=_lane,
        default=(0, 1),
        metavar="NUMBER/LANES",
        help="take only hosts of this lane, of kafka partitions, as one of several collectors: 0/2 and 1/2"
        " (default: 0/1, all)",
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
        "--until-idle", action="store_true", help="end when there has been nothing new for a second"
    )
    parser.set_defaults(call=collect)


def collect(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    number, lanes = options.lane
    source: Source
    if options.source == "kafka":
        source = Topic(kafka_options(options, topic=options.topic), number, lanes)
    else:
        source = Stream(nats_options(options, stream=options.stream), number, lanes)
    if source.advice:
        say(f"advice: {source.advice}")
    limits = Limits(
        options.batch_events,
        options.batch_size,
        options.interval,
        f"{options.memory >> 20}MiB",
        options.lateness,
        options.until_idle,
    )
    lane = Lane(options.directory, number, lanes)
    try:
        with Signals() as signals:
            collector = Collector(source, lane, limits, say)
            _run(collector, source, lambda: signals.stopped)
    finally:
        lane.close()
    return 0


def _run(collector: Collector, source: Source, stopped: Callable[[], bool]) -> None:
    async def work() -> None:
        watch = asyncio.create_task(_watch(collector, source, stopped))
        try:
            await collector.run(stopped)
        finally:
            watch.cancel()

    asyncio.run(work())


async def _watch(collector: Collector, source: Source, stopped: Callable[[], bool]) -> None:
    """Say why nothing comes, each reason once; and end also where no server answers, when there is nothing to write."""
    said: set[str] = set()
    while not stopped():
        if source.trouble and source.trouble not in said and len(said) < _REASONS:
            say(f"{source.name}: {source.trouble}; trying on")
            said.add(source.trouble)
        elif collector.began and not source.trouble:
            said.clear()
        await asyncio.sleep(_LOOK)  # a signal sets it, no event of the loop's
    if not collector.began:
        source.ended = True
