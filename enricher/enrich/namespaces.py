# SPDX-License-Identifier: Apache-2.0
"""Namespaces as members of an event: which they are, which life of their number, what was changed.

Owns the entries and the cache that makes them cheap. Never decides which life a number is of: `correlate.lives` does,
and where it does not know there is no ``life``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from enricher.correlate.lives import Lives
from enricher.enrich.attribution import not_read
from enricher.enrich.tenants import OWNED
from enricher.facts import ChangeOp
from enricher.model import KINDS, Recalled
from enricher.recent import Recent

if TYPE_CHECKING:
    from enricher.enrich.cgroups import Home
    from enricher.enrich.shape import Namespaces, NsChange, NsEntry
    from enricher.facts import Change
    from enricher.messages import Context
    from enricher.model import HostFacts

SETS: Final = 5120
"""More containers than one host runs at a time, at some 5 KiB each with their JSON: with fewer sets than containers
that take turns, each event makes its own anew, and a record costs a quarter more. The generation before holds as
many."""
KEPT: Final = 60 * 10**9
"""Nanoseconds for which a set is held that nobody uses. Most are of namespaces that lived for a moment."""

_OPS: Final = {op.value: op.name.lower() for op in ChangeOp}


class Known:
    """What was made of one set of numbers, of which lives they were, and between which times that holds.

    ``owned`` says whether any of them may be another container's. The rest is for the view that makes JSON:
    ``written`` is the member, ``with_others`` the same as a task at ``home`` has it, while both epochs stay.
    """

    __slots__ = (
        "born",
        "cgroups_epoch",
        "epoch",
        "home",
        "missing",
        "namespaces",
        "owned",
        "since",
        "tenants_epoch",
        "until",
        "with_others",
        "written",
    )

    def __init__(  # noqa: PLR0913 - in the order of the docstring
        self,
        namespaces: Namespaces,
        missing: str,
        born: tuple[int | None, ...],
        epoch: int,
        since: int,
        until: int,
        *,
        owned: bool,
    ) -> None:
        self.namespaces = namespaces
        self.missing = missing
        self.born = born
        self.owned = owned
        self.written = b""
        self.hold(epoch, since, until)

    def hold(self, epoch: int, since: int, until: int) -> None:
        """Say that it holds in this epoch, between these times."""
        self.epoch = epoch
        self.since = since
        self.until = until
        self.home: Home | None = None
        self.with_others = b""
        self.tenants_epoch = self.cgroups_epoch = -1


class NamespaceEntries:
    """Makes entries for the namespaces of one host's boot; `lives` knows which life a number is of."""

    def __init__(self, host: HostFacts, lives: Lives | None = None) -> None:
        self._host = host
        self._lives = Lives() if lives is None else lives
        self._known = Recent(SETS, KEPT)

    def of(self, seen: Context | Recalled) -> tuple[Namespaces, str]:
        """Return the prepared entries for the context's namespaces, and in words which could not be read."""
        known = self._recalled(seen) if isinstance(seen, Recalled) else self.known(seen)
        return known.namespaces, known.missing

    def known(self, seen: Context) -> Known:
        """Return what is prepared for the context's namespaces."""
        time = seen.time
        known: Known | None = self._known.get(seen.key, time)
        # The same numbers may have been of other namespaces a moment ago, in the same batch.
        if known is not None and known.epoch == self._lives.epoch and known.since <= time <= known.until:
            return known
        return self._made(seen, known)

    def _recalled(self, seen: Recalled) -> Known:
        known: Known | None = self._known.get(seen.key, 0)
        if known is None:
            shown = _entries(seen, seen.born, seen.host)
            known = Known(*shown, seen.born, 0, 0, 0, owned=False)
            self._known.put(seen.key, known, 0)
        return known

    def _made(self, seen: Context, before: Known | None) -> Known:
        held = self._lives.born_of(seen.inums, seen.ids, seen.time)
        if before is not None and before.born == held.born:
            before.hold(held.epoch, held.since, held.until)
            return before
        shown = _entries(seen, held.born, self._host)
        owned = any(seen.inums[kind] not in (0, self._host.initial[kind]) for kind in OWNED)
        known = Known(*shown, held.born, held.epoch, held.since, held.until, owned=owned)
        self._known.put(seen.key, known, seen.time)
        return known

    def _born(self, inums: tuple[int, ...], ids: tuple[int, ...], time: int) -> tuple[int | None, ...]:
        at = self._lives.at
        lives = [
            at(inum, time) if inum and not ident else None for inum, ident in zip(inums, ids, strict=True)
        ]
        return tuple(None if life is None else life.born for life in lives)

    def change(self, change: Change) -> NsChange:
        """Return what was changed: kind by kind what it was and what it is, and whether that is the host's."""
        who = change.who
        made: dict[str, object] = {"op": _OPS.get(change.op, str(change.op))}
        # What was left may have been freed by the time of the message: just before it was still held.
        before = self._born(change.before, change.before_ids, who.time - 1)
        after = self._born(who.inums, who.ids, who.time)
        rows = zip(KINDS, change.before, change.before_ids, before, who.inums, who.ids, after, strict=True)
        for index, (kind, old, old_id, old_life, new, new_id, new_life) in enumerate(rows):
            if (old, old_id) == (new, new_id) or not old or not new:
                continue
            initial = self._host.initial[index]
            entry: dict[str, object] = {
                "from": _entry(old, old_id, old_life, initial),
                "to": _entry(new, new_id, new_life, initial),
            }
            if initial and new == initial:
                entry["host"] = "entered"
            elif initial and old == initial:
                entry["host"] = "left"
            made[kind] = entry
        return cast("NsChange", made)

    def entry(self, kind: int, inum: int, ident: int, born: int | None) -> NsEntry:
        """Return one namespace of a kind, an index into `KINDS`, whose life is known."""
        return _entry(inum, ident, born, self._host.initial[kind])


def _entry(inum: int, ident: int, born: int | None, initial: int) -> NsEntry:
    entry: NsEntry = {"ino": inum}
    if ident:
        entry["id"] = entry["life"] = str(ident)
    elif born is not None:
        entry["life"] = str(born)
    if initial:
        entry["host"] = inum == initial
    return entry


def _entries(
    seen: Context | Recalled, born: tuple[int | None, ...], host: HostFacts
) -> tuple[Namespaces, str]:
    """Make the ``namespaces`` member and the words for kinds that could not be read.

    A kind whose initial namespace is not known either is not missing: the kernel was built without it.
    """
    namespaces: Namespaces = {"dev": host.ns_dev} if host.ns_dev else {}
    missing = []
    for kind, inum, ident, life, initial in zip(KINDS, seen.inums, seen.ids, born, host.initial, strict=True):
        if inum:
            namespaces[kind] = _entry(inum, ident, life, initial)
        elif initial:
            missing.append(kind)
    return namespaces, not_read(missing)
