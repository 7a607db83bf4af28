# SPDX-License-Identifier: Apache-2.0
"""Work beside the loop: in order, one piece at a time, and what it raises is for who gave it."""

from __future__ import annotations

import signal
from functools import partial
from threading import Event, active_count, current_thread

import pytest

from enricher.sinks.aside import Aside


def test_work_is_done_in_order_and_its_outcome_kept() -> None:
    aside, done = Aside("x"), list[int]()

    def enter(number: int) -> int:
        done.append(number)
        return number

    tasks = [aside.start(partial(enter, number)) for number in range(100)]
    assert [task.result() for task in tasks] == done == list(range(100))
    aside.close()


def test_nothing_waits_for_it_but_who_asks() -> None:
    aside, gate = Aside("x"), Event()
    task = aside.start(gate.wait)
    before = task.done
    gate.set()
    assert task.result() is True
    assert (before, task.done) == (False, True)
    aside.close()


def test_what_is_raised_is_raised_again_and_the_next_is_done() -> None:
    aside = Aside("x")

    def fail() -> None:
        raise OSError(5, "no disk")

    failed, after = aside.start(fail), aside.start(lambda: 7)
    with pytest.raises(OSError, match="no disk"):
        failed.result()
    assert after.result() == 7
    aside.close()


def test_the_end_waits_for_all_that_was_given() -> None:
    before = active_count()
    aside, done = Aside("x"), list[int]()
    aside.close()  # nothing was given: there is no thread
    for number in range(100):
        aside.start(partial(done.append, number))
    aside.close()
    aside.close()
    assert done == list(range(100))
    assert active_count() == before


def test_it_takes_no_signal() -> None:
    aside = Aside("x")
    blocked = aside.start(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ())).result()
    assert {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1} <= blocked
    assert aside.start(current_thread).result() is not current_thread()
    aside.close()
