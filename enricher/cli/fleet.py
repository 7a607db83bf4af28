# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher fleet``: the receivers' side of many hosts: a stream or a topic, and users.

Owns this command's options and what is said. Never needs privileges, nor the service's configuration.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.cli.cluster import KINDS, add_cluster, add_names, kafka_options, nats_options
from enricher.cli.options import count, duration, put, reader, say, size
from enricher.config.kinds import Count
from enricher.errors import FleetNotReady, UsageError
from enricher.runtime.fleet.jetstream import JetStream
from enricher.runtime.fleet.kafka import Kafka
from enricher.runtime.fleet.layout import Layout
from enricher.runtime.fleet.users import read_hosts, write_users

if TYPE_CHECKING:
    from enricher.runtime.fleet.layout import Finding

_EPILOG: Final = """\
setup nats        make the JetStream stream that destinations of type nats publish to
setup kafka       make the topic that destinations of type kafka produce to; --writer and --reader give rights
users DIRECTORY   write users.conf, for the configuration of nats-server, and a password for each host of --hosts

What is there already and as it should be is left as it is; what differs is told, and changed with --update alone.
fleet.md among the documents shows all of it.
"""
_DEFAULTS: Final = Layout()
_LESS: Final = reader(Count(1, 5))


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "fleet",
        help="make what many hosts publish to: a JetStream stream or a Kafka topic, and its users",
        description="Set up a cluster of NATS or Kafka for the events of many hosts. It can be run again at any time."
        " Needs the extra nats or kafka.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("setup", "users"), help="what to do")
    parser.add_argument(
        "what", metavar="nats|kafka|DIRECTORY", help="the kind of the cluster; of users: where to"
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; end with 16 where something would be done"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing; say what would be done")
    parser.add_argument("--update", action="store_true", help="setup: change what is there and differs")
    parser.add_argument(
        "--hosts", metavar="FILE", type=Path, help="users: the hosts' machine ids, one a line"
    )
    add_names(parser)
    _add_layout(parser)
    add_cluster(parser)
    parser.set_defaults(call=fleet)


def _add_layout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replicas", type=_LESS, default=_DEFAULTS.replicas, metavar="N", help="copies (default: 3)"
    )
    parser.add_argument(
        "--max-age",
        type=duration,
        default=_DEFAULTS.max_age,
        metavar="TIME",
        help="how long events are kept (default: 7d)",
    )
    parser.add_argument(
        "--max-size",
        type=size,
        default=_DEFAULTS.most,
        metavar="SIZE",
        help="how many bytes of them, in each copy; the oldest go first (default: as many as there is room for)",
    )
    parser.add_argument(
        "--max-message",
        type=size,
        default=_DEFAULTS.max_message,
        metavar="SIZE",
        help="the largest event (default: 1M)",
    )
    parser.add_argument(
        "--window",
        type=duration,
        default=_DEFAULTS.window,
        metavar="TIME",
        help="nats: how long the stream knows a uid again (default: 1d)",
    )
    parser.add_argument(
        "--partitions",
        type=count,
        default=_DEFAULTS.partitions,
        metavar="N",
        help="kafka: partitions, as many as there will be collectors at most (default: 24)",
    )
    parser.add_argument(
        "--min-in-sync",
        type=_LESS,
        default=_DEFAULTS.in_sync,
        metavar="N",
        help="kafka: copies that have to have an event (default: 2)",
    )
    for who, right in (("writer", "write"), ("reader", "read")):
        parser.add_argument(
            f"--{who}",
            action="append",
            default=[],
            metavar="User:NAME",
            help=f"kafka: let this principal {right} the topic; may be repeated",
        )


def fleet(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    dry = options.check or options.dry_run
    found = _users(options, dry=dry) if options.action == "users" else _setup(options, dry=dry)
    for each in found:
        put(f"{each.what}: {each.said}")
    wrong = [each for each in found if not each.well]
    if wrong and (options.check or not dry):
        raise FleetNotReady(
            f"{len(wrong)} of {len(found)} {'is' if len(wrong) == 1 else 'are'} not as wanted",
            "without --check it is done" if dry else "--update changes it, or say in options what is there",
        )
    return 0


def _users(options: argparse.Namespace, *, dry: bool) -> list[Finding]:
    if options.hosts is None:
        raise UsageError("users needs --hosts", "a file with the machine id of each host on a line")
    if options.what in KINDS:
        raise UsageError(f"users takes a directory, not {options.what}", "./nats for one of that name")
    return write_users(Path(options.what), read_hosts(options.hosts), options.stream, dry=dry)


def _setup(options: argparse.Namespace, *, dry: bool) -> list[Finding]:
    layout = Layout(
        replicas=options.replicas,
        max_age=options.max_age,
        most=options.max_size,
        max_message=options.max_message,
        window=min(options.window, options.max_age) if options.window == _DEFAULTS.window else options.window,
        partitions=options.partitions,
        in_sync=options.min_in_sync,
        writers=options.writer,
        readers=options.reader,
    )
    layout.check()
    if options.what not in KINDS:
        raise UsageError(f"there is no kind {options.what!r}", f"fleet setup {' or '.join(KINDS)}")
    cluster: JetStream | Kafka
    if options.what == "nats":
        if options.writer or options.reader:
            raise UsageError("--writer and --reader are of kafka", "fleet users makes those of nats")
        cluster = JetStream(nats_options(options, stream=options.stream))
    else:
        cluster = Kafka(kafka_options(options, topic=options.topic))
    found = cluster.setup(layout, update=options.update, dry=dry)
    for each in cluster.advice:
        say(f"advice: {each}")
    return found
