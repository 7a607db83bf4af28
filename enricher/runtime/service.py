# SPDX-License-Identifier: Apache-2.0
"""One run of the service, from its settings to its account.

Owns the order of a start, a reload and an end: what is opened before what, when privileges are dropped, what is
said to the service manager, and what is left for the next run. Never touches an event but those it makes itself.
"""

from __future__ import annotations

import fcntl
import gc
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from enricher import __version__
from enricher.clock import TurnClock, rfc3339
from enricher.config import load as config
from enricher.config import settings as rows
from enricher.correlate import ledger
from enricher.errors import EnricherError, UsageError
from enricher.model import Notice
from enricher.runtime import births, prefetch, privileges, startup, state
from enricher.runtime.contid import Contid
from enricher.runtime.control import ControlServer
from enricher.runtime.cycles import seldom
from enricher.runtime.duties import Duties
from enricher.runtime.metrics.endpoint import Endpoint
from enricher.runtime.notify import Notifier
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.serviceoutput import RETRY, ServiceOutput
from enricher.runtime.servicesinks import ServiceSinks
from enricher.runtime.servicesources import open_source, start_sources
from enricher.runtime.stages import Opening
from enricher.sinks.aside import Aside
from enricher.sources.host import read_host_facts
from enricher.sources.names import HostNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.config.load import Settings
    from enricher.correlate.ledger import Gap, Summary
    from enricher.model import HostFacts
    from enricher.runtime.duties import Asked
    from enricher.runtime.prefetch import Prefetch
    from enricher.runtime.startup import Started
    from enricher.runtime.state import Left
    from enricher.sinks.aside import Task
    from enricher.sinks.journal import Journal
    from enricher.sources.audit.source import Source

_SAVE_EVERY: Final = 10.0
"""Seconds between two entries of how far this run has come."""
_CYCLES: Final = 20_000
"""Objects; some MiB of garbage at most."""


class _Life(NamedTuple):
    """What does not change in a run."""

    facts: HostFacts
    started: Started
    degraded: str
    since: str
    capabilities: list[str]


