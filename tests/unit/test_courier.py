# SPDX-License-Identifier: Apache-2.0
"""The courier: again what is to be sent again, never more, never endlessly, and each destination for itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from enricher.clock import ManualClock
from enricher.model import Loss
from enricher.sinks.delivery.courier import ASKED_WAIT, FIRST_WAIT, LONGEST_WAIT, Courier
from enricher.sinks.delivery.memory import MemoryQueue
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Queue, Receipt, Sender, Unreachable
from enricher.sinks.delivery.rejected import RejectedFile
from tests.unit.sample_delivery import DEADLINE, NOW, FakeSender, message, messages, numbers, spool

Start = Callable[..., Courier]


class Waits:
    """The jitter: no wait at all, and what it was asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    def __call__(self, least: float, most: float) -> float:
        self.asked.append((least, most))
        return 0.0


def memory() -> MemoryQueue:
    return MemoryQueue(most=1000, size=1 << 20, policy="drop_oldest")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def start(tmp_path: Path, said: list[str], waits: Waits) -> Iterator[Start]:
    started: list[Courier] = []

    def starts(queue: Queue, sender: Sender, name: str = "it") -> Courier:
        courier = Courier(
            name,
            queue,
            sender,
            RejectedFile(str(tmp_path / "rejected")),
            say=said.append,
            wall=lambda: NOW + 100,
            jitter=waits,
        )
        started.append(courier)
        courier.start()
        return courier

    yield starts
    for courier in started:
        assert courier.stop(0.0), "it has to end"


def flat(calls: list[list[int]]) -> list[int]:
    return [number for call in calls for number in call]


def test_all_is_sent_in_order_and_done(start: Start, said: list[str]) -> None:
    queue, sender = memory(), FakeSender()
    courier = start(queue, sender)
    for number in range(0, 50, 5):
        queue.put(messages(number, number + 5))
    sender.wait_for(lambda calls: len(flat(calls)) >= 50)
    assert courier.stop(DEADLINE)
    assert flat(sender.calls) == list(range(50))
    assert all(len(call) <= 10 for call in sender.calls)
    assert (queue.waiting, sender.closed, said, courier.losses()) == (0, 1, [], [])
    assert (courier.sent, courier.taken, courier.retries, courier.errors, courier.oldest) == (
        50,
        50,
        0,
        0,
        0.0,
    )


def test_the_subset_that_is_to_be_sent_again_and_no_other(start: Start, tmp_path: Path) -> None:
    queue = memory()
    queue.put(messages(0, 6))
    sender = FakeSender(
        Receipt({1: "no such field"}, again=[0, 3, 4]),  # 2 and 5 are taken
        Receipt({2: "too long"}, again=[1]),  # 0 is taken, 3 once more, 4 refused
        ALL_TAKEN,
    )
    courier = start(queue, sender)
    sender.wait_for(lambda calls: len(calls) >= 3)
    assert courier.stop(DEADLINE)
    assert sender.calls == [[0, 1, 2, 3, 4, 5], [0, 3, 4], [3]]
    assert (courier.sent, courier.taken, courier.refused, courier.retries) == (10, 4, 2, 4)
    assert queue.waiting == 0
    lines = (tmp_path / "rejected").read_text().splitlines()
    assert [
        (f'"uid":"boot/{number}"' in line, why in line)
        for (number, why), line in zip([(1, "no such field"), (4, "too long")], lines, strict=True)
    ] == [(True, True)] * 2
    assert courier.losses() == [Loss("sink", "sink", 2, "records", 1001, 1004, ())]
    assert courier.losses() == []


def test_a_receipt_that_names_what_was_not_sent_does_no_harm(start: Start) -> None:
    queue = memory()
    queue.put(messages(0, 3))
    sender = FakeSender(Receipt({7: "?", -1: "?", 1: "no"}, again=[9, -2, 1, 2, 2]))
    courier = start(queue, sender)
    sender.wait_for(lambda calls: len(calls) >= 2)
    assert courier.stop(DEADLINE)
    assert sender.calls == [[0, 1, 2], [2]]
    assert (courier.taken, courier.refused, queue.waiting) == (2, 1, 0)


