# SPDX-License-Identifier: Apache-2.0
"""The look at this host's namespaces that ``audit-enricher namespaces`` shows: from /proc to the document.

Owns the order of the stages, what is read of which namespace, and the notes about what could not be. Never shows
anything. A command's work, for which the service needs no capability; where there is one, it is asked when what was
made, through whatever `births` is given.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from enricher.enrich import nsplaces
from enricher.enrich.nstrees import Times, Told, document, unique_id
from enricher.errors import MissingCapability, UsageError
from enricher.model import KINDS
from enricher.runtime.births import Births
from enricher.sources import host
from enricher.sources.cgroups import hierarchy
from enricher.sources.host import PROC
from enricher.sources.namespaces import network
from enricher.sources.namespaces.network import pyroute2
from enricher.sources.namespaces.nsfs import read_link
from enricher.sources.namespaces.survey import TIME_UP, Survey
from enricher.sources.namespaces.tasks import cgroup_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from enricher.enrich.nsplaces import Wanted
    from enricher.enrich.nsshape import Document
    from enricher.enrich.places import Place
    from enricher.runtime.births import Seen
    from enricher.sources.cgroups import Hierarchy
    from enricher.sources.namespaces.survey import Found
    from enricher.sources.namespaces.tasks import Task

_KTHREADD: Final = 2
_NOBODY: Final = Births({}, {}, "")


def look(
    wanted: Wanted,
    *,
    inside: bool = True,
    births: Callable[[str, int], Births] | None = None,
    proc: Path = PROC,
    iproute: Callable[[], Callable[[], Any] | None] = pyroute2,
) -> Document:
    """Return the namespaces that are wanted. Raises UsageError and MissingCapability where it cannot be told which.

    ``inside`` says whether network namespaces are entered. `births` is asked for exact times when the look is over,
    with the boot's id and the time since boot (ns) at which the look began: see `births.ask`.
    """
    began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    times = Times(time.time_ns(), _boot(), 1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    facts = host.read_host_facts(proc).facts
    stand = host.standing(proc)
    watched = hierarchy(proc)
    # In another pid namespace pid 1 is not the host's.
    facts = facts._replace(
        initial=tuple(_inum(proc, 1, kind) if stand.pid is not False else 0 for kind in KINDS)
    )
    whole = stand.pid is not False and _from_the_root(proc, watched)
    places = nsplaces.Places(_comparable(facts.initial, proc, stand.user), whole=whole)
    notes = []
    if stand.pid is False:
        notes.append(
            "this is not the initial pid namespace: only what is in it is seen, and no container is told"
        )
    elif not whole:
        notes.append("no container is told: cgroups are not seen from the root of their hierarchy")
    with Survey(watched, proc) as survey:
        placed = {task: places.of(task) for task in survey.tasks}
        shown, asked = nsplaces.chosen(survey.spaces, placed.items(), wanted)
        _must_be_there(wanted, asked, placed, proc)
        inums = {ns.inum for ns in shown if ns.kind == "net"}
        if inside and inums:
            route = iproute()
            if route is None:
                notes.append(f"links and addresses are left out: {network.MISSING} ({network.HINT})")
            else:
                initial = facts.initial[KINDS.index("net")]
                survey.read_networks(inums, initial, route)
        found = survey.confirm()
    notes += _notes(found, proc, known=any(facts.initial) or stand.pid is False)
    if wanted.pid is not None or wanted.container is not None:
        # What they were in is shown as far as they still are.
        shown, _ = nsplaces.chosen(found.spaces, ((task, placed[task]) for task in found.tasks), wanted)
    told = _NOBODY if births is None else births(facts.boot_id, began)
    if told.note:
        notes.append(told.note)
    born, there = (_same(rows, found) for rows in (told.born, told.found))
    return document(found, placed, shown, facts, times, notes, Told(born, there))


def _same(rows: Mapping[tuple[str, int], Seen], found: Found) -> dict[tuple[str, int], int]:
    """Return the times of those namespaces that are here, unless the kernel's own numbers say they are others."""
    times = {}
    for ns, said in found.spaces.items():
        seen = rows.get(ns)
        if seen is not None and (not seen.id or unique_id(ns, said, found) in (0, seen.id)):
            times[ns.kind, ns.inum] = seen.time
    return times


