# SPDX-License-Identifier: Apache-2.0
"""A thread beside the loop, for what has to wait for a disk.

Owns that pieces of work are done one after another, in the order in which they were given, and that what one raises is
kept for who gave it. Never decides what is done there, never takes a signal, and touches nothing that it was not given.
"""

from __future__ import annotations

import signal
import sys
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SWITCH: Final = 0.0005
"""Seconds after which the loop gets its turn from the thread: Python's own 5 ms, for each call into the kernel that it
comes back from, would be felt in every event of that time."""


class Task(Generic[T]):
    """A piece of work that was given away."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._over = Event()
        self._result: T
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether `result` does not wait."""
        return self._over.is_set()

    def result(self) -> T:
        """Wait for the end and return what came of it. Raises what the work has raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def run(self) -> None:
        """Do it; for `Aside` alone."""
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error
        self._over.set()


class Aside:
    """Made before the thread is: that begins with the first piece of work, with the capabilities of who gives it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self, work: Callable[[], T]) -> Task[T]:
        """Have this done; returns at once."""
        task = Task(work)
        self._given.put(task.run)
        if self._thread is None:
            sys.setswitchinterval(SWITCH)
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return task

    def close(self) -> None:
        """End when all that was given is done. A second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._given.put(None)
            thread.join()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (run := self._given.get()) is not None:
            run()
