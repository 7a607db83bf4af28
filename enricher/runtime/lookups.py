# SPDX-License-Identifier: Apache-2.0
"""What is known of containers beyond their ids, asked of the helper process and remembered.

Owns our end of the helper: what waits to be asked, what was answered, and how long an answer holds. Never waits,
never raises for what the helper does or leaves undone, and believes nothing of its answers before it is checked.

Nothing of what users run may keep us from the answer for what root runs: each side has its own room, users' requests
are sent when root's are through, and an owner whose state made the helper hang is left alone for a while. What is
bounded: on each side requests that wait, answers, and non-answers; and owners that are left alone.
"""

from __future__ import annotations

import os
import signal
from collections import Counter, deque
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from enricher.enrich.metadata import Known, Metadata, known_from, metadata_from
from enricher.enrich.metadata.files import member, owner_of, parse
from enricher.enrich.metadata.worker import ANSWER_MAX, REQUEST_MAX, request_for
from enricher.runtime.helper import processes_of

if TYPE_CHECKING:
    from enricher.clock import Clock
    from enricher.enrich.places import Found
    from enricher.runtime.helper import Helper

K = TypeVar("K")
V = TypeVar("V")

QUEUE_MAX: Final = 256
"""Requests that wait."""
HELD_MAX: Final = 4096
"""Answers that are held. They outlive their containers, for records that are still on their way."""
ABSENT_MAX: Final = 4096
"""Non-answers that are held."""
OWNERS_MAX: Final = 256
"""Owners that are not asked about."""
_ABSENT: Final = (0.02, 0.03, 0.05, 0.15, 0.25, 0.5, 1.0, 4.0, 16.0, 64.0, 300.0)
"""Seconds until the same is asked again, each time the next: a runtime may write its state after it has made the
cgroup, and a command that it then starts is there soon after."""
_PAUSE_FIRST, _PAUSE_LAST = 1.0, 300.0
"""Seconds for which an owner is not asked about after the helper hung or died over his state, and the most."""
_PAUSE_FACTOR: Final = 4.0

COUNTERS: Final = (
    "asked", "answered", "unknown", "timed_out", "crashed", "failed", "refused", "dropped", "forgotten",
)  # fmt: skip
"""Requests sent; answered; nothing known; helper hung or died over it; no valid answer; owner not asked; no room to
wait; answers that went for want of room."""


class Missing(Enum):
    """Why there is no answer."""

    PENDING = "pending"
    """It is being asked for."""
    UNKNOWN = "unknown"
    """No runtime's state has it, so far."""
    UNAVAILABLE = "unavailable"
    """The helper cannot be asked, or not about this."""


class Key(NamedTuple):
    """What is asked for, and which of several that had the same name one after another."""

    asked: Found | str
    instance: int


class _Pause(NamedTuple):
    """Until when something is left alone, and for how long it was this time."""

    until: float
    length: float
    why: Missing = Missing.UNAVAILABLE


class _Side:
    """What is asked and remembered of root's containers, or of users'."""

    __slots__ = ("absent", "held", "queue", "waiting")

    def __init__(self) -> None:
        self.queue: deque[Key] = deque()
        self.waiting: set[Key] = set()  # the queue, and what is being asked
        self.held: dict[Key, Metadata | Known] = {}
        self.absent: dict[Key, _Pause] = {}