def _boot() -> int:
    """When the kernel started, in ns of the wall clock as it is now."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _from_the_root(proc: Path, watched: Hierarchy) -> bool:
    """Whether the paths of cgroups are the whole ones: that of kthreadd, which nobody can move, is the root."""
    try:
        return cgroup_path((proc / str(_KTHREADD) / "cgroup").read_bytes(), watched) == "/"
    except OSError:
        return False


def _comparable(initial: tuple[int, ...], proc: Path, ours: bool | None) -> tuple[int, ...]:  # noqa: FBT001
    """Return the host's namespaces with our own user namespace in the place of one that cannot be read.

    Good enough to tell containers that a user started without privilege, whose ids are never all of the host's.
    """
    place = KINDS.index("user")
    if initial[place] or ours is False:
        return initial
    return (*initial[:place], _inum(proc, "self", "user"), *initial[place + 1 :])


def _inum(proc: Path, who: int | str, kind: str) -> int:
    """Return which namespace a link names, 0 where it may not be read. It is not followed: see `nsfs`."""
    try:
        ns = read_link(f"{proc}/{who}/ns/{kind}")
    except OSError:
        return 0
    return ns.inum if ns else 0


def _must_be_there(
    wanted: Wanted, asked: set[tuple[int, int]], placed: Mapping[Task, Place], proc: Path
) -> None:
    """Raise UsageError or MissingCapability where a process or container was asked for that is not there."""
    if asked or (wanted.pid is None and wanted.container is None):
        return
    if wanted.pid is not None and not any(wanted.pid in (task.pid, task.tid) for task in placed):
        _no_process(wanted.pid, proc)
    if wanted.container is not None and not any(
        nsplaces.matching(place, wanted.container) for place in placed.values()
    ):
        raise UsageError(
            f"no process here is in a container whose id begins with {wanted.container!r}",
            "`audit-enricher namespaces` without --container shows those that there are",
        )
    raise UsageError(f"process {wanted.pid} is not in that container", "ask for one of them only")


def _no_process(pid: int, proc: Path) -> None:
    base = proc / str(pid)
    if not base.exists():
        raise UsageError(f"there is no process {pid} here", "give the pid as this host sees it")
    try:
        read_link(f"{base}/ns/mnt")
    except PermissionError:
        why = _forbidden(host.CAP_SYS_PTRACE, "CAP_SYS_PTRACE is missing", proc)
        raise MissingCapability(
            f"the namespaces of process {pid} may not be read: {why}", "run as root"
        ) from None
    except OSError:
        pass
    raise UsageError(
        f"{pid} is not a process of its own, or is ending",
        "give its process's pid: a thread is in the same namespaces",
    )


def _notes(found: Found, proc: Path, *, known: bool) -> Iterable[str]:
    counts = Counter(said for said in found.networks.values() if isinstance(said, str))
    unread = []
    if found.denied:
        which = "" if known else ", pid 1's, which are the host's, among them"
        why = _forbidden(host.CAP_SYS_PTRACE, "CAP_SYS_PTRACE is missing", proc)
        unread.append(f"the namespaces of {_many(found.denied, 'process', 'es')}{which} ({why})")
    if count := counts[network.DENIED]:
        why = _forbidden(host.CAP_SYS_ADMIN, network.DENIED, proc)
        unread.append(f"the inside of {_many(count, 'network namespace')} ({why})")
    if unread:
        yield f"could not read {' nor '.join(unread)}"
    if count := counts[TIME_UP]:
        yield f"the inside of {_many(count, 'network namespace')} was not read: {TIME_UP}"
    if found.gone:
        yield f"{_many(found.gone, 'process', 'es')} ended or moved while this was read: left out"
    if found.cut:
        yield "there was more than is looked at: not everything is shown"


def _many(count: int, what: str, ending: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else ending}"


def _forbidden(capability: int, missing: str, proc: Path) -> str:
    """Return why something was forbidden."""
    return f"it was refused, and not because {missing}" if host.has_capability(capability, proc) else missing
