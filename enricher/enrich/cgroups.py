# SPDX-License-Identifier: Apache-2.0
"""The cgroups of this boot by their id, and what each says about where its tasks are.

Owns the table, how long a removed cgroup is remembered, the members of an event that follow from a path and from what
a runtime says of its container, and which containers are still to be asked for. Never asks about a process and never
guesses: an id that nobody told of is not in the table. Never asks for anything itself, and never holds an event back:
answers come in batches, and events that are made before have the id alone.

Ids are never used again within a boot, so an entry can be late to go and is never another's.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, cast

from enricher.enrich.metadata import said_from
from enricher.enrich.places import Found, Place
from enricher.enrich.recognise import recognise, recognise_in
from enricher.enrich.values import text_of
from enricher.model import KINDS, CgroupOp, Known, Metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.enrich.shape import CgroupEntry, Container, ContainerName
    from enricher.model import Answer, Batch, CgroupChange

KEPT: Final = 30.0
"""Seconds for which a removed cgroup is remembered at least: records of its last tasks may be on their way, and where
the reader of records is further behind than that, it is remembered until they have come."""

_SKEW: Final = 10**9
"""Nanoseconds by which the oldest event may be told too late: rings are read one after the other."""

LIMIT: Final = 65_536
"""Cgroups that are remembered. Beyond, the oldest goes: an event from there says that it does not know."""


class Inquiry:
    """What is to be found out about one container, or about one cgroup whose path does not tell.

    All cgroups that are in the container share it.
    """

    __slots__ = ("_path", "_shared", "cgroup", "noticed", "removed", "said", "wants")

    def __init__(self, path: bytes, cgroup: int, *, wants: bool = False) -> None:
        self._path = path
        self._shared: set[int] | None = None  # the cgroups beside that one that share it; few have any
        self.cgroup = cgroup
        """Under which id the answer is entered: the container's own cgroup, where that is known."""
        self.removed = False  # that cgroup
        self.noticed = False  # by an event
        self.said: Metadata | Known | None = None
        self.wants = wants
        """Whether the next event is to have it asked for: there is no answer, and nobody is seeing to it."""

    @property
    def asked(self) -> Found | str:
        """The outermost container of the path, for whose inner ones nobody can vouch; or a path that tells none."""
        text = self._path.decode("utf-8", "surrogateescape")
        chain = recognise(text).chain
        return chain[0] if chain else text

    @property
    def members(self) -> set[int]:
        """The cgroups that share it; the first of all may be forgotten already."""
        return {self.cgroup, *(self._shared or ())}

    def share(self, ident: int) -> None:
        """Have another cgroup share it."""
        if ident != self.cgroup:
            self._shared = self._shared or set()
            self._shared.add(ident)

    def leave(self, ident: int) -> None:
        """Have one less."""
        if self._shared is not None:
            self._shared.discard(ident)


_NOBODY: Final = Inquiry(b"/", 0)  # the host's cgroups


_USER: Final = KINDS.index("user")
_MNT: Final = KINDS.index("mnt")
_NO_CGROUP: Final = "host, or a user's container that has no cgroup of its own"


class Home:
    """One cgroup: the members that every event of a task in it has, made once. It is never changed but replaced."""

    __slots__ = (
        "_doubted",
        "answered",
        "cgroup",
        "container",
        "ended",
        "ending",
        "inquiry",
        "open",
        "path",
        "provenance",
        "reason",
        "removed",
        "where",
        "written",
    )

    def __init__(self, ident: int, path: bytes, place: Place, inquiry: Inquiry) -> None:
        self.path = path
        self.removed = False
        self.ended = 0
        """When it was removed, in nanoseconds since boot; 0 while it is there."""
        self.inquiry = inquiry
        self.where: Literal["host", "container", "unknown"] = place.where
        said = inquiry.said
        self.provenance: Literal["cgroup", "runtime", "none"] = (
            "none" if place.where == "unknown" else "runtime" if isinstance(said, Known) else "cgroup"
        )
        text, exact = text_of(path)
        self.cgroup: CgroupEntry = {"id": str(ident), "path": text}
        if exact is not None:
            self.cgroup["path_hex"] = exact
        if place.unit:
            self.cgroup["unit"] = _printable(place.unit)
        metadata = said.metadata if isinstance(said, Known) else said
        self.answered = "" if metadata is None else metadata.runtime
        self.container: Container | None = (
            _container(place.chain, metadata) if place.where == "container" else None
        )
        self.open = place.where == "host" and not place.helper
        """Whether it is the host's and may also hold a container that has no cgroup of its own."""
        self.reason = ""
        """Why the path was not enough."""
        self._doubted: Home | None = None
        self.written = self.ending = b""
        """The same as JSON, and what it makes of the usual event's end: for the view that makes both."""

    def seen_by(self, inums: tuple[int, ...], initial: tuple[int, ...]) -> Home:
        """Return this cgroup as it is to be told of a task in it that has these namespaces, as in `KINDS`.

        A container that a user started without privilege has a user namespace and a mount namespace that are not the
        host's, and it may have no cgroup of its own: rootless Podman's on cgroup v1, runc's and crun's wherever the
        user may make none. Such a task is where its starter is, and whether it is in a container nobody can tell.
        """
        if not self.open or inums[_USER] == initial[_USER] or inums[_MNT] == initial[_MNT]:
            return self
        if self._doubted is None:
            doubted = self._doubted = Home(0, self.path, Place("unknown", (), "", ""), _NOBODY)
            doubted.cgroup = self.cgroup
            doubted.reason = _NO_CGROUP
        return self._doubted


