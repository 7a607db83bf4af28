# SPDX-License-Identifier: Apache-2.0
"""The three HTTP protocols side by side: a receiver, a sender and messages for each.

For tests that hold for all of them, the soak and the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from enricher.sinks.delivery.bulk import BulkOptions, BulkSender
from enricher.sinks.delivery.hec import HecOptions, HecSender
from enricher.sinks.delivery.http_batches import HttpSender
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.otlp import OtlpOptions, OtlpSender
from tests.delivery.driver import messages, records
from tests.delivery.receivers.base import Receiver
from tests.delivery.receivers.bulk import BulkReceiver
from tests.delivery.receivers.hec import HecReceiver
from tests.delivery.receivers.otlp import OtlpReceiver


class Protocol(NamedTuple):
    """``receiver`` takes a script, ``sender`` a URL and other options of HttpOptions."""

    name: str
    receiver: Callable[..., Receiver]
    sender: Callable[..., HttpSender]
    messages: Callable[[int], list[Message]]
    authorization: Callable[[str], str]


def bulk(url: str, **more: object) -> BulkSender:
    return BulkSender(BulkOptions(url, **more))  # type: ignore[arg-type]  # a test's own words


def hec(
    url: str, *, ack: bool = True, ack_timeout: float = 2.0, index: str = "", **more: object
) -> HecSender:
    options = HecOptions(url, index=index, ack=ack, ack_timeout=ack_timeout, **more)  # type: ignore[arg-type]
    # Without the pauses between questions: a receiver here counts them instead.
    return HecSender(options, "host1", pause=lambda _: None)


def otlp(url: str, **more: object) -> OtlpSender:
    options = OtlpOptions(url, **more)  # type: ignore[arg-type]
    return OtlpSender(options, {"host.name": "host1", "process.pid": 7, "x": True})


PROTOCOLS = (
    Protocol("bulk", BulkReceiver, bulk, messages, lambda secret: f"ApiKey {secret}"),
    Protocol("hec", HecReceiver, hec, messages, lambda secret: f"Splunk {secret}"),
    Protocol("otlp", OtlpReceiver, otlp, records, lambda secret: f"Bearer {secret}"),
)


def uids(waiting: Iterable[Message]) -> set[str]:
    return {message.uid for message in waiting}


__all__ = ["PROTOCOLS", "Protocol", "bulk", "hec", "otlp", "uids"]
