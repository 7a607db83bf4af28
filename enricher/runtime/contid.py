# SPDX-License-Identifier: Apache-2.0
"""Container identifiers in a run of the service: the store, its socket, and what is told of both.

Owns whether there are any in this run, in what order they are opened and closed, and the words for their failures.
Where the store cannot be had the service goes on without, says so, and its socket answers that contid is off.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, Self, cast

from enricher.config import settings as rows
from enricher.errors import EnricherError
from enricher.runtime import privileges
from enricher.runtime.contid_log import ContidLog
from enricher.runtime.contid_server import ContidServer
from enricher.sources.bpf import contidpins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enricher.config.load import Settings
    from enricher.facts import ContainerOp
    from enricher.runtime.pipeline import Pipeline
    from enricher.sources.contid import ContidEntry, ContidStore

_STORE: Final = "enricher.sources.bpf.contidstore"


class Contid:
    """``why`` says why there is no store, "" where there is one. Raises UsageError where there can be no socket."""

    def __init__(
        self, settings: Settings, store: ContidStore | None, why: str, now: Callable[[], float]
    ) -> None:
        self.store, self.why = store, why
        self._log = ContidLog(store)
        socket, group = settings[rows.CONTID_SOCKET], settings[rows.CONTID_GROUP]
        self._server = ContidServer(socket, group, store, self._log, now)
        self.advice = self._server.advice

    @classmethod
    def start(cls, settings: Settings, now: Callable[[], float], say: Callable[[str], None]) -> Self | None:
        """Open what the settings ask for; None where contid is off, and then nothing stays of a run that had it on."""
        if not settings[rows.CONTID]:
            _forget(say)
            return None
        store, why = None, ""
        try:
            store = open_store()
            if store.unpinned:
                say(f"container identifiers end with this process, they cannot be pinned: {store.unpinned}")
            for reason in store.alone:
                say(
                    f"a process that is made or ends may be missed where tasks are preempted in tracepoints: {reason}"
                )
        except EnricherError as error:
            why = error.message.partition("\n")[0]
            say(f"contid is off: {why}")
            if error.hint:
                say(f"hint: {error.hint}")
        except (ImportError, OSError) as error:
            why = str(error)
            say(f"contid is off: {why}")
        lacking = privileges.names(privileges.CONTID_MASK & ~privileges.held())
        if store is not None and lacking:
            say(f"contid will refuse everything: {', '.join(lacking)} not held; contid.md has the drop-in")
        try:
            made = cls(settings, store, why, now)
        except BaseException:
            if store is not None:
                store.close()
            raise
        if made.advice:
            say(made.advice)
        return made

    @property
    def shared(self) -> Mapping[str, int]:
        """The store's maps that the programs of a run look into; empty where there is none."""
        return {} if self.store is None else self.store.shared

    @property
    def needs(self) -> int:
        """The capabilities that are kept for the whole run, as a mask."""
        return 0 if self.store is None else privileges.CONTID_MASK

    def in_use(self) -> list[ContidEntry]:
        """Return the identifiers that an earlier run has left, none where they cannot be read."""
        try:
            return [] if self.store is None else self.store.entries()
        except OSError:
            return []

    def attach(self, pipeline: Pipeline) -> None:
        """Have the pipeline's loop drive this."""
        pipeline.serve(self._server.fileno(), self._server.serve)
        if self.store is not None:
            pipeline.serve(self.store.wake_fd(), self._log.collect)

    @property
    def pending(self) -> bool:
        """Whether `take` has something."""
        return self._log.pending

    def take(self) -> list[ContainerOp]:
        """Return what was done since the last call, for the events."""
        return self._log.take()

    def facts(self) -> dict[str, object]:
        """Return what the status shows."""
        kept = {} if self.store is None else self.store.counters()
        state = {"state": "on"} if self.store is not None else {"state": "failed", "error": self.why}
        return {**state, **self._server.counts(), **kept}

    def close(self) -> None:
        """Remove the socket, and let go of the store: what is pinned stays."""
        self._server.close()
        if self.store is not None:
            self.store.close()


def _forget(say: Callable[[str], None]) -> None:
    """Take away what a run has left that had it on."""
    if contidpins.remove():
        say("contid is off: the identifiers of an earlier run are forgotten")
    if contidpins.remains():
        say(
            f"contid is off, but what an earlier run has pinned is in force: {contidpins.HOME} cannot be emptied"
        )
        say(f"hint: `rm -r {contidpins.HOME}`")


def open_store() -> ContidStore:
    """Open the kernel's. Raises EnricherError, OSError, and ImportError where this build has none."""
    return cast("ContidStore", importlib.import_module(_STORE).KernelStore())
