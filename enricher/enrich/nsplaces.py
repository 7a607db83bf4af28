# SPDX-License-Identifier: Apache-2.0
"""In which container each task of a look at the host's namespaces is, and which namespaces were asked for.

Owns the rule by which a task's cgroup tells, which is that of events (`enrich.cgroups`), and the choice by kind,
process and container. Never asks a runtime, and never guesses: what the path of a cgroup does not tell is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.enrich.places import Place
from enricher.enrich.recognise import recognise
from enricher.model import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from enricher.enrich.places import Found
    from enricher.sources.namespaces.nsfs import Ns
    from enricher.sources.namespaces.tasks import Task

UNKNOWN: Final = Place("unknown", (), "", "")
_USER: Final = KINDS.index("user")
_MNT: Final = KINDS.index("mnt")


class Places:
    """Reads the path of each cgroup once."""

    def __init__(self, initial: Sequence[int], *, whole: bool) -> None:
        """`initial` are the host's namespaces as in `KINDS`, 0 where not known.

        ``whole`` says whether paths are seen from the root of the hierarchy: otherwise they tell nothing.
        """
        self._initial = initial
        self._whole = whole
        self._read: dict[str, Place] = {}

    def of(self, task: Task) -> Place:
        """Return where the task is."""
        if task.cgroup is None or not self._whole:
            return UNKNOWN
        place = self._read.get(task.cgroup)
        if place is None:
            place = self._read[task.cgroup] = recognise(task.cgroup)
        if place.where == "host" and not place.helper and self._may_be_elsewhere(task):
            return UNKNOWN
        return place

    def _may_be_elsewhere(self, task: Task) -> bool:
        """Whether it may be in a container that has no cgroup of its own, as `enrich.cgroups.Home.seen_by` has it."""
        return all(task.inums[kind] and task.inums[kind] != self._initial[kind] for kind in (_USER, _MNT))


class Wanted(NamedTuple):
    """What is to be shown. Empty or None is "all"."""

    kinds: Collection[str] = ()
    pid: int | None = None
    container: str | None = None


def matching(place: Place, prefix: str) -> Found | None:
    """Return the container among those that the task is in whose id begins so."""
    return next((found for found in place.chain if found.id.startswith(prefix)), None)


def chosen(
    spaces: Iterable[Ns], tasks: Iterable[tuple[Task, Place]], wanted: Wanted
) -> tuple[set[Ns], set[tuple[int, int]]]:
    """Return the namespaces that are wanted, and the tasks that they were wanted for: (pid, tid).

    Without a pid or a container these are none: all are wanted.
    """
    of_kind = {ns for ns in spaces if not wanted.kinds or ns.kind in wanted.kinds}
    if wanted.pid is None and wanted.container is None:
        return of_kind, set()
    asked = [
        task
        for task, place in tasks
        if (wanted.pid is None or wanted.pid in (task.pid, task.tid))
        and (wanted.container is None or matching(place, wanted.container))
    ]
    within = {ns for task in asked for ns in (*task.namespaces(), *task.for_children())}
    return of_kind & within, {(task.pid, task.tid) for task in asked}
