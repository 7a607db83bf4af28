# SPDX-License-Identifier: Apache-2.0
"""The service's output: a file that is rotated, and whoever follows.

Owns the filter and the view of the settings in force, their replacement, and what happens while the file cannot
be written: events wait in bounded memory and the rest is counted, since a full disk must not end the service.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from enricher.config import settings as rows
from enricher.correlate.ledger import serial_before, serial_of
from enricher.enrich.surroundings import Surroundings
from enricher.errors import EnricherError
from enricher.model import Loss
from enricher.route.filters import Shared, made_of
from enricher.route.own import OwnEvents
from enricher.runtime.output import renderer
from enricher.sinks.rotating import RotatingFile
from enricher.sinks.seal import Sealer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.clock import TurnClock
    from enricher.config.load import Settings
    from enricher.model import Batch, Event, HostFacts
    from enricher.route.expression import Native
    from enricher.route.filters import Filter
    from enricher.runtime.metrics.latency import Latency
    from enricher.runtime.routes import Routes
    from enricher.sinks.journal import Journal
    from enricher.sources.names import Names

HELD_MAX: Final = 8 << 20
"""Bytes of lines that wait for the file to be writable again."""

RETRY: Final = 1.0
"""Seconds between two tries."""


class Followers(Protocol):
    """Who wants events as they come: `control.ControlServer`."""

    @property
    def wants_events(self) -> bool:
        """Whether there is anybody."""
        ...

    def publish(self, events: Sequence[Event], lines: Sequence[bytes], natives: Sequence[Native]) -> None:
        """Take events, their lines of JSON, and what makes their native forms."""
        ...


class _Line(NamedTuple):
    """One event's line or lines, and what the account of a loss needs of it."""

    text: bytes
    records: int
    serial: int


class _Dropped:
    """What did not fit into memory while the file could not be written."""

    def __init__(self) -> None:
        self.events = 0
        self.records = 0
        self.first: int | None = None
        self.last: int | None = None

    def add(self, line: _Line) -> None:
        self.events += 1
        self.records += line.records
        if not line.serial:
            return
        # Events come in the order in which they were finished.
        if self.first is None or serial_before(line.serial, self.first):
            self.first = line.serial
        if self.last is None or serial_before(self.last, line.serial):
            self.last = line.serial


