# SPDX-License-Identifier: Apache-2.0
"""The queue in memory: bounded both ways, in order, and no message both lost and delivered."""

from __future__ import annotations

from threading import Thread

import pytest

from enricher.model import Loss
from enricher.sinks.delivery.memory import TAKE_BYTES, MemoryQueue, weight
from enricher.sinks.delivery.message import Queue
from tests.unit.sample_delivery import DEADLINE, message, messages, numbers


def made(most: int = 100, size: int = 1 << 20, policy: str = "drop_oldest") -> MemoryQueue:
    return MemoryQueue(most=most, size=size, policy=policy)


def test_what_was_taken_is_the_same_until_it_is_done() -> None:
    queue: Queue = made()
    queue.put(messages(0, 5))
    assert numbers(queue.take(3, 0)) == [0, 1, 2]
    assert numbers(queue.take(3, 0)) == [0, 1, 2]
    queue.done(2)
    assert numbers(queue.take(10, 0)) == [2, 3, 4]
    assert numbers(queue.take(1, 0)) == [2]
    assert queue.waiting == 3
    queue.done(3)
    assert (queue.take(1, 0), queue.waiting, queue.size, queue.losses()) == ([], 0, 0, [])


@pytest.mark.parametrize(
    ("policy", "kept", "first", "last"),
    [("drop_oldest", [5, 6, 7], 1000, 1004), ("drop_newest", [0, 1, 2], 1003, 1007)],
)
@pytest.mark.parametrize("by_size", [False, True])
def test_over_a_limit_goes_what_the_policy_says(
    policy: str, kept: list[int], first: int, last: int, *, by_size: bool
) -> None:
    size = 3 * weight(message(0)) if by_size else 1 << 20
    queue = made(100 if by_size else 3, size, policy)
    queue.put([message(number, records=2) for number in range(8)])
    assert queue.losses() == [Loss("queue", "queue", 10, "records", first, last, ())]
    assert queue.losses() == []
    assert (queue.given_up.messages, queue.given_up.records, queue.waiting) == (5, 10, 3)
    assert numbers(queue.take(10, 0)) == kept


def test_what_is_in_the_couriers_hands_is_not_given_up() -> None:
    queue = made(most=3)
    queue.put(messages(0, 3))
    queue.take(2, 0)
    queue.put(messages(3, 6))
    assert numbers(queue.take(3, 0)) == [0, 1, 5]
    queue.put(messages(6, 7))
    assert queue.given_up.messages == 4  # all are in its hands: there is nothing older that could go
    queue.done(3)
    assert queue.waiting == 0


def test_for_what_will_not_fit_nothing_goes() -> None:
    queue = made(size=2000)
    queue.put([message(0), message(1, b"x" * 2000), message(2)])
    assert queue.losses() == [Loss("queue", "queue", 1, "records", 1001, 1001, ())]
    assert numbers(queue.take(9, 0)) == [0, 2]


def test_the_serials_of_a_loss_are_ordered_as_the_kernel_counts_them() -> None:
    queue = made(most=1, policy="drop_newest")
    queue.put([message(0), *(message(0)._replace(serial=serial) for serial in (5, 0xFFFFFFFE, 0))])
    assert queue.losses() == [Loss("queue", "queue", 3, "records", 0xFFFFFFFE, 5, ())]


def test_a_lost_event_of_our_own_makes_no_further_one() -> None:
    queue = made(most=1)
    queue.put([message(0, records=0)._replace(serial=0), message(1)])
    assert (queue.losses(), queue.given_up.messages) == ([], 1)


def test_one_take_is_bounded_in_bytes_but_gives_one_message() -> None:
    queue = made(size=1 << 30)
    large = b"x" * (TAKE_BYTES // 2)
    queue.put([message(0, 3 * large), message(1, large), message(2, large)])
    assert numbers(queue.take(9, 0)) == [0]
    queue.done(1)
    assert numbers(queue.take(9, 0)) == [1]


def test_take_is_woken_by_put_and_by_close() -> None:
    for wake in ("put", "close"):
        queue = made()
        found: list[list[int]] = []
        thread = Thread(target=lambda: found.append(numbers(queue.take(5, DEADLINE))))  # noqa: B023 - joined below
        thread.start()
        if wake == "put":
            queue.put(messages(0, 1))
        else:
            queue.close()
        thread.join(DEADLINE)
        assert found == ([[0]] if wake == "put" else [[]])


def test_at_the_end_what_waits_is_given_up_and_told() -> None:
    queue = made()
    queue.put(messages(0, 4))
    queue.take(1, 0)
    queue.close()
    queue.close()
    queue.put(messages(4, 5))
    assert queue.losses() == [Loss("queue", "queue", 5, "records", 1000, 1004, ())]
    assert (queue.waiting, queue.size, queue.take(1, 0)) == (0, 0, [])


def test_two_threads_lose_and_repeat_nothing() -> None:
    queue = made(most=50)
    found: list[int] = []
    ended = False

    def carry() -> None:
        while True:
            last = ended
            batch = queue.take(7, 0.01)
            found.extend(numbers(batch))
            queue.done(len(batch))
            if last and not batch:
                return

    thread = Thread(target=carry)
    thread.start()
    for start in range(0, 20_000, 20):
        queue.put(messages(start, start + 20))
    ended = True
    thread.join(DEADLINE)
    assert found == sorted(set(found))
    assert len(found) + queue.given_up.messages == 20_000


@pytest.mark.parametrize(
    ("most", "size", "policy"), [(0, 1, "drop_oldest"), (1, 0, "drop_oldest"), (1, 1, "x")]
)
def test_no_queue_without_limits(most: int, size: int, policy: str) -> None:
    with pytest.raises(ValueError, match="no such queue"):
        made(most, size, policy)


def test_a_courier_that_outlives_its_queue_may_still_say_what_is_done() -> None:
    """Its receiver kept it from ending in time: that is no bug of anybody."""
    queue = made()
    queue.put(messages(0, 3))
    queue.take(2, 0)
    queue.close()
    queue.done(2)
    assert (queue.waiting, queue.size, queue.given_up.messages) == (0, 0, 3)
