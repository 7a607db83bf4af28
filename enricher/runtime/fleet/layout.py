# SPDX-License-Identifier: Apache-2.0
"""What a fleet's cluster should have, and what is said of how it differs.

Owns the layout of the stream and of the topic: the documents and the files in packaging/fleet show what this makes.
Never connects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from enricher.config.kinds import Duration
from enricher.errors import UsageError

SECOND: Final = 1_000_000_000
"""JetStream's durations are in nanoseconds."""


_NANOSECONDS: Final = ("max_age", "duplicate_window")


class Finding(NamedTuple):
    """One thing that should be there: what it is, what was or would be done, and whether it is as wanted now."""

    what: str
    said: str
    well: bool


@dataclass(frozen=True)
class Layout:
    """How events are kept. Times in seconds, sizes in bytes; `most` 0: as much as there is room for."""

    replicas: int = 3
    max_age: float = 7 * 86_400.0
    most: int = 0
    max_message: int = 1 << 20
    window: float = 86_400.0
    """JetStream: how long a uid is known again."""
    partitions: int = 24
    in_sync: int = 2
    """Kafka: the copies that have to have an event before it is acknowledged."""
    writers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    """Kafka: principals, as User:audit-enricher."""

    def check(self) -> None:
        """Raise UsageError for what no cluster could do."""
        if self.window > self.max_age:
            raise UsageError(
                "--window is longer than --max-age", "a uid cannot be known for longer than its event is kept"
            )
        for each in (*self.writers, *self.readers):
            if not each.startswith("User:") or each == "User:":
                raise UsageError(f"{each!r} is no principal", "User:NAME, as Kafka has it")

    def stream(self, name: str) -> dict[str, object]:
        """Return the configuration of a JetStream stream, in the words of its API."""
        return {
            "name": name,
            "subjects": ["audit.events.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "num_replicas": self.replicas,
            "max_age": int(self.max_age * SECOND),
            "max_bytes": self.most or -1,
            "max_msg_size": self.max_message,
            "duplicate_window": int(self.window * SECOND),
        }

    def topic(self) -> dict[str, str]:
        """Return the configuration of a Kafka topic."""
        return {
            "cleanup.policy": "delete",
            "min.insync.replicas": str(min(self.in_sync, self.replicas)),
            "retention.ms": str(int(self.max_age * 1000)),
            "retention.bytes": str(self.most // self.partitions or -1),  # of each partition
            "max.message.bytes": str(self.max_message),
        }


def differences(wanted: dict[str, object], there: dict[str, object]) -> dict[str, str]:
    """Return what is not as wanted, with a sentence of each; members that are not wanted are nobody's concern."""
    return {
        name: f"{name} is {_shown(name, there.get(name))}, wanted is {_shown(name, value)}"
        for name, value in wanted.items()
        if there.get(name) != value
    }


def _shown(name: str, value: object) -> str:
    if name in _NANOSECONDS and isinstance(value, int) and value > 0:
        return Duration().show(value / SECOND).strip('"')
    return str(value)
