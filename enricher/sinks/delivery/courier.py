# SPDX-License-Identifier: Apache-2.0
"""The courier: the thread that carries one destination's messages from its queue to its receiver.

Owns when something is sent again, what becomes of what is refused, and the destination's figures. Never speaks a
protocol, never takes a signal, and knows of no other destination: each waits for its own receiver alone.

A courier ends when it is told to, and for no other reason. A bug in a sender or a queue is counted, told and waited
over like a receiver that is away.
"""

from __future__ import annotations

import math
import random
import signal
import time
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from enricher.clock import SystemClock
from enricher.model import Loss
from enricher.sinks.delivery.givenup import GivenUp
from enricher.sinks.delivery.message import Unacknowledged, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.clock import Clock
    from enricher.sinks.delivery.message import Message, Queue, Receipt, Sender
    from enricher.sinks.delivery.rejected import RejectedFile

FIRST_WAIT: Final = 0.5
"""Seconds before the second try, at most; doubled with every further one."""
LONGEST_WAIT: Final = 60.0
"""Seconds between two tries, at most, where the receiver asks for no more."""
ASKED_WAIT: Final = 300.0
"""Seconds that are waited at most because a receiver asks for it."""
_IDLE: Final = 0.5  # seconds of one wait for messages: the spool has things to do meanwhile
_GRACE: Final = 1.0  # seconds that the thread may need beyond what it is given