class Service:
    """Made by `run`, which also cleans up after it."""

    def __init__(
        self,
        path: str | None,
        settings: Settings,
        asked: Asked,
        say: Callable[[str], None],
        source: Source | None = None,
    ) -> None:
        self._path = path
        self._source = source
        self._settings = settings
        self._asked = asked
        self._say = say
        self._clock = TurnClock()
        self._notifier = Notifier()
        watchdog = self._notifier.watchdog
        self._calm = _SAVE_EVERY if watchdog is None else min(_SAVE_EVERY, watchdog)
        self._state = state.directory()
        self._reloaded: str | None = None
        self._open_gap = ""  # what is known of a gap whose serials are not
        self._told_error = ""  # of the output, to the service manager
        self._saved: int | None = None  # the serial of the last entry
        self._save_at = self._alive_at = self._retry_at = 0.0
        self._journal: Journal | None = None
        self._aside = Aside("disk")
        self._saving: Task[None] | None = None
        self._life: _Life
        self._metadata: Prefetch | None = None
        self._contid: Contid | None = None
        self._metrics: Endpoint
        self._output: ServiceOutput
        self._duties: Duties
        self._sinks: ServiceSinks
        self._pipeline: Pipeline

    def run(self) -> Summary:
        """Run until a signal ends it; returns the account."""
        with ExitStack() as stack:
            stack.callback(self._notifier.close)
            stack.callback(self._aside.close)
            # First of all: while there is nothing that its processes must not have, and what they need is still held.
            self._metadata = prefetch.start(self._settings, self._clock, self._say)
            if self._metadata is not None:
                stack.callback(self._metadata.close)
            reading = read_host_facts()
            for note in reading.notes:
                self._say(note)
            settings = self._settings
            # Outputs first: what cannot be written is known before anything is attached.
            names = HostNames(self._clock)
            self._output = ServiceOutput(settings, reading.facts, names, self._clock, self._say)
            stack.callback(self._output.close)
            if self._metadata is not None:
                self._output.cgroups.asker = self._metadata.want
            self._keep_alone(stack)
            self._open_journal(reading.facts, stack)
            self._sinks = ServiceSinks(self._output, reading.facts, names, self._state, self._say)
            stack.callback(self._sinks.close)
            self._sinks.open(settings)
            server = ControlServer(settings[rows.SOCKET], settings[rows.GROUP], self._status, self._births)
            stack.callback(server.close)
            if server.advice:
                self._say(server.advice)
            self._contid = Contid.start(settings, lambda: self._clock.now, self._say)
            if self._contid is not None:
                stack.callback(self._contid.close)
            self._metrics = Endpoint(settings, self._clock, self._say)
            stack.callback(self._metrics.close)
            self._output.latency = self._metrics.latency
            left = self._left()
            maps = None if self._contid is None else self._contid.shared
            source = open_source(settings, self._source, self._say, stack)
            started, why = start_sources(settings, self._say, source, maps)
            stack.callback(startup.stop, started)
            self._say(startup.describe(started))
            kept = self._drop(started, stack)
            self._sinks.start()
            self._life = _Life(reading.facts, started, why, _now(), privileges.names(kept))
            return self._work(server, left)

    def _drop(self, started: Started, stack: ExitStack) -> int:
        counted = started.loaded.missed() is not None

        def works() -> bool:
            return not counted or started.loaded.missed() is not None

        aside = privileges.DAEMON_MASK if started.socket.way == "daemon" else 0
        if aside:
            stack.callback(
                privileges.take_up
            )  # before the socket is closed, should the run end with an error
        return privileges.drop(works, 0 if self._contid is None else self._contid.needs, aside)

    def _keep_alone(self, stack: ExitStack) -> None:
        """Hold the state directory for this run. Raises UsageError where another one has it."""
        try:
            fd = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return  # nothing is left there either, which is told when it is tried
        stack.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another service has its state in {self._state}",
                "`audit-enricher run` can be used beside it; two services need STATE_DIRECTORY to differ",
            ) from error

    def _open_journal(self, facts: HostFacts, stack: ExitStack) -> None:
        settings = self._settings
        self._duties = Duties(self._clock, self._output, self._calm)
        if not settings[rows.JOURNAL]:
            return
        if not facts.boot_id:
            self._say("no journal is kept: which boot this is cannot be told")
            return
        try:
            from enricher.sinks.journal import Journal  # noqa: PLC0415 - a Python may be built without SQLite
        except ImportError as error:
            self._say(f"no journal is kept: {error}")
            return
        self._journal = self._output.journal = self._duties.journal = journal = Journal(
            self._state,
            facts,
            self._output.cgroups,
            self._clock,
            self._say,
            lives=self._output.around.lives,
            max_size=settings[rows.JOURNAL_SIZE],
            max_age=settings[rows.JOURNAL_AGE],
            aside=self._aside,
        )
        stack.callback(lambda: journal.close(time.time()))

    def _left(self) -> Left | str | None:
        """Return what the last run left, or why that cannot be told."""
        try:
            return state.load(self._state)
        except state.Unreadable as error:
            return str(error)

    def _work(self, server: ControlServer, left: Left | str | None) -> Summary:
        life = self._life
        reason = f"no context: {life.degraded}" if life.degraded else ""
        opening = Opening(os.getpid(), os.urandom(4).hex(), life.started.trial.serial, reason)
        self._pipeline = pipeline = Pipeline(
            life.started,
            self._output.emit,
            opening,
            clock=self._clock,
            learn=self._output.learn,
            metadata=self._metadata,
            beside=self._contid,
        )
        if self._contid is not None:
            self._contid.attach(pipeline)
            self._output.around.contids.take_over(self._contid.in_use())
            pipeline.stages.fill = self._output.around.contids.fill
        self._output.followers = server
        self._tell_beginning(left)
        pipeline.wake_on(self._asked.fd)
        pipeline.serve(server.fileno(), server.serve)
        self._metrics.begin(self._status, life.started, pipeline)
        self._save(closed=False)
        gc.collect()
        self._notifier.ready(self._in_one_line())
        self._say("ready")
        with seldom(_CYCLES):
            pipeline.run(self._between_turns)
        self._notifier.stopping()
        is_daemon = life.started.socket.way == "daemon"
        if is_daemon:
            privileges.take_up()
        summary = pipeline.finish()
        if is_daemon:
            privileges.put_away(privileges.DAEMON_MASK)  # the slot was given back
        self._settle()  # while destinations are told as well
        self._sinks.end(lambda loss: pipeline.stages.tell(loss, time.time()))
        self._settle()
        if self._output.waits:
            self._say(f"{self._output.path}: not all could be written; the next start tells it as a gap")
        self._save(closed=summary.marked or self._life.started.socket.ended)  # then nothing is on its way
        return summary

    def _settle(self) -> None:
        if (loss := self._output.settle(at_once=True)) is not None:
            self._pipeline.stages.tell(loss, time.time())

    def _tell_beginning(self, left: Left | str | None) -> None:
        """Say what the reader of the events must know of the time before, and of this run's limits."""
        life, pipeline = self._life, self._pipeline
        if isinstance(left, str):
            self._tell_open_gap(f"since when nobody looked is not known: {left}")
            left = None
        start = life.started.trial.serial
        gap = state.gap_before(start, left, life.facts.boot_id)
        pipeline.stages.ledger.gap = gap
        if start is None and left is not None:
            self._tell_open_gap(state.open_gap_words(left, life.facts.boot_id))
        if gap is not None:
            words = state.gap_words(gap)
            if left is not None and gap.reason == "boot":
                words += f"; of the boot before, what came after serial {left.serial} is missing as well"
                if not left.closed:
                    words += ", and what its disk had not yet taken of the half minute before"
            self._tell(Notice("gap", words, gap.first, gap.last, gap.reason))
        if life.degraded:
            self._tell(
                Notice("degraded", f"events have no contexts, since no hook can be used: {life.degraded}")
            )
        hook = life.started.hook_name
        if left is not None and hook and left.hook and left.hook != hook:
            was = f"{left.hook} on Linux {left.release}"
            self._tell(Notice("hook", f"the hook is {hook} on Linux {os.uname().release}; it was {was}"))

    def _tell_open_gap(self, words: str) -> None:
        self._open_gap = words
        self._tell(Notice("gap", words))

    def _tell(self, notice: Notice) -> None:
        self._say(f"notice: {notice.text}")
        self._pipeline.stages.tell(notice, time.time())

    def _between_turns(self) -> bool:
        """Do what is due; returns whether to stop. No clock is asked: it is a system call on some machines."""
        if self._asked.take_report():
            self._say(f"the account so far:\n{ledger.words(self._pipeline.summary())}")
        if self._asked.take_reload():
            self._reload()
        longest = self._duties.wait(self._told_error)
        if longest < 0 or self._sinks.routes is not None:
            longest = self._do_due()
        self._pipeline.longest_wait = longest
        return self._asked.stopped or self._life.started.socket.ended

    def _do_due(self) -> float:
        """Do what is due by the clock, or for what happened; returns after how many seconds to ask again."""
        now = self._clock.now
        watchdog = self._notifier.watchdog
        if watchdog is not None and now >= self._alive_at:
            # A turn may be as far away as this again: together they stay below what is allowed.
            self._alive_at = now + watchdog / 2
            self._notifier.alive()
        if now >= self._save_at:
            self._save_at = now + _SAVE_EVERY
            self._save(closed=False)
        self._duties.next = self._save_at if watchdog is None else min(self._save_at, self._alive_at)
        journal = self._journal
        if journal is not None and journal.due(now):
            journal.begin(time.time())
        output = self._output
        waits = output.waits
        if waits and now >= self._retry_at:
            self._retry_at = now + RETRY
            if (loss := output.settle()) is not None:
                self._pipeline.stages.tell(loss, time.time())
            waits = output.waits
        if self._sinks.routes is not None:
            for loss in self._sinks.losses(now):
                self._pipeline.stages.tell(loss, time.time())
                waits = output.waits  # what is told may not be written
        if output.error != self._told_error:
            self._told_error = output.error
            self._notifier.status(self._in_one_line())
        return RETRY if waits else self._calm if journal is None else min(self._calm, journal.patience)

    def _save(self, *, closed: bool) -> None:
        """Enter how far this run has come. A state directory that cannot be written costs the next gap's bounds."""
        if self._output.waits:
            return  # what is in memory only was not given out: the last entry stays
        stages = self._pipeline.stages
        marked = stages.ledger.stopped_at
        serial = marked if closed and marked is not None else stages.settled
        if serial is None or (serial == self._saved and not closed):
            return
        life = self._life
        left = state.Left(life.facts.boot_id, serial, closed, life.started.hook_name, os.uname().release)
        told = self._saved is None or closed
        if told:
            self._settle_save()
        elif self._saving is not None and not self._saving.done:
            return  # the disk takes its time: the next one is in its place
        # It waits for the disk, and of events that wait meanwhile none needs it.
        self._saving = self._aside.start(lambda: state.save(self._state, left))
        if told and (error := self._settle_save()) is not None:
            self._say(
                f"cannot write to {self._state}: {error.strerror}; the next start will not know its gap"
            )
        self._saved = serial

    def _settle_save(self) -> OSError | None:
        """Wait for the entry that is being made; returns why it could not be."""
        saving, self._saving = self._saving, None
        try:
            if saving is not None:
                saving.result()
        except OSError as error:
            return error
        return None

    def _reload(self) -> None:
        """Read the settings again. Wrong ones leave all as it is."""
        self._notifier.reloading()
        if self._journal is not None:
            self._journal.flush(time.time())
        before = self._settings
        try:
            fresh = config.load(self._path)
            changed = before.changed(fresh)
            names = (*(row.name for row in changed), *self._sinks.reload(fresh))
        except EnricherError as error:
            self._say(f"the settings stay as they were: {error.message}")
            self._tell(Notice("refused", "the new settings are wrong, the old ones stay"))
        else:
            self._settings = fresh
            self._reloaded = _now()
            waiting = [row.name for row in changed if not row.live]
            if waiting:
                self._say(f"take effect with the next start only: {', '.join(waiting)}")
            if names:
                self._tell(Notice("reload", "new settings are in force", settings=names))
            else:
                self._say("no setting has changed; the output was opened anew")
        self._notifier.ready(self._in_one_line())

    def _in_one_line(self) -> str:
        life = self._life
        if self._output.error:
            return self._output.error
        if life.degraded:
            return f"degraded, no hook: {life.degraded}"
        return f"hook {life.started.hook_name}, writing to {self._output.path}"

    def _status(self) -> dict[str, object]:
        """Return what `status` shows (docs/control.md)."""
        life, summary = self._life, self._pipeline.summary()
        loaded = life.started.loaded
        account: dict[str, Any] = summary._asdict()
        account["counts"] = summary.counts._asdict()
        account["balanced"] = summary.balanced
        account["gap"] = summary.gap._asdict() if summary.gap else None
        server = self._output.followers
        return {
            "version": __version__,
            "pid": os.getpid(),
            "since": life.since,
            "kernel": os.uname().release,
            "mode": "degraded" if life.degraded else "full",
            "degraded": life.degraded,
            "hook": life.started.hook_name,
            "loader": life.started.loader,
            "rings": {"count": loaded.ring_count, "bytes": loaded.ring_count * loaded.ring_size},
            "way": life.started.socket.way,
            "receive_buffer": life.started.socket.receive_buffer,
            "output": self._output.facts(),
            "sinks": self._sinks.facts(),
            "journal": None if self._journal is None else self._journal.facts(),
            "account": account,
            "account_words": ledger.words(summary),
            "gap": _gap_facts(summary.gap, self._open_gap),
            "reloaded": self._reloaded,
            "config": {"files": list(self._settings.files)},
            "followers": server.followers if isinstance(server, ControlServer) else 0,
            "metadata": self._metadata_facts(),
            "contid": {"state": "off"} if self._contid is None else self._contid.facts(),
            "control": server.counts() if isinstance(server, ControlServer) else {},
            "capabilities": life.capabilities,
            "rss": _rss(),
            "watchdog": self._notifier.watchdog is not None,
        }

    def _births(self) -> dict[str, object]:
        life = self._life
        return births.answer(self._output.around.lives, life.facts.boot_id, life.started.loaded)

    def _metadata_facts(self) -> dict[str, object]:
        if self._metadata is None:
            return {"state": "failed" if self._settings[rows.METADATA] else "off"}
        return {"state": "on" if self._metadata.runs else "ended", **self._metadata.counts()}


def _gap_facts(gap: Gap | None, open_gap: str) -> dict[str, object] | None:
    if gap is not None:
        return {**gap._asdict(), "events": gap.events}
    return {"text": open_gap} if open_gap else None


def _now() -> str:
    return rfc3339(*divmod(int(time.time() * 1000), 1000))


def _rss() -> int:
    """Return the bytes of memory that are ours, the rings' included; 0 where it cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def run(
    path: str | None,
    settings: Settings,
    asked: Asked,
    say: Callable[[str], None],
    source: Source | None = None,
) -> Summary:
    """Run the service with these settings; SIGHUP reads those of `path` again. Raises the leaves of `errors`.

    `source` brings the kernel's records, if it is not to be the multicast socket; where it ends, so does the run.
    """
    return Service(path, settings, asked, say, source).run()
