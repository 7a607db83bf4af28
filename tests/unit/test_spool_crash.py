# SPDX-License-Identifier: Apache-2.0
"""Killed at any moment, again and again: what `put` took in is delivered or still there, in order."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path
from random import Random

import pytest

from tests.unit.sample_delivery import drained, lost, messages, numbers, spool

ROUNDS = 40
BODY = b"x" * 300


def work(path: Path, start: int, out: int, seed: int) -> None:
    """Put and deliver until killed: `p N` when all below N were put, `d N` when N reaches the receiver."""
    random = Random(seed)  # noqa: S311 - the same each time
    queue = spool(path, segment=8_000)
    number = start
    while True:
        count = random.randrange(1, 40)
        queue.put(messages(number, number + count, BODY))
        number += count
        os.write(out, b"p %d\n" % number)
        for _ in range(random.randrange(5)):
            batch = queue.take(random.randrange(1, 60), 0)
            os.write(out, b"".join(b"d %d\n" % each for each in numbers(batch)))
            queue.done(random.randrange(len(batch) + 1))


def run_and_kill(path: Path, start: int, seed: int) -> bytes:
    """Let a child work, kill it somewhere behind a random number of what it says; return all that it said."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            work(path, start, theirs, seed)
        except BaseException:  # noqa: BLE001 - it must not come back into pytest
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(theirs)
    limit = Random(seed).randrange(1, 3_000)  # noqa: S311 - as above
    said = b""
    try:
        while len(said) < limit and (some := os.read(ours, 100)):
            said += some
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    while some := os.read(ours, 65536):
        said += some
    os.close(ours)
    assert os.WIFSIGNALED(status), said
    return said[: said.rfind(b"\n") + 1]


def test_a_kill_loses_nothing_that_was_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)  # a kill needs none, and disks are slow
    monkeypatch.setattr("enricher.sinks.delivery.spool.TAKE_BYTES", 1 << 40)  # all that is left is looked at
    path = tmp_path / "s"
    put = 0
    delivered: set[int] = set()
    for seed in range(ROUNDS):
        told: list[tuple[bytes, int]] = []
        for line in run_and_kill(path, put, seed).splitlines():
            kind, _, number = line.partition(b" ")
            told.append((kind, int(number)))
        delivered.update(number for kind, number in told if kind == b"d")
        put = max([put, *(number for kind, number in told if kind == b"p")])
        queue = spool(path, segment=8_000)
        pending = numbers(queue.take(1_000_000, 0))
        assert pending == list(range(pending[0], pending[-1] + 1) if pending else ())
        # The last `put` may have been cut short: that message was never said to be in.
        assert lost(queue) <= 1, seed
        assert set(range(put)) <= delivered | set(pending), seed
        put = max([put, *(number + 1 for number in pending)])
        queue.close()
    assert put > 1_000
    queue = spool(path)
    delivered.update(drained(queue))
    assert delivered == set(range(put))
    queue.close()
