# SPDX-License-Identifier: Apache-2.0
"""Messages, senders and spools as the tests of delivery need them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Condition

from enricher.clock import Clock, ManualClock
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt
from enricher.sinks.delivery.spool import Limits, Spool

NOW = 1_772_366_400.0
DEADLINE = 20.0
"""Seconds after which a test that waits for a thread fails."""


def message(number: int, body: bytes = b"", records: int = 1) -> Message:
    return Message(
        f"boot/{number}", NOW + number, "SYSCALL", body or b"body %d" % number, 1000 + number, records
    )


def messages(start: int, end: int, body: bytes = b"") -> list[Message]:
    return [message(number, body) for number in range(start, end)]


def numbers(found: Sequence[Message]) -> list[int]:
    return [int(each.uid.partition("/")[2]) for each in found]


def spool(
    path: Path,
    *,
    size: int = 1 << 30,
    clock: Clock | None = None,
    wall: Callable[[], float] = lambda: NOW,
    **limits: float | str,
) -> Spool:
    made = Limits(size)._replace(**limits)  # type: ignore[arg-type]
    return Spool(str(path), made, clock=clock or ManualClock(), wall=wall)


def drained(queue: Spool, most: int = 7) -> list[int]:
    """Take and be done until nothing is left."""
    found: list[int] = []
    while batch := queue.take(most, 0):
        found += numbers(batch)
        queue.done(len(batch))
    return found


def lost(queue: Spool) -> int:
    return sum(loss.lost for loss in queue.losses())


class FakeSender:
    """Answers as it is told: `script` has a receipt, or what is raised, for each call; then all is taken."""

    acknowledged = True

    def __init__(self, *script: Receipt | BaseException, most: int = 10) -> None:
        self.most = most
        self.calls: list[list[int]] = []
        self.closed = 0
        self._script = deque(script)
        self._changed = Condition()

    def send(self, messages: Sequence[Message]) -> Receipt:
        with self._changed:
            self.calls.append(numbers(messages))
            self._changed.notify_all()
            answer = self._script.popleft() if self._script else ALL_TAKEN
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def wait_for(self, wanted: Callable[[list[list[int]]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.calls), DEADLINE), self.calls

    def close(self) -> None:
        self.closed += 1
