# SPDX-License-Identifier: Apache-2.0
"""The kernel side that is none: for a run on a kernel in which no hook can be used.

Owns being `loader.Loaded` without a program. Whoever uses it says so on every event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.sources.bpf import wire
from enricher.sources.bpf.families import families

if TYPE_CHECKING:
    from enricher.facts import Fact
    from enricher.model import CgroupChange, Context, Tally


class Blind:
    """See `loader.Loaded`: no rings, no messages, and all counters at 0."""

    ring_count = 0
    ring_size = 0
    counts_lost = False
    parked = False

    def __init__(self) -> None:
        self.tap: list[bytes] | None = None
        self.cgroups: list[CgroupChange] = []
        self.facts: list[Fact] = []
        self.families = {family.name: "there is no kernel side" for family in families()}

    def found(self, cgroups: list[CgroupChange]) -> None:
        """See `loader.Loaded`: nobody is ever told to be in one."""

    def look_at_all(self) -> tuple[list[Context], list[Tally]]:
        """See `loader.Loaded`."""
        return [], []

    def drain(self) -> tuple[list[Context], list[Tally]]:
        """See `loader.Loaded`."""
        return [], []

    def wake_fds(self) -> list[int]:
        """See `loader.Loaded`."""
        return []

    def counters(self) -> dict[str, int]:
        """See `loader.Loaded`."""
        return dict.fromkeys((*wire.COUNTERS, "unknown_messages"), 0)

    def drops_by_cpu(self) -> list[int]:
        """See `loader.Loaded`."""
        return []

    def run_times(self) -> dict[str, tuple[int, int]]:
        """See `loader.Loaded`."""
        return {}

    def missed(self) -> int | None:
        """See `loader.Loaded`."""
        return None

    def missed_losses(self) -> int | None:
        """See `loader.Loaded`."""
        return None

    def missed_facts(self) -> int:
        """See `loader.Loaded`."""
        return 0

    def missed_lives(self) -> int:
        """See `loader.Loaded`."""
        return 0

    def settle(self) -> None:
        """See `Loaded.settle`: nothing to ask."""

    def look_for_missed(self) -> None:
        """See `loader.Loaded`."""

    def close(self) -> None:
        """See `loader.Loaded`."""
