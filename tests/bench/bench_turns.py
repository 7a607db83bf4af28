# SPDX-License-Identifier: Apache-2.0
"""The service's loop with one event in each turn, as on a calm host: what a turn costs beside the records.

    python -m tests.bench.bench_turns [TURNS]           # microseconds of CPU a turn, and the calls into the kernel
    valgrind --tool=callgrind --callgrind-out-file=F .venv/bin/python -m tests.bench.bench_turns TURNS
                                                  # instructions: the difference of two numbers of turns is the turns'

Owns the kernel that is not there: datagrams in a socket, messages in rings. All else is the service's own: its loop
and what it does between turns, its receiver, stages, output with its file, journal. Nothing is attached, and no right
is needed. Each event is an exec of seven records, as `tests.bench.bench_views` makes it, with its context and count.
"""

from __future__ import annotations

import gc
import mmap
import os
import socket
import struct
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from enricher.config import load as config
from enricher.model import Batch
from enricher.runtime import prefetch
from enricher.runtime.metrics.endpoint import Endpoint
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.service import Service, _Life
from enricher.runtime.serviceoutput import ServiceOutput
from enricher.runtime.servicesinks import ServiceSinks
from enricher.runtime.stages import Opening
from enricher.runtime.startup import Started
from enricher.sources.audit.netlink import HEADER, HEADER_SIZE
from enricher.sources.audit.receiver import Receiver
from enricher.sources.bpf.hook import Candidate, Hook
from enricher.sources.bpf.ring import ReadingSide, Ring
from enricher.sources.names import HostNames
from tests.bench.bench_replay import context_message, tally_message
from tests.bench.bench_views import CONTAINERS, HOST, exec_event
from tests.bench.line import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURNS: Final = 2000
WARM: Final = 200
"""Turns before those that count: what is looked up for the first time."""
RING: Final = 16 << 20
_RING_HEADER: Final = 8


class Programs(ReadingSide):
    """The kernel side: one CPU's ring, into which `put` puts messages."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._fd = os.memfd_create("ring")
        os.ftruncate(self._fd, 2 * page + 2 * RING)
        self._position = 0
        self._rings = [Ring(self._fd, RING)]
        self._cpus = 1
        self._counters_map = mmap.mmap(-1, page)
        self.tap, self.cgroups, self.facts = None, [], []
        self.ring_count, self.ring_size = 1, RING
        self.counts_lost = True

    def put(self, message: bytes) -> None:
        """Commit a message. There is room for all: nothing wraps."""
        data = struct.pack("=II", len(message), 0) + message
        data += bytes(-len(data) % 8)
        os.pwrite(self._fd, data, 2 * mmap.PAGESIZE + self._position)
        self._position += len(data)
        os.pwrite(self._fd, struct.pack("=Q", self._position), mmap.PAGESIZE)

    def wake_fds(self) -> list[int]:
        """See `Loaded.wake_fds`."""
        return []

    def missed(self) -> int:
        """See `Loaded.missed`."""
        return 0

    def missed_losses(self) -> int:
        """See `Loaded.missed_losses`."""
        return 0


class Source(Receiver):
    """A socket that brings what `send` sends."""

    way = "multicast"
    ended = False
    receive_buffer = 0

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        super().__init__(ours, kernel_only=False)

    def send(self, datagrams: list[bytes]) -> None:
        """Queue these."""
        for datagram in datagrams:
            self._theirs.send(datagram)

    def drops(self) -> int:
        """See `Receiver.drops`; this family does not count them."""
        return 0


class _Asked:
    """Nobody asks for anything; a descriptor that is never readable."""

    stopped = False

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()

    def take_report(self) -> bool:
        return False

    def take_reload(self) -> bool:
        return False


class Turns:
    """A service in a directory of its own, whose kernel makes one event for each turn."""

    def __init__(self, directory: str) -> None:
        os.environ["STATE_DIRECTORY"] = directory
        file = Path(directory, "settings.toml")
        file.write_text(f'[output]\npath = "{directory}/events.json"\n', "ascii")
        settings = config.load(str(file))
        self.programs, self.source = Programs(), Source()
        service = Service(str(file), settings, _Asked(), print)
        self.service = service
        names = HostNames(service._clock)
        service._output = ServiceOutput(settings, HOST, names, service._clock, print)
        self.metadata = prefetch.start(settings, service._clock, print)
        assert self.metadata is not None
        service._output.cgroups.asker = self.metadata.want
        service._open_journal(HOST, cast("Any", self))
        service._sinks = ServiceSinks(service._output, HOST, names, directory, print)
        service._metrics = Endpoint(settings, service._clock, print)
        ends = cast("Any", self.source), cast("Any", None), cast("Any", self.programs)
        trial = Trial(Proof.PROVED, 1, [], [], [])
        started = Started(*ends, "none", Candidate(Hook.PLAIN, ""), trial, None, None)
        service._life = _Life(HOST, started, "", "", [])
        service._pipeline = self.pipeline = Pipeline(
            started,
            service._output.emit,
            Opening(os.getpid(), "0badcafe", 1),
            clock=service._clock,
            learn=service._output.learn,
            metadata=self.metadata,
        )
        around = Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=cgroups(CONTAINERS))
        service._output.learn(around)
        gc.collect()
        gc.freeze()  # as the service does before its first turn

    def close(self) -> None:
        """End the process that was started."""
        assert self.metadata is not None
        self.metadata.close()

    def callback(self, _: object) -> None:
        """What is to be closed: the end of the process does it."""

    def run(self, first: int, count: int, at_once: int = 1, over: Callable[[], None] | None = None) -> None:
        """Let events of these numbers happen, so many `at_once` when the turn before is `over`."""
        made = _made(first, count)
        # Made beforehand where all is counted; where turns are timed, between them: the service has no such heap.
        coming = iter(list(made)) if over is None else made
        between = self.service._between_turns
        put, send = self.programs.put, self.source.send

        def stop() -> bool:
            ends = between()
            if over is not None:
                over()
            events = list(islice(coming, at_once))
            for event in events:
                put(event[1])
                put(event[2])
                send(event[0])
            return ends or not events

        self.pipeline.run(stop)


def _made(first: int, count: int) -> Iterator[tuple[list[bytes], bytes, bytes]]:
    """Yield each event's datagrams, its context and its count."""
    for number in range(first, first + count):
        event = exec_event(number)
        datagrams = [
            HEADER.pack(HEADER_SIZE + len(record.text), record.type, 0, 0, 0) + record.text
            for record in event.records
        ]
        yield datagrams, context_message(event), tally_message(event)


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else TURNS
    with tempfile.TemporaryDirectory() as directory:
        line = Turns(directory)
        line.run(1, WARM)
        begin = time.process_time()
        line.run(1 + WARM, turns)
        spent = time.process_time() - begin
        written = line.service._output.written
        line.close()
    assert written == WARM + turns, written
    print(f"{turns} turns, {spent / turns * 1e6:.1f} us of CPU each, what makes the event included")


if __name__ == "__main__":
    main()