@lru_cache(maxsize=4096)
def home_of(ident: int, path: bytes, said: str | None) -> Home:
    """Return a cgroup of an earlier time, as a journal tells of it. What it holds is shared.

    `said` is what the journal has of a runtime's answer, from anybody: what is none, or not of this cgroup, is left.
    """
    text = path.decode("utf-8", "surrogateescape")
    inquiry = Inquiry(path, ident)
    answer = None if said is None else said_from(said)
    if not isinstance(answer, Known) or _is_within(path, _bytes(answer.cgroup)):
        inquiry.said = answer
    return Home(ident, path, _place(text, inquiry), inquiry)


def _printable(text: str) -> str:
    """Text out of a name on disk, which may hold bytes that are not UTF-8."""
    return text_of(text.encode("utf-8", "surrogateescape"))[0]


def _name(found: Found, metadata: Metadata | None) -> ContainerName:
    said = metadata or Metadata(found.runtime)
    named: ContainerName = {"id": _printable(found.id)}
    if name := said.name or found.name:
        named["name"] = _printable(name)
    if said.runtime:
        named["runtime"] = said.runtime
    if said.image:
        named["image"] = said.image
    if uid := found.pod or said.pod_uid:
        named["pod"] = {"uid": uid}
        if said.pod_name:
            named["pod"]["name"] = said.pod_name
        if said.pod_namespace:
            named["pod"]["namespace"] = said.pod_namespace
    if said.labels:
        named["labels"] = dict(said.labels)
    return named


def _container(chain: tuple[Found, ...], metadata: Metadata | None) -> Container:
    """Return the innermost container, with the chain of all where there are several; what was said is the first's."""
    names = [_name(found, None if place else metadata) for place, found in enumerate(chain)]
    container = cast("Container", names[-1].copy())
    if len(chain) > 1:
        container["chain"] = names
    return container


def _is_within(path: bytes, cgroup: bytes) -> bool:
    return path == cgroup or path.startswith(cgroup + b"/")


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


