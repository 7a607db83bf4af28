# SPDX-License-Identifier: Apache-2.0
"""Which types of destinations there are: their options, the schemas that they can carry, and what makes a sender.

Owns the table. Imports every protocol, so it is imported where a destination is configured and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from enricher.config.options import rows
from enricher.config.sinks import Common
from enricher.enrich.native import host_entry
from enricher.route.schemas.otlp import resource_members
from enricher.sinks.delivery.bulk import BulkOptions, BulkSender
from enricher.sinks.delivery.file import FileOptions, FileSender
from enricher.sinks.delivery.forward import ForwardOptions, ForwardSender
from enricher.sinks.delivery.hec import HecOptions, HecSender
from enricher.sinks.delivery.jetstream import NatsOptions, NatsSender
from enricher.sinks.delivery.kafka import KafkaOptions, KafkaSender
from enricher.sinks.delivery.otlp import OtlpOptions, OtlpSender
from enricher.sinks.delivery.relp import RelpOptions, RelpSender
from enricher.sinks.delivery.syslog import SyslogOptions, SyslogSender
from enricher.sinks.delivery.unix import UnixOptions, UnixSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.config.options import Row
    from enricher.model import HostFacts
    from enricher.sinks.delivery.message import Sender

_LINES: Final = ("native", "ecs", "ocsf", "otlp", "cef", "text")
"""Schemas of lines, for receivers that take any text."""


class SinkType(NamedTuple):
    """One type. The first of its `schemas` is the default.

    ``network``: it needs the internet's address families. ``late``: what makes its sender starts a thread, which must
    not have the capabilities of the start; all others are made before those are dropped, and may read files that only
    root can.
    """

    options: type[Any]
    schemas: tuple[str, ...]
    make: Callable[[Any, HostFacts], Sender]
    network: bool = True
    late: bool = False

    def rows(self) -> list[Row]:
        """Return what can be set of it: the common options and its own."""
        return [*rows(Common), *rows(self.options)]


def _otlp(options: OtlpOptions, facts: HostFacts) -> Sender:
    # The resource's attributes are texts alone.
    return OtlpSender(options, cast("dict[str, str]", resource_members(host_entry(facts))))


TYPES: Final[dict[str, SinkType]] = {
    "file": SinkType(FileOptions, _LINES, lambda options, _: FileSender(options), network=False),
    "unix": SinkType(UnixOptions, _LINES, lambda options, _: UnixSender(options), network=False, late=True),
    "syslog": SinkType(SyslogOptions, _LINES, lambda options, _: SyslogSender(options)),
    "relp": SinkType(RelpOptions, _LINES, lambda options, _: RelpSender(options)),
    "elasticsearch": SinkType(BulkOptions, ("ecs", "native", "ocsf"), lambda options, _: BulkSender(options)),
    "splunk_hec": SinkType(
        HecOptions,
        ("native", "ecs", "ocsf", "cef", "text"),
        lambda options, facts: HecSender(options, facts.name),
    ),
    "otlp": SinkType(OtlpOptions, ("otlp",), _otlp),
    "forward": SinkType(ForwardOptions, _LINES, lambda options, _: ForwardSender(options)),
    "nats": SinkType(
        NatsOptions,
        ("native", "ecs", "ocsf", "otlp"),
        lambda options, facts: NatsSender(options, facts.machine_id),
    ),
    "kafka": SinkType(
        KafkaOptions,
        ("native", "ecs", "ocsf", "otlp"),
        lambda options, facts: KafkaSender(options, facts.machine_id),
    ),
}
"""In the order of the documentation."""