def test_a_receiver_that_is_away_is_tried_less_and_less_often(
    start: Start, said: list[str], waits: Waits
) -> None:
    queue = memory()
    queue.put(messages(0, 2))
    sender = FakeSender(*[Unreachable("connection refused")] * 12)
    courier = start(queue, sender)
    sender.wait_for(lambda calls: len(calls) >= 13)
    assert courier.stop(DEADLINE)
    most = [min(LONGEST_WAIT, FIRST_WAIT * 2**number) for number in range(12)]
    assert waits.asked == [(each / 2, each) for each in most]
    assert said == ["it: connection refused; messages wait", "it: the receiver can be reached again"]
    assert (courier.errors, courier.retries, courier.taken, courier.last_error) == (
        12,
        24,
        2,
        "connection refused",
    )
    assert courier.facts()["error"] == ""


def test_one_that_answers_and_takes_nothing_is_tried_less_often_too(start: Start, waits: Waits) -> None:
    queue = memory()
    queue.put(messages(0, 2))
    sender = FakeSender(*[Receipt({}, again=[0, 1])] * 3, Receipt({}, again=[1]), Receipt({}, again=[0]))
    courier = start(queue, sender)
    sender.wait_for(lambda calls: len(calls) >= 6)
    assert courier.stop(DEADLINE)
    assert [most for _, most in waits.asked] == [0.5, 1.0, 2.0, 0.5, 0.5]
    assert sender.calls == [[0, 1]] * 4 + [[1]] * 2


