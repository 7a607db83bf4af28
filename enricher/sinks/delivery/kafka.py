# SPDX-License-Identifier: Apache-2.0
"""Kafka: events are produced to one topic, a container's in their order, and acknowledged by all replicas in sync.

Owns what is produced, its key, and what a delivery report means. Never makes or changes a topic: docs/sinks/kafka.md
has one. Needs confluent-kafka, which is imported with the first destination of this type.

librdkafka connects, retries and balances by itself, in threads of its own; the producer is idempotent, so that what it
retries is there once. What it gives up after `ack_timeout` is produced anew, and may be there twice then.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from enricher.config.kinds import Count, Kind, Unfit
from enricher.config.options import Clash, needed, option, refuse_clashes
from enricher.sinks.delivery.connection import AddressesKind, ReceiverOptions, Tls, addresses_of
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.kafkalogin import read_connection
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Unreachable
from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import KafkaError, Producer

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_WAIT: Final = 1.0
_POLL: Final = 0.1
_LATE: Final = 5.0
"""Seconds that the library may need beyond its own limit for reporting."""


class TopicKind(Kind[str]):
    """The name of a topic."""

    what = "the name of a topic: letters, digits, '.', '_' and '-'"
    metavar = "TOPIC"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if not _TOPIC.fullmatch(text):
            raise Unfit(self.wrong(text))
        return text


@dataclass(frozen=True)
class KafkaOptions(ReceiverOptions):
    """What can be set of a destination of type `kafka`."""

    address: str = needed(
        "where some of the brokers listen: HOST:PORT, several with commas between them", kind=AddressesKind()
    )
    tls: bool = option(default=False, doc="whether connections are TLS")
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = option(
        "SCRAM-SHA-512", "SASL's mechanism, where there is a username"
    )
    username: str = option("", "the user for SASL, with password_file; empty: none")
    password_file: str = option(
        "", "file with the user's password; a name without a slash is a systemd credential"
    )
    topic: str = option("audit-events", "the topic", TopicKind())
    compression: Literal["lz4", "zstd", "gzip", "none"] = option("lz4", "lz4, zstd, gzip or none")
    batch: int = option(
        500, "events that are produced ahead of their acknowledgements, at most", Count(1, 10_000)
    )
    ack_timeout: float = option(30.0, "seconds until an event that is not acknowledged is produced anew")

    def clashes(self) -> Iterator[Clash]:
        """See `Clashing`."""
        yield from super().clashes()
        if self.tls_given != Tls() and not self.tls:
            hint = "tls = true, or leave the tls_ options out"
            yield Clash("tls", "there are options of TLS without it", hint)
        if self.tls_server_name:
            hint = "a broker's certificate has to have the name that the cluster gives for it"
            yield Clash("tls_server_name", "Kafka has a name for each broker", hint)
        if bool(self.username) != bool(self.password_file):
            given, other = ("username", "password_file") if self.username else ("password_file", "username")
            yield Clash(given, f"there is no {other}", "a user needs both, or leave both out")


def key_of(host: str, body: bytes) -> bytes:
    """Return what chooses the partition: the host and the container's full id, or the host alone with its slash.

    The id is ``container.id``, in OCSF ``container.uid``; where it is hidden or not chosen, the host has to do.
    """
    found: object = None
    if b'"container"' in body:
        try:
            document = json.loads(body)
            container = document.get("container") if isinstance(document, dict) else None
            if isinstance(container, dict):
                found = container.get("id", container.get("uid"))
        except (ValueError, RecursionError):
            pass
    return f"{host}/{found if isinstance(found, str) else ''}".encode(errors="replace")


class KafkaSender:
    """A `Sender` for one topic; it connects at the first `send`. Raises UsageError and ConfigInvalid."""

    acknowledged = True

    def __init__(self, options: KafkaOptions, machine_id: str) -> None:
        addresses_of(options.address)
        refuse_clashes(options)
        self._library: Any = extra("confluent_kafka", "kafka", "python3-confluent-kafka")
        self.most = options.batch
        self._options = options
        self._host = machine_id
        connection, self.advice = read_connection(options)
        self._config: dict[str, Any] = {
            **connection,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2",  # as consumers' tools in Java have it
            "compression.type": options.compression,
            "linger.ms": 5,
            "message.timeout.ms": max(1000, int(1000 * options.ack_timeout)),
            "error_cb": self._complain,
        }
        self._producer: Producer | None = None
        self._why = ""
        self._fatal = False

    def send(self, messages: Sequence[Message]) -> Receipt:
        """See `Sender`. Ends when all is acknowledged or given up, after `ack_timeout` and some seconds at most."""
        if not messages:
            return ALL_TAKEN
        refused: dict[int, str] = {}
        waiting = set(range(len(messages)))
        again: set[int] = set()
        producer = self._made()

        def report(number: int, error: KafkaError | None) -> None:
            waiting.discard(number)
            if error is None:
                return
            self._why = printable(error.str())
            if error.code() in {
                self._library.KafkaError.MSG_SIZE_TOO_LARGE,
                self._library.KafkaError.INVALID_MSG,
            }:
                refused[number] = self._why
            else:
                again.add(number)

        for number, message in enumerate(messages):
            self._produce(producer, number, message, report)
        end = time.monotonic() + self._options.ack_timeout + _LATE
        while waiting and time.monotonic() < end and not self._fatal:
            producer.poll(_POLL)
        if waiting:  # none of its reports may come into a later call
            self._abandon()
        again |= waiting
        if len(again) == len(messages):
            raise Unreachable(f"{self._options.address}: {self._said()}", wait=_WAIT)
        return Receipt(refused, sorted(again), _WAIT if again else None) if refused or again else ALL_TAKEN

    def _produce(self, producer: Producer, number: int, message: Message, report: Any) -> None:  # noqa: ANN401
        try:
            producer.produce(
                self._options.topic,
                value=message.body,
                key=key_of(self._host, message.body),
                headers=[("uid", message.uid.encode(errors="replace"))],
                on_delivery=lambda error, _: report(number, error),
            )
        except self._library.KafkaException as error:
            report(number, error.args[0])
        except BufferError:  # more bytes than the library holds at once: those that are in are sent first
            report(number, self._library.KafkaError(self._library.KafkaError._QUEUE_FULL))  # noqa: SLF001

    def _made(self) -> Producer:
        if self._producer is None:
            self._why = ""
            try:
                self._producer = self._library.Producer(self._config)
            except self._library.KafkaException as error:
                raise Unreachable(f"{self._options.address}: {printable(error.args[0].str())}") from error
        producer: Producer = self._producer
        return producer

    def _complain(self, error: KafkaError) -> None:
        """Keep why it does not work; what is fatal ends this producer."""
        self._why = printable(error.str())
        if error.fatal():
            self._fatal = True

    def _said(self) -> str:
        unknown = self._library.KafkaError(self._library.KafkaError.UNKNOWN_TOPIC_OR_PART).str()
        if "Unknown topic" in self._why or self._why == printable(unknown):
            return f"there is no topic {self._options.topic}: make it (docs/sinks/kafka.md)"
        return self._why or "nothing was acknowledged in time"

    def _abandon(self) -> None:
        """Leave this producer, with all that it holds."""
        producer, self._producer, self._fatal = self._producer, None, False
        if producer is not None:
            producer.purge()
            producer.poll(0)

    def close(self) -> None:
        """See `Sender`. Nothing is in the producer between two calls."""
        self._abandon()
