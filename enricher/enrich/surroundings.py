# SPDX-License-Identifier: Apache-2.0
"""What is known of one boot beside its events: cgroups, the lives of namespaces, and whose they are.

Owns that they are told of the same things in the right order. Never holds an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.correlate.lives import Lives
from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.contidboxes import ContidBoxes
from enricher.enrich.tenants import Tenants
from enricher.enrich.users import UserMaps

if TYPE_CHECKING:
    from enricher.model import Batch, HostFacts


class Surroundings:
    """``learn`` before the events of the same batch are made."""

    def __init__(self, host: HostFacts, cgroups: CgroupTable | None = None) -> None:
        self.cgroups = CgroupTable() if cgroups is None else cgroups
        self.lives = Lives()
        self.tenants = Tenants(self.lives, self.cgroups, host.initial)
        self.users = UserMaps(self.lives)
        self.contids = ContidBoxes(self.tenants, self.cgroups, host.initial)

    def learn(self, batch: Batch) -> None:
        """Take in what a batch tells beside its records."""
        self.cgroups.learn(batch)
        if batch.facts:
            self.lives.learn(batch.facts, batch.oldest)
            self.tenants.learn(batch.facts)
            self.users.learn(batch.facts, batch.oldest)
            self.contids.learn(batch.facts)