class Courier:
    """``name`` is the destination's; ``say`` takes one sentence for the operator, from any thread.

    Figures, all since the start: ``sent`` messages given to the sender, again or not; ``taken`` by the receiver;
    ``refused`` for ever; ``retries`` messages that had been sent before; ``errors`` calls that did not get through,
    of which ``bugs`` by an exception that nobody expected. ``last_error`` is why the last of them did not.
    ``unsure`` are messages that count as taken, and that a receiver which acknowledges nothing may not have.

    It closes its sender's connection when it ends; queue and rejected file are closed by whoever made them, afterwards.
    """

    def __init__(  # noqa: PLR0913 - each stands for one thing that a test replaces
        self,
        name: str,
        queue: Queue,
        sender: Sender,
        rejected: RejectedFile,
        *,
        say: Callable[[str], None],
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.sent = self.taken = self.refused = self.retries = self.errors = self.bugs = 0
        self.unsure = 0
        self.last_error = ""
        self._queue = queue
        self._sender = sender
        self._rejected = rejected
        self._say = say
        self._clock = clock or SystemClock()
        self._wall = wall
        self._jitter = jitter
        self._lost = GivenUp("sink", "sink")
        self._doubts = sender.unsure if isinstance(sender, Unacknowledged) else None
        self._doubtful = 0  # of the unsure ones, those that were not told yet
        self._own = 0  # events of our own that were sent since it was told
        self._losing = Lock()
        self._failures = 0  # in a row
        self._seen = 0  # messages at the head of the queue that were sent before
        self._away = False  # which was told
        self._why = ""  # why messages that the receiver does not name were refused, which was told
        self._complaints = ("", "")  # of the queue and of the rejected file, which were told
        self._oldest: float | None = None
        self._deadline: float | None = None
        self._stop = Event()
        self._never = Event()
        self._thread = Thread(target=self._run, name=f"courier {name}", daemon=True)

    def start(self) -> None:
        """Start the thread. Signals are for the thread that calls this, which it inherits otherwise."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self, seconds: float) -> bool:
        """Deliver for so long what can be delivered, then end. Whether it has ended: a sender may still be at it.

        What was not delivered stays in the queue. Call it after the last `put`; a second call may give less time.
        """
        self.begin_stop(seconds)
        if self._thread.ident is not None:
            self._thread.join(seconds + _GRACE)
        return not self._thread.is_alive()

    def begin_stop(self, seconds: float) -> None:
        """Do the first half of `stop`: where there are several couriers, their time runs at once."""
        deadline = self._clock.monotonic() + seconds
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Do the second half of `stop`, and wait no longer than this."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_over():
            try:
                batch = self._queue.take(self._sender.most, 0.0 if self._stop.is_set() else _IDLE)
                if batch:
                    self._oldest = batch[0].time
                    self._deliver(batch)
                else:
                    self._oldest = None
                    if self._stop.is_set():
                        break
                self._listen()
                self._doubt()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may do better
                self._bug(error)
                self._pause()
        self._disconnect()

    def _is_over(self) -> bool:
        return self._deadline is not None and self._clock.monotonic() >= self._deadline

    def _deliver(self, batch: Sequence[Message]) -> None:
        """Send until all is taken or refused, or all that is left is to be taken from the queue anew."""
        todo = list(range(len(batch)))
        done = 0
        seen = min(self._seen, len(batch))
        while todo and not self._is_over():
            self.sent += len(todo)
            self.retries += seen
            receipt = self._send([batch[index] for index in todo])
            if receipt is not None:
                left = self._settle(receipt, batch, todo)
                # Where it takes nothing at all, the receiver is there and is no better than one that is away.
                self._failures = self._failures + 1 if len(left) == len(todo) else 0
                self._got_through()
                todo = left
                until = todo[0] if todo else len(batch)
                self._queue.done(until - done)
                done = until
                self._oldest = batch[until].time if todo else None
            seen = len(todo)
            if todo:
                self._listen()
                self._pause(receipt.wait if receipt is not None else self._asked)
            if len(todo) == len(batch) - done:
                break  # nothing behind the first of these is done: the queue may have to give some of it up
        self._seen = seen

    def _send(self, messages: Sequence[Message]) -> Receipt | None:
        """Return what became of them, None where that is not known: `_asked` is how long to wait then."""
        self._asked: float | None = None
        with self._losing:
            self._own += sum(1 for message in messages if not message.records)
        try:
            return self._sender.send(messages)
        except Unreachable as error:
            self._failed(error.message)
            self._asked = error.wait
            self._doubt()
        except Exception as error:  # noqa: BLE001 - whatever it is, a new connection may do better
            self._bug(error)
            self._disconnect()
        return None

    def _disconnect(self) -> None:
        try:
            self._sender.close()
        except Unreachable as error:
            self._failed(error.message)
        except Exception as error:  # noqa: BLE001 - as above
            self._bug(error)
        self._doubt()

    def _doubt(self) -> None:
        """Count what became uncertain since the sender was asked last."""
        if self._doubts is None:
            return
        try:
            count = self._doubts()
        except Exception as error:  # noqa: BLE001 - as above
            self._bug(error)
            return
        with self._losing:
            self.unsure += count
            self._doubtful += count

    def _tell_doubts(self) -> Sequence[Loss]:
        """Return the upper bound of what may be lost. Of events of our own alone none: it would be doubted in turn."""
        if self._doubtful <= self._own:
            return []
        doubtful, self._doubtful, self._own = self._doubtful, 0, 0
        return [Loss("sink", "sink", doubtful, "messages", None, None, ())]

    def _settle(self, receipt: Receipt, batch: Sequence[Message], todo: list[int]) -> list[int]:
        """Count what was taken, write down what was refused, and return what is left to be sent."""
        refused = {at: why for at, why in receipt.refused.items() if 0 <= at < len(todo)}
        left = sorted({at for at in receipt.again if 0 <= at < len(todo)} - refused.keys())
        others = set(range(len(todo))) - refused.keys() - set(left)
        unnamed = min(max(receipt.unnamed, 0), len(others))
        self.taken += len(others) - unnamed
        if unnamed:
            self._lose_unnamed(unnamed, [batch[todo[at]] for at in sorted(others)], receipt.why)
        if refused:
            self.refused += len(refused)
            self._rejected.write([(batch[todo[at]], why) for at, why in sorted(refused.items())])
            with self._losing:
                for at in sorted(refused):
                    self._lost.add_message(batch[todo[at]])
        return [todo[at] for at in left]

    def _lose_unnamed(self, count: int, among: Sequence[Message], why: str) -> None:
        """Count so many of these as refused. Which is not known: their records are those of the largest, at most."""
        self.refused += count
        records = sum(sorted((message.records for message in among), reverse=True)[:count])
        serials = [message.serial for message in among if message.serial]
        with self._losing:
            self._lost.add(count, records, serials[0] if serials else None, serials[-1] if serials else None)
        if why != self._why:
            self._why = why
            self._say(f"{self.name}: {count} of {len(among)} messages were refused for ever: {why}")

    def _pause(self, asked: float | None = None) -> None:
        """Wait before the next try: longer each time, and not the same for all who lost the same receiver."""
        most = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(max(self._failures - 1, 0), 16))
        seconds = self._jitter(most / 2, most)
        firm = asked is not None and math.isfinite(asked) and asked > 0
        if firm and asked is not None:
            seconds = max(seconds, self._jitter(1.0, 1.1) * min(asked, ASKED_WAIT))
        began = self._clock.monotonic()
        if not self._stop.is_set() and (not self._stop.wait(seconds) or not firm):
            return  # one more try at once where it is to end
        # It ends, and the receiver does not want to be asked before.
        if self._deadline is not None:
            now = self._clock.monotonic()
            self._never.wait(max(0.0, min(began + seconds, self._deadline) - now))

    # -- what is told --------------------------------------------------------------------------------

    def _failed(self, why: str) -> None:
        self.errors += 1
        self._failures += 1
        if not self._away or why != self.last_error:
            self._say(f"{self.name}: {why}; messages wait")
        self._away = True
        self.last_error = why

    def _got_through(self) -> None:
        if self._away:
            self._away = False
            self._say(f"{self.name}: the receiver can be reached again")

    def _bug(self, error: Exception) -> None:
        self.bugs += 1
        self._failed(f"a bug, please report it: {type(error).__name__}: {error}")

    def _listen(self) -> None:
        """Pass on what the queue and the rejected file complain of, once."""
        now = (self._queue.error, self._rejected.error)
        for sentence, before in zip(now, self._complaints, strict=True):
            if sentence and sentence != before:
                self._say(f"{self.name}: {sentence}")
        self._complaints = now

    def losses(self) -> Sequence[Loss]:
        """Return what was given up or refused for ever since the last call. From any thread."""
        with self._losing:
            refused = [*self._lost.tell(), *self._tell_doubts()]
        return [*self._queue.losses(), *refused]

    @property
    def oldest(self) -> float:
        """Seconds since the event that waits longest of those that were tried; 0 where none waits."""
        time_of = self._oldest
        return 0.0 if time_of is None else max(0.0, self._wall() - time_of)

    def facts(self) -> dict[str, object]:
        """Return what `status` says of it."""
        return {
            "sent": self.sent,
            "taken": self.taken,
            "refused": self.refused,
            "retries": self.retries,
            "errors": self.errors,
            "bugs": self.bugs,
            "unsure": self.unsure,
            "error": self.last_error if self._away else "",
            "last_error": self.last_error,
            "waiting": self._queue.waiting,
            "bytes": self._queue.size,
            "oldest": self.oldest,
            "queue_error": self._queue.error,
            "rejected": self._rejected.written,
            "rejected_failed": self._rejected.failed,
        }
