# SPDX-License-Identifier: Apache-2.0
"""Where a task was: its namespaces, its cgroup and its container as members of an event or of a part of one.

Owns that the same context gives the same members wherever it stands: for the subject, for a target, for what no rule
asked for. Never identifies a container by itself: `enrich.cgroups` and `enrich.tenants` know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from enricher.enrich.cgroups import home_of
from enricher.enrich.namespaces import NamespaceEntries
from enricher.enrich.packets import Packets
from enricher.model import Recalled

if TYPE_CHECKING:
    from enricher.enrich.cgroups import Home
    from enricher.enrich.shape import Namespaces, Subject
    from enricher.enrich.surroundings import Surroundings
    from enricher.messages import Context
    from enricher.model import HostFacts


class Whereabouts:
    """Of one boot of one host; ``namespaces`` makes entries, ``around`` is what is known beside the events."""

    def __init__(self, host: HostFacts, around: Surroundings) -> None:
        self.around = around
        self.namespaces = NamespaceEntries(host, around.lives)
        self.packets = Packets(self.namespaces, around.tenants, around.lives)
        self._initial = host.initial
        self.users, self.cgroups, self.tenants = around.users, around.cgroups, around.tenants

    def home_of(self, seen: Context | Recalled) -> Home | None:
        """Return the cgroup of a task with this context, as its namespaces let it be told."""
        if isinstance(seen, Recalled):
            if not seen.cgroup_path:
                return None
            home = home_of(seen.cgroup_id, seen.cgroup_path, seen.cgroup_said)
            return home.seen_by(seen.inums, seen.host.initial)
        return self.home_of_task(seen)

    def home_of_task(self, seen: Context) -> Home | None:
        """Return the same of a task that the kernel side told of."""
        known = self.cgroups.of(seen.cgroup_id)
        return known.seen_by(seen.inums, self._initial) if known is not None and known.open else known

    def with_inside(self, subject: Subject, context: Context) -> Subject:
        """Add ``inside`` to a subject, where he is in a user namespace whose maps are known."""
        inside = self.around.users.inside(context, subject, self.namespaces)
        if inside is not None:
            subject["inside"] = inside
        return subject

    def of_cgroup(self, ident: int) -> Home | None:
        """Return the cgroup of a task whose namespaces are not known."""
        return self.cgroups.of(ident)

    def enter(self, native: dict[str, object], home: Home | None, cgroup: int, *, ask: bool = False) -> None:
        """Enter ``where``, ``container`` and ``cgroup`` of a task in this cgroup; with ask, have it asked for."""
        if home is None:
            native["where"] = "unknown"
            if cgroup:
                native["cgroup"] = {"id": str(cgroup)}
            return
        if ask and home.inquiry.wants:
            self.ask(home)
        native["where"] = home.where
        if home.container is not None:
            native["container"] = home.container
        native["cgroup"] = home.cgroup

    def ask(self, home: Home) -> None:
        """Have more found out about a cgroup, since an event was there."""
        self.cgroups.ask(home.inquiry)

    def with_others(self, namespaces: Namespaces, context: Context, home: Home | None) -> Namespaces:
        """Add ``of`` to prepared entries, where the task has another container's namespaces."""
        of = self.around.tenants.of(context, home)
        return cast("Namespaces", {**namespaces, "of": of}) if of else namespaces
