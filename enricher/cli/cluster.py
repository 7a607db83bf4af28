# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that speak with a fleet's cluster, NATS or Kafka: where it is, who we are, TLS.

Owns their spelling; what they mean is what the options of the destinations mean, which they become. Never connects.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enricher.cli.options import reader
from enricher.config.kinds import Unfit
from enricher.errors import UsageError
from enricher.sinks.delivery.connection import addresses_of
from enricher.sinks.delivery.jetstream import NatsOptions, StreamKind
from enricher.sinks.delivery.kafka import KafkaOptions, TopicKind

if TYPE_CHECKING:
    from enricher.config.options import Clashing

KINDS: Final = ("nats", "kafka")
_PORTS: Final = {"nats": 4222, "kafka": 9092}
_FILES: Final = {
    "creds_file": "nats: log in with this .creds file",
    "token_file": "nats: log in with the token in this file",
    "password_file": "with --username: the file with the password",
    "tls_ca_file": "with --tls: authorities other than the system's",
    "tls_cert_file": "with --tls: our own certificate, where one is asked for",
    "tls_key_file": "with --tls: its key, where it is in another file",
}
_OF_ONE: Final = {"nats": ("creds_file", "token_file"), "kafka": ("mechanism",)}
"""Options that only one kind has."""


def _servers(text: str) -> str:
    try:
        return ",".join(str(each) for each in addresses_of(text))
    except (Unfit, UsageError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_names(parser: argparse.ArgumentParser) -> None:
    """Declare which stream or topic it is."""
    parser.add_argument(
        "--stream",
        type=reader(StreamKind()),
        default="AUDIT",
        metavar="NAME",
        help="nats: the stream (default: AUDIT)",
    )
    parser.add_argument(
        "--topic",
        type=reader(TopicKind()),
        default="audit-events",
        metavar="TOPIC",
        help="kafka: the topic (default: audit-events)",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Declare where the cluster is and how to log in; `nats_options` and `kafka_options` read it."""
    parser.add_argument(
        "--servers",
        type=_servers,
        metavar="HOST:PORT,...",
        help="servers of the cluster (default: port 4222 of this host for nats, 9092 for kafka)",
    )
    parser.add_argument("--username", default="", metavar="NAME", help="log in as this user")
    parser.add_argument(
        "--mechanism",
        choices=("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
        help="kafka: SASL's mechanism (default: SCRAM-SHA-512)",
    )
    parser.add_argument("--tls", action="store_true", help="use TLS, and nothing else")
    for name, words in _FILES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="FILE", default="", help=words)


def nats_options(options: argparse.Namespace, **more: Any) -> NatsOptions:  # noqa: ANN401 - of several types
    """Return them as a destination of type nats has them. Raises UsageError."""
    found = NatsOptions(**_given(options, "nats"), **more)
    _refuse(found)
    return found


def kafka_options(options: argparse.Namespace, **more: Any) -> KafkaOptions:  # noqa: ANN401 - as above
    """Return them as a destination of type kafka has them. Raises UsageError."""
    found = KafkaOptions(**_given(options, "kafka"), **more)
    _refuse(found)
    return found


def _given(options: argparse.Namespace, kind: str) -> dict[str, Any]:
    given: dict[str, Any] = {
        "address": options.servers or f"127.0.0.1:{_PORTS[kind]}",
        "tls": options.tls,
        "username": options.username,
    }
    for name in (*_FILES, "mechanism"):
        if value := getattr(options, name):
            if any(name in of for other, of in _OF_ONE.items() if other != kind):
                raise UsageError(f"--{name.replace('_', '-')} is not of {kind}", "leave it out")
            # A name alone is a file here, and no credential of systemd's.
            given[name] = value if name == "mechanism" else str(Path(value).absolute())
    return given


def _refuse(options: Clashing) -> None:
    """Say the first clash in the words of the command line."""
    for clash in options.clashes():
        raise UsageError(f"--{clash.key.replace('_', '-')}: {clash.said}", clash.hint.replace(" = true", ""))
