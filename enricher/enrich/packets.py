# SPDX-License-Identifier: Apache-2.0
"""The ``packet`` member: the net namespace that a record without a subject is about, and the containers in it.

Owns the member's shape. Never says anything of whoever was running when the record was written: a packet is
evaluated on top of anybody, and tables of a namespace that is gone are taken down by a kernel thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.contid import shown
from enricher.model import KINDS

if TYPE_CHECKING:
    from enricher.correlate.lives import Lives
    from enricher.enrich.cgroups import Home
    from enricher.enrich.namespaces import NamespaceEntries
    from enricher.enrich.shape import PacketContainer, PacketEntry
    from enricher.enrich.tenants import Tenants
    from enricher.facts import PacketNet

_NET: Final = KINDS.index("net")


class Packets:
    """Makes the member for one host's boot, by what was told of its namespaces, their lives and who is in them."""

    def __init__(self, entries: NamespaceEntries, tenants: Tenants, lives: Lives) -> None:
        self._entries = entries
        self._tenants = tenants
        self._lives = lives

    def of(self, packet: PacketNet) -> PacketEntry:
        """Return the member.

        ``containers`` are those that had programs in the namespace, each once, the earliest first. It is empty where
        there were none. It is absent where nobody can say, as of a namespace that is older than this program where its
        start did not see every task, and for the host's own, which is every program's that has no other.
        """
        life = self._lives.at(packet.inum, packet.time, packet.id)
        net = self._entries.entry(_NET, packet.inum, packet.id, None if life is None else life.born)
        entry: PacketEntry = {"net": net}
        if net.get("host") is False:
            inside = self._tenants.inside(packet.inum, packet.time, packet.id)
            if inside is not None:
                entry["containers"] = [named for home in inside if (named := _named(home)) is not None]
        if packet.contids:
            entry["contids"] = [shown(chain) for chain in packet.contids]
        return entry


def _named(home: Home) -> PacketContainer | None:
    container = home.container
    if container is None:
        return None
    named: PacketContainer = {"id": container["id"]}
    if "name" in container:
        named["name"] = container["name"]
    if "runtime" in container:
        named["runtime"] = container["runtime"]
    return named