class CgroupTable:
    """What is known of cgroups; `learn` before the events of the same batch are made."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._homes: OrderedDict[int, Home] = OrderedDict()
        self._removed: deque[tuple[float, int, int]] = deque()  # when to forget, when it ended, and its id
        self._own: dict[bytes, Inquiry] = {}  # by the path of a container's own cgroup
        self._known: dict[bytes, Inquiry] = {}  # of those, the ones whose path does not tell
        self._limit = limit
        self.forgotten = 0  # for want of room, while they were there
        self.epoch = 0
        """Changes whenever an answer of `of` may."""
        self.asker: Callable[[Inquiry], bool] | None = None
        """Who sees to inquiries: it is told of each as its cgroup is made, and says whether it has room. Without
        one nothing is ever wanted, as in a replay."""

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._homes)

    def of(self, ident: int) -> Home | None:
        """Return the cgroup with this id, None where nobody told of it."""
        return self._homes.get(ident)

    def ask(self, inquiry: Inquiry) -> None:
        """Have something asked for, since an event was made there. Where there is no room the next one asks again."""
        inquiry.noticed = True
        self._hand_on(inquiry)

    def _hand_on(self, inquiry: Inquiry) -> None:
        if self.asker is not None:
            inquiry.wants = not self.asker(inquiry)

    def learn(self, batch: Batch) -> None:
        """Enter what a batch tells of cgroups and containers, and forget what was removed long ago."""
        if batch.cgroups or batch.answers:
            self.epoch += 1
        for change in batch.cgroups:
            self._enter(change, batch.now)
        for answer in batch.answers:
            self._answer(answer)
        removed = self._removed
        while removed and removed[0][0] <= batch.now:
            if 0 < batch.oldest <= removed[0][1] + _SKEW:
                break  # the event may be of its last tasks
            ident = removed.popleft()[2]
            if (home := self._homes.pop(ident, None)) is not None:
                self._unlink(ident, home)
                self.epoch += 1

    def _enter(self, change: CgroupChange, now: float) -> None:
        known = self._homes.get(change.id)
        if change.op in (CgroupOp.REMOVED, CgroupOp.RELEASED):
            # Where both come, and they do, the first one counts. The path is told once more.
            if known is None and change.path:
                known = self._add(change.id, change.path)
            if known is not None and not known.removed:
                known.removed = True
                known.ended = change.time
                known.inquiry.removed |= known.inquiry.cgroup == change.id
                self._removed.append((now + KEPT, change.time, change.id))
        elif change.op == CgroupOp.RENAMED:
            self._rename(change)
        elif known is None and change.path:
            inquiry = self._add(change.id, change.path).inquiry
            if inquiry.wants:
                self._hand_on(inquiry)

    def _add(self, ident: int, path: bytes) -> Home:
        while len(self._homes) >= self._limit:
            went, oldest = self._homes.popitem(last=False)
            self._unlink(went, oldest)
            self.forgotten += not oldest.removed
        home = self._homes[ident] = self._make(ident, path)
        return home

    def _make(self, ident: int, path: bytes) -> Home:
        text = path.decode("utf-8", "surrogateescape")
        place = recognise(text)
        wants = self.asker is not None
        if place.where == "host":
            return Home(ident, path, place, _NOBODY)
        if place.where == "unknown":
            above = self._above(path)
            inquiry = above or Inquiry(path, ident, wants=wants)
            if above is not None:
                place = _place(text, above)
        else:
            own = _bytes(place.chain[0].path)
            found = self._own.get(own)
            inquiry = found or Inquiry(path, ident, wants=wants)
            if found is None and own == path:
                self._own[own] = inquiry
        inquiry.share(ident)
        return Home(ident, path, place, inquiry)

    def _above(self, path: bytes) -> Inquiry | None:
        """Return the inquiry of a container in which this path is, and which only its state told of."""
        if not self._known:
            return None
        end = len(path)
        while end > 0:
            if (inquiry := self._known.get(path[:end])) is not None:
                return inquiry
            end = path.rfind(b"/", 0, end)
        return None

    def _answer(self, answer: Answer) -> None:
        home = self._homes.get(answer.cgroup)
        inquiry = _NOBODY if home is None else home.inquiry
        said = answer.said
        if home is None or inquiry.cgroup != answer.cgroup or inquiry.said is not None:
            return
        if isinstance(said, Known) != (home.where == "unknown"):
            return
        if isinstance(said, Known):
            own = _bytes(said.cgroup)
            if not _is_within(home.path, own):
                return
            if own == home.path:
                self._known[own] = inquiry
        inquiry.said = said
        inquiry.wants = False
        for ident in inquiry.members:
            member = self._homes.get(ident)
            if member is None or member.inquiry is not inquiry:
                continue
            place = _place(member.path.decode("utf-8", "surrogateescape"), inquiry)
            fresh = self._homes[ident] = Home(ident, member.path, place, inquiry)
            fresh.removed, fresh.ended = member.removed, member.ended

    def _unlink(self, ident: int, home: Home) -> None:
        """Let go of what is held beside the home that goes."""
        inquiry = home.inquiry
        inquiry.leave(ident)
        if inquiry.cgroup == ident:
            inquiry.removed = True
            for paths in (self._own, self._known):
                if paths.get(home.path) is inquiry:
                    del paths[home.path]

    def _rename(self, change: CgroupChange) -> None:
        """Give it its new path, and so to all below it."""
        known = self._homes.get(change.id)
        if not change.path or (known is not None and known.path == change.path):
            return
        if known is None:
            self._add(change.id, change.path)
            return
        below = known.path + b"/"
        for ident, home in list(self._homes.items()):
            if ident == change.id or home.path.startswith(below):
                path = change.path + home.path[len(known.path) :]
                self._unlink(ident, home)
                fresh = self._homes[ident] = self._make(ident, path)
                fresh.removed, fresh.ended = home.removed, home.ended


def _place(path: str, inquiry: Inquiry) -> Place:
    """Return where this cgroup is, by its path and by what was said."""
    said = inquiry.said
    if isinstance(said, Known):
        return recognise_in(path, Found(said.runtime, said.id, "", "", said.cgroup))
    return recognise(path)