class ServiceOutput:
    """Raises OutputFailed where the file cannot be opened at the start; later, nothing.

    ``error`` is why the last write failed, "" where it did not; ``written`` events, ``failed`` those given up.
    """

    def __init__(
        self, settings: Settings, facts: HostFacts, names: Names, clock: TurnClock, say: Callable[[str], None]
    ) -> None:
        self._facts = facts
        self._names = names
        self._clock = clock
        self._say = say
        self._held: deque[_Line] = deque()
        self._held_bytes = 0
        self._dropped = _Dropped()
        self._retry_at = 0.0
        self._told = ""  # the advice of the sink that was passed on
        self._before = 0  # events written to files of earlier settings
        self._rotations = 0
        self.failed = 0
        self.error = ""
        self.latency: Latency | None = None  # where it is measured
        self.followers: Followers | None = None
        self.journal: Journal | None = None  # it takes all events, before any filter
        self.routes: Routes | None = None  # each of them has a filter of its own
        self._around = Surroundings(facts)
        self.cgroups = self._around.cgroups
        self._json = renderer("json", facts, names, self._around)
        self._group = settings[rows.GROUP]  # the socket's as well, which stays as it is
        self._sink = self._open(settings)
        self._apply(settings)

    def _apply(self, settings: Settings) -> None:
        self._filter = _filter(settings)
        self._skip_self = settings[rows.OUTPUT_SKIP_SELF]
        self.path, self.format = settings[rows.OUTPUT_PATH], settings[rows.OUTPUT_FORMAT]
        raw = settings[rows.OUTPUT_RAW]
        self._view = renderer(self.format, self._facts, self._names, self._around, raw=raw)
        self._own = OwnEvents(
            self._facts, self._around, changes=settings[rows.CHANGES], lives=settings[rows.LIVES]
        )
        self._rich = self.format == "json" and raw
        self._plain = self.format == "json" and not raw
        self._advise()

    def reload(self, settings: Settings) -> None:
        """Go over to these settings. Raises EnricherError, and then nothing has changed.

        The new file is open before the old one is closed; an unchanged path is opened anew.
        """
        _filter(settings)  # raises for what there is not
        fresh = self._open(settings)
        old, self._sink = self._sink, fresh
        self._before += old.written
        self._rotations += old.rotations
        self._apply(settings)
        self._retry_at = 0.0
        try:
            old.close()
        except EnricherError as error:
            self._say(error.message)

    def _open(self, settings: Settings) -> RotatingFile:
        return RotatingFile(
            settings[rows.OUTPUT_PATH],
            group=self._group,
            size=settings[rows.ROTATE_SIZE],
            keep=settings[rows.ROTATE_KEEP],
            clock=self._clock,
            sealer=_sealer(settings),
        )

    @property
    def around(self) -> Surroundings:
        """What is known of containers and namespaces, for whoever makes native events as well."""
        return self._around

    def learn(self, batch: Batch) -> None:
        """Take in what a batch tells beside its records."""
        self._around.learn(batch)
        if self.journal is not None:
            self.journal.learn(batch)

    def emit(self, events: list[Event]) -> None:
        """Write what the filter lets through, and hand all of it to the journal and the followers."""
        events = self._own.chosen(events)
        if self.journal is not None:
            self.journal.take(events)
        followers = self.followers if self.followers is not None and self.followers.wants_events else None
        if followers is None and self.routes is None and self._filter is None:
            self._emit_once(events)
            return
        same = self._plain and followers is not None
        # What several ask for is made once: the native form as it is without the records' text, and with it.
        view = self._json
        # Where somebody follows each is made anyhow.
        shared = plain = [Shared(event, view.native, None if same else view.place) for event in events]
        if self._rich:
            shared = [Shared(event, self._view.native, self._view.place) for event in events]
        chosen = shared
        if self._skip_self:
            chosen = [one for one in chosen if not one.event.self_caused]
        if (passes := self._filter) is not None:
            chosen = [one for one in chosen if passes.matches(one.event, one.native, one.place)]
        lines = list(map(self._view.shared, chosen))
        if lines:
            self._write([one.event for one in chosen], lines)
        if followers is not None:
            if not same or len(chosen) < len(events):
                lines = list(map(self._json.shared, plain))
            followers.publish(events, lines, [one.native for one in plain])
        if self.routes is not None:
            self.routes.emit(plain, shared if self._rich else None)

    def _emit_once(self, events: list[Event]) -> None:
        """As `emit`, where the file's line is all that is made of an event: nothing need be kept for others."""
        if self._skip_self:
            events = [event for event in events if not event.self_caused]
        if events:
            line = self._view.line
            self._write(events, [line(event) for event in events])

    def _write(self, events: list[Event], lines: list[bytes]) -> None:
        done = 0
        if not self._held or self._try_held():
            done = self._try(lines)
            if done and self.latency is not None:
                self.latency.observe(events[:done])
        if done < len(lines):
            for event, line in zip(events[done:], lines[done:], strict=True):
                self._hold(_Line(line, len(event.records), serial_of(event.stamp)))

    def _try(self, lines: list[bytes]) -> int:
        """Return how many lines went out whole."""
        before = self._sink.written
        try:
            self._sink.write(lines)
        except EnricherError as error:
            if error.message != self.error:
                self.error = error.message
                self._say(f"{error.message}; events wait in memory, up to {HELD_MAX >> 20} MiB")
            self._retry_at = self._clock.now + RETRY
        else:
            if self.error:
                self._say(f"{self.path} can be written again")
                self.error = ""
        self._advise()
        return self._sink.written - before

    def _try_held(self) -> bool:
        """Whether nothing waits any more."""
        if self._clock.now < self._retry_at:
            return False
        done = self._try([line.text for line in self._held])
        for _ in range(done):
            self._held_bytes -= len(self._held.popleft().text)
        return not self._held

    def _hold(self, line: _Line) -> None:
        if self._held_bytes + len(line.text) > HELD_MAX:
            self.failed += 1
            self._dropped.add(line)
            return
        self._held.append(line)
        self._held_bytes += len(line.text)

    @property
    def waits(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._held or self._dropped.events)

    def settle(self, *, at_once: bool = False) -> Loss | None:
        """Try again what waits. Return what was given up, once, as soon as it can be written down."""
        if at_once:
            self._retry_at = 0.0
        if self._held and not self._try_held():
            return None
        dropped = self._dropped
        self._dropped = _Dropped()
        if not dropped.records:
            return None
        return Loss("sink", "sink", dropped.records, "records", dropped.first, dropped.last, ())

    def _advise(self) -> None:
        if self._sink.advice and self._sink.advice != self._told:
            self._say(self._sink.advice)
        self._told = self._sink.advice

    def facts(self) -> dict[str, object]:
        """Return what `status` says of it."""
        return {
            "path": self.path,
            "format": self.format,
            "written": self.written,
            "rotations": self._rotations + self._sink.rotations,
            "waiting": len(self._held),
            "failed": self.failed,
            "error": self.error,
        }

    @property
    def written(self) -> int:
        """Events written since the start."""
        return self._before + self._sink.written

    def close(self) -> None:
        """Close the file. What still waits is given up: `settle` was the last try."""
        self.failed += len(self._held)
        self._sink.close()


def _sealer(settings: Settings) -> Sealer | None:
    return Sealer(settings[rows.OUTPUT_PATH], settings[rows.SEAL_KEY]) if settings[rows.SEAL] else None


def _filter(settings: Settings) -> Filter | None:
    keys = settings[rows.OUTPUT_KEYS]
    types = settings[rows.OUTPUT_TYPES]
    return made_of(keys, types, settings[rows.OUTPUT_FILTER])
