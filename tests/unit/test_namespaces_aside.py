# SPDX-License-Identifier: Apache-2.0
"""Work in a child: its answer, and every way in which it can fail to give one."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

import pytest

from enricher.sources.namespaces.aside import MEMORY, ask


def test_an_answer_is_the_childs() -> None:
    answer = ask(lambda: b"%d" % os.getpid(), 10, 100)
    assert answer.why == ""
    assert int(answer.data) != os.getpid()


def test_a_long_answer() -> None:
    assert ask(lambda: b"x" * 3_000_000, 10, 3_000_000).data == b"x" * 3_000_000


def test_a_descriptor() -> None:
    ours, theirs = os.pipe()
    answer = ask(lambda: theirs, 10, 1)
    os.close(theirs)
    os.write(answer.fd, b"through the child")
    os.close(answer.fd)
    assert os.read(ours, 100) == b"through the child"
    os.close(ours)


def _raise() -> bytes:
    raise RuntimeError


def _killed() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


@pytest.mark.parametrize("work", [_raise, _killed, lambda: b""])
def test_no_answer(work: Callable[[], bytes], capfd: pytest.CaptureFixture[str]) -> None:
    answer = ask(work, 10, 100)
    assert (answer.data, answer.fd, answer.why) == (b"", -1, "the process that was to look ended early")
    assert capfd.readouterr() == ("", "")


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    fork = os.fork

    def noting() -> int:
        pids.append(fork())
        return pids[-1]

    def hang() -> bytes:
        signal.pause()
        return b""

    monkeypatch.setattr(os, "fork", noting)
    answer = ask(hang, 0.2, 100)
    assert answer.why == "no answer in time"
    (pid,) = pids
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_too_much() -> None:
    assert ask(lambda: b"x" * 101, 10, 100).why == "too much to show"


def test_a_childs_memory_is_bounded() -> None:
    answer = ask(lambda: str(resource.getrlimit(resource.RLIMIT_AS)).encode(), 10, 100)
    assert answer.data.decode() == str((MEMORY, MEMORY))
    assert ask(lambda: bytes(2 * MEMORY), 10, 4 * MEMORY).why == "the process that was to look ended early"