@pytest.mark.parametrize("by", ["receipt", "error"])
@pytest.mark.parametrize(
    ("wait", "expected"),
    [(30.0, 30.0), (86_400.0, ASKED_WAIT), (float("nan"), 0.25), (-1.0, 0.25), (float("inf"), 0.25)],
)
def test_the_wait_that_is_asked_for_is_kept_up_to_a_bound(
    tmp_path: Path, by: str, wait: float, expected: float
) -> None:
    queue = memory()
    queue.put(messages(0, 1))
    sender = FakeSender(Receipt({}, [0], wait) if by == "receipt" else Unreachable("away", wait=wait))
    waited: list[float] = []

    class Stop(Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waited.append(timeout)
            return False

    courier = Courier(
        "it",
        queue,
        sender,
        RejectedFile(str(tmp_path / "rejected")),
        say=lambda _: None,
        jitter=lambda least, _: least,
    )
    courier._stop = Stop()
    courier.start()
    sender.wait_for(lambda calls: len(calls) >= 2)
    assert courier.stop(DEADLINE)
    assert waited == [expected]


def test_stopping_ends_a_long_wait_with_one_more_try(tmp_path: Path) -> None:
    queue = memory()
    queue.put(messages(0, 3))
    sender = FakeSender(Unreachable("away"))
    courier = Courier(
        "it", queue, sender, RejectedFile(str(tmp_path / "r")), say=lambda _: None, jitter=lambda *_: 1000.0
    )
    courier.start()
    sender.wait_for(lambda calls: len(calls) >= 1)
    assert courier.stop(DEADLINE)
    assert sender.calls == [[0, 1, 2]] * 2
    assert queue.waiting == 0


def test_at_the_deadline_what_was_not_delivered_stays_in_the_spool(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s")
    queue.put(messages(0, 30))
    sender = FakeSender(ALL_TAKEN, *[Unreachable("away", wait=1000.0)] * 5)
    courier = Courier(
        "it", queue, sender, RejectedFile(str(tmp_path / "r")), say=lambda _: None, wall=lambda: NOW + 100
    )
    courier.start()
    sender.wait_for(lambda calls: len(calls) >= 2)
    assert courier.oldest == pytest.approx(90.0)
    assert courier.stop(0.1)
    assert flat(sender.calls) == [*range(20)], "the receiver asked not to be asked"
    queue.close()
    queue = spool(tmp_path / "s")
    assert numbers(queue.take(99, 0)) == list(range(10, 30))
    queue.close()


def test_a_bug_in_a_sender_is_told_and_waited_over(start: Start, said: list[str], waits: Waits) -> None:
    queue = memory()
    queue.put(messages(0, 2))
    sender = FakeSender(ZeroDivisionError("division by zero"), ALL_TAKEN)
    courier = start(queue, sender)
    sender.wait_for(lambda calls: len(calls) >= 2)
    assert courier.stop(DEADLINE)
    assert sender.calls == [[0, 1], [0, 1]]
    assert said[0] == "it: a bug, please report it: ZeroDivisionError: division by zero; messages wait"
    assert (courier.bugs, courier.errors, courier.taken, len(waits.asked)) == (1, 1, 2, 1)
    assert sender.closed == 2  # once for a connection in a state that nobody knows


def test_a_bug_in_a_queue_does_not_end_it_either(start: Start, said: list[str]) -> None:
    class Broken(MemoryQueue):
        left = 2

        def take(self, most: int, timeout: float) -> Sequence[Message]:
            if self.left:
                self.left -= 1
                raise KeyError(most)
            return super().take(most, timeout)

    queue = Broken(most=10, size=1 << 20, policy="drop_oldest")
    queue.put(messages(0, 1))
    sender = FakeSender()
    courier = start(queue, sender)
    sender.wait_for(bool)
    assert courier.stop(DEADLINE)
    assert (courier.bugs, len(said)) == (2, 2)


def test_a_receiver_that_hangs_holds_no_other_up(start: Start, said: list[str]) -> None:
    entered, release = Event(), Event()

    class Hanging(FakeSender):
        def send(self, messages: Sequence[Message]) -> Receipt:
            entered.set()
            assert release.wait(DEADLINE)
            return super().send(messages)

    stuck, other = memory(), memory()
    slow, fast = Hanging(), FakeSender()
    hanging = start(stuck, slow, "slow")
    courier = start(other, fast, "fast")
    stuck.put(messages(0, 1))
    assert entered.wait(DEADLINE)
    for number in range(1, 2000):
        stuck.put(messages(number, number + 1))
        other.put(messages(number, number + 1))
    fast.wait_for(lambda calls: len(flat(calls)) >= 1000 and flat(calls)[-1] == 1999)
    assert stuck.given_up.messages == 1000
    assert not hanging.stop(0.0)
    release.set()
    assert hanging.stop(DEADLINE)
    assert courier.stop(DEADLINE)
    assert slow.calls == [[0]]
    assert said == []


def test_it_takes_no_signal(start: Start) -> None:
    masks: list[set[signal.Signals | int]] = []

    class Asking(FakeSender):
        def send(self, messages: Sequence[Message]) -> Receipt:
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
            return super().send(messages)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    queue, sender = memory(), Asking()
    courier = start(queue, sender)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    queue.put(messages(0, 1))
    sender.wait_for(bool)
    assert courier.stop(DEADLINE)
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM} <= masks[0]


def test_troubles_of_queue_and_rejected_file_are_passed_on_once(tmp_path: Path, said: list[str]) -> None:
    queue = memory()
    queue.error = "the disk is full"
    queue.put(messages(0, 20))
    sender = FakeSender(Receipt({0: "no"}), Receipt({0: "no"}))
    courier = Courier("it", queue, sender, RejectedFile(str(tmp_path / "none" / "r")), say=said.append)
    courier.start()
    sender.wait_for(lambda calls: len(calls) >= 2)
    assert courier.stop(DEADLINE)
    assert said[0] == "it: the disk is full"
    assert "none/r: No such file" in said[1]
    assert len(said) == 2
    assert (courier.refused, courier.facts()["rejected_failed"]) == (2, 2)


def test_stop_before_start_and_twice(tmp_path: Path) -> None:
    courier = Courier(
        "it",
        memory(),
        FakeSender(),
        RejectedFile(str(tmp_path / "r")),
        say=lambda _: None,
        clock=ManualClock(),
    )
    assert courier.stop(0.0)
    assert courier.stop(0.0)
    assert message(0).uid == "boot/0"


# -- what is not sure --------------------------------------------------------------------------------


class Doubtful(FakeSender):
    """A receiver that says nothing: `doubts` are given out one by one."""

    acknowledged = False

    def __init__(self, *script: Receipt | BaseException, doubts: Sequence[int] = ()) -> None:
        super().__init__(*script)
        self.doubts = list(doubts)
        self.at_close = 0

    def unsure(self) -> int:
        found = self.doubts.pop(0) if self.doubts and self.calls else 0
        if self.closed:
            found, self.at_close = found + self.at_close, 0
        return found


def test_what_is_not_sure_is_told_as_an_upper_bound(tmp_path: Path) -> None:
    queue = MemoryQueue(most=100, size=1 << 20, policy="drop_oldest")
    sender = Doubtful(Unreachable("gone"), doubts=[5])
    sender.at_close = 2
    rejected = RejectedFile(str(tmp_path / "rejected"))
    courier = Courier("a", queue, sender, rejected, say=lambda _: None, jitter=lambda *_: 0.0)
    queue.put(messages(0, 3))
    courier.start()
    sender.wait_for(lambda calls: len(calls) >= 2)
    assert courier.stop(5.0)
    told = [(loss.cause, loss.stage, loss.lost, loss.unit) for loss in courier.losses()]
    assert told == [("sink", "sink", 7, "messages")]
    assert courier.losses() == []
    assert courier.unsure == 7


def test_doubts_about_our_own_events_are_not_told_or_it_would_never_end(tmp_path: Path) -> None:
    queue = MemoryQueue(most=100, size=1 << 20, policy="drop_oldest")
    sender = Doubtful(doubts=[1, 1])
    courier = Courier("a", queue, sender, RejectedFile(str(tmp_path / "r")), say=lambda _: None)
    queue.put([message(0, records=0)])
    courier.start()
    sender.wait_for(lambda calls: len(calls) == 1)
    queue.put([message(1, records=0)])
    sender.wait_for(lambda calls: len(calls) == 2)
    assert courier.stop(5.0)
    assert courier.unsure == 2
    assert courier.losses() == []


def test_of_those_refused_without_a_name_the_largest_are_counted(tmp_path: Path) -> None:
    queue = MemoryQueue(most=100, size=1 << 20, policy="drop_oldest")
    sender = FakeSender(Receipt({0: "no"}, [1], unnamed=1, why="full"))
    said: list[str] = []
    courier = Courier(
        "a", queue, sender, RejectedFile(str(tmp_path / "r")), say=said.append, jitter=lambda *_: 0.0
    )
    queue.put([message(0), message(1), message(2, records=2), message(3, records=7)])
    courier.start()
    sender.wait_for(lambda calls: len(calls) == 2)
    assert courier.stop(5.0)
    assert (courier.refused, courier.taken) == (2, 2)
    assert [(loss.lost, loss.first, loss.last) for loss in courier.losses()] == [(8, 1000, 1003)]
    assert said == ["a: 1 of 2 messages were refused for ever: full"]


def test_doubts_are_told_while_the_receiver_is_away(tmp_path: Path) -> None:
    queue = MemoryQueue(most=100, size=1 << 20, policy="drop_oldest")
    sender = Doubtful(Unreachable("gone"), doubts=[5])
    told = Event()
    courier = Courier(
        "a",
        queue,
        sender,
        RejectedFile(str(tmp_path / "r")),
        say=lambda _: told.set(),
        jitter=lambda *_: 600.0,
    )
    queue.put(messages(0, 3))
    courier.start()
    assert told.wait(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while not courier.unsure:
        assert time.monotonic() < deadline
        told.wait(0)
    assert [loss.lost for loss in courier.losses()] == [5]
    assert courier.stop(5.0)