class Lookups:
    """Made with a started helper, which it ends."""

    def __init__(self, helper: Helper, clock: Clock) -> None:
        self._helper = helper
        self._clock = clock
        self._root, self._users = self._sides = (_Side(), _Side())
        self._paused: dict[int, _Pause] = {}  # by owner
        self._current: Key | None = None
        self._counts: Counter[str] = Counter()
        # Bounded for who does not look; who does looks more often than as many can come.
        self.news: deque[Key] = deque(maxlen=4 * QUEUE_MAX)
        """What `settled` returns next. To be looked at each turn, which a call is too dear for."""
        self.processes = helper.processes
        """The helper's own, each as its pid and its start in clock ticks since boot, 0 where that is not known."""
        self.gone = False
        """The helper has ended. It cannot be started again: we no longer have what it needs."""

    @property
    def privileged(self) -> bool:
        """Whether the helper may read what is not for everybody."""
        return self._helper.privileged

    def fileno(self) -> int:
        """Return what becomes readable when `serve` has something to do. It is closed when the helper is gone."""
        return self._helper.socket.fileno()

    def ask(self, found: Found, instance: int = 0) -> Metadata | Missing:
        """Return what is known of this container, which is the outermost of its chain.

        `instance` tells two containers apart that have the same name one after the other: the id of the cgroup.
        """
        said = self._ask(Key(found, instance), found.path)
        return Missing.UNKNOWN if isinstance(said, Known) else said

    def ask_cgroup(self, path: str, instance: int = 0) -> Known | Missing:
        """Return the container whose state names this cgroup, or one above it, as its own."""
        said = self._ask(Key(path, instance), path)
        return Missing.UNKNOWN if isinstance(said, Metadata) else said

    def serve(self) -> None:
        """Take the answer that has come, and ask for what waits."""
        if self.gone:
            return
        try:
            said = self._helper.socket.recv(ANSWER_MAX + 1)
        except BlockingIOError:
            said = None
        except OSError:
            said = b""
        if said == b"":
            self._end()
        elif said is not None:
            self._take(said)
        self._send()

    def settled(self) -> list[Key]:
        """Return what has been asked for and is not PENDING any more, once."""
        keys = list(self.news)
        self.news.clear()
        return keys

    def again(self, key: Key) -> float:
        """Return the time from which asking for this will do; 0 where that is at once."""
        path = _path(key)
        absent = self._side(path).absent.get(key)
        paused = self._paused.get(owner_of(path) or 0)
        return max((each.until for each in (absent, paused) if each is not None), default=0.0)

    @staticmethod
    def is_users(key: Key) -> bool:
        """Whether users, and not root, name what this is about."""
        return "/user@" in _path(key)

    def counts(self) -> dict[str, int]:
        """Return what was counted (COUNTERS), and how much there is now of what is bounded."""
        return {
            **{name: self._counts[name] for name in COUNTERS},
            "waiting": sum(len(side.waiting) for side in self._sides),
            "held": sum(len(side.held) for side in self._sides),
            "absent": sum(len(side.absent) for side in self._sides),
            "owners_not_asked": sum(pause.until > self._clock.monotonic() for pause in self._paused.values()),
        }

    def close(self) -> None:
        """End the helper. What is held stays."""
        if not self.gone:
            self._end()

    def _ask(self, key: Key, path: str) -> Metadata | Known | Missing:
        side = self._side(path)
        held = side.held.get(key)
        if held is not None:
            return held
        if key in side.waiting:
            return Missing.PENDING
        if self.gone:
            return Missing.UNAVAILABLE
        absent = side.absent.get(key)
        if absent is not None and self._clock.monotonic() < absent.until:
            return absent.why
        return self._enqueue(key, path, side)

    def _enqueue(self, key: Key, path: str, side: _Side) -> Missing:
        owner = owner_of(path)
        if owner is None:
            return Missing.UNKNOWN
        if self._is_paused(owner):
            self._counts["refused"] += 1
            return Missing.UNAVAILABLE
        if len(side.queue) >= QUEUE_MAX:
            self._counts["dropped"] += 1
            return Missing.UNAVAILABLE
        side.queue.append(key)
        side.waiting.add(key)
        self._send()
        return Missing.PENDING

    def _send(self) -> None:
        """Ask for the next one, unless an answer is due."""
        while self._current is None and (queue := self._root.queue or self._users.queue):
            key = queue.popleft()
            line = request_for(key.asked)
            if self._is_paused(_owner(key)) or len(line) > REQUEST_MAX:
                self._counts["refused"] += 1
                self._leave(key, Missing.UNAVAILABLE)
                continue
            try:
                self._helper.socket.send(line)
            except OSError:  # it has ended: there is room, with one request at a time
                self._end()
                return
            self._current = key
            self._counts["asked"] += 1

    def _take(self, line: bytes) -> None:
        said = parse(line)
        if (processes := processes_of(said)) is not None:
            self.processes = processes
            return
        key, self._current = self._current, None
        if key is None:
            self._counts["failed"] += 1  # nothing was asked
            return
        failed = member(said, "failed")
        if failed in ("time-out", "crash", "stuck"):
            self._counts["crashed" if failed == "crash" else "timed_out"] += 1
            self._pause(_owner(key))
            self._leave(key, Missing.UNAVAILABLE)
            return
        self._paused.pop(_owner(key), None)
        name = "known" if isinstance(key.asked, str) else "metadata"
        value = member(said, name)
        found = known_from(value) if name == "known" else metadata_from(value)
        if found is not None:
            self._counts["answered"] += 1
            self._hold(key, found)
        elif isinstance(said, dict) and name in said and value is None:
            self._counts["unknown"] += 1
            self._leave(key, Missing.UNKNOWN)
        else:
            self._counts["failed"] += 1
            self._leave(key, Missing.UNAVAILABLE)

    def _settle(self, side: _Side, key: Key) -> None:
        side.waiting.discard(key)
        self.news.append(key)

    def _hold(self, key: Key, found: Metadata | Known) -> None:
        side = self._side(_path(key))
        self._settle(side, key)
        side.absent.pop(key, None)
        self._counts["forgotten"] += _enter(side.held, key, found, HELD_MAX)

    def _leave(self, key: Key, why: Missing) -> None:
        """Remember that there is no answer, each time for longer."""
        side = self._side(_path(key))
        self._settle(side, key)
        before = side.absent.pop(key, None)
        length = next((step for step in _ABSENT if before is None or step > before.length), _ABSENT[-1])
        _enter(side.absent, key, _Pause(self._clock.monotonic() + length, length, why), ABSENT_MAX)

    def _pause(self, owner: int) -> None:
        """Leave an owner alone, each time for longer."""
        before = self._paused.pop(owner, None)
        length = _PAUSE_FIRST if before is None else min(before.length * _PAUSE_FACTOR, _PAUSE_LAST)
        _enter(self._paused, owner, _Pause(self._clock.monotonic() + length, length), OWNERS_MAX)

    def _is_paused(self, owner: int) -> bool:
        paused = self._paused.get(owner)
        return paused is not None and self._clock.monotonic() < paused.until

    def _side(self, path: str) -> _Side:
        return self._users if "/user@" in path else self._root

    def _end(self) -> None:
        """Let go of the helper: nothing waits any more, and what is held stays."""
        self.gone = True
        self._helper.socket.close()
        for side in self._sides:
            side.queue.clear()
            side.waiting.clear()
        self._current = None
        # Our own child, not yet waited for: the number is still its. Its worker goes with it.
        with suppress(OSError):
            os.kill(self._helper.pid, signal.SIGKILL)
            os.waitpid(self._helper.pid, 0)


def _path(key: Key) -> str:
    return key.asked if isinstance(key.asked, str) else key.asked.path


def _owner(key: Key) -> int:
    return owner_of(_path(key)) or 0


def _enter(entries: dict[K, V], key: K, value: V, most: int) -> int:
    """Put an entry in; the oldest goes where there is no room. Return how many went."""
    went = 0
    while len(entries) >= most:
        del entries[next(iter(entries))]
        went += 1
    entries[key] = value
    return went
