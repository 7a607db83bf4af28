# SPDX-License-Identifier: Apache-2.0
"""A host in one object: socket, control, programs and clock for the tests of the runtime.

It stands for `AuditSocket`, `AuditControl` and `Loaded` at once, so that a record and its context can be
made in one place. Nothing waits: a wait lets the next act of the script happen, or its time pass.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest

from enricher.facts import Fact
from enricher.model import CgroupChange, Context, ContextFlag, Event, Loss, Record, Tally
from enricher.runtime import prefetch
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.stages import Opening
from enricher.runtime.startup import Started
from enricher.sources.bpf import wire
from enricher.sources.bpf.hook import Candidate, Hook
from tests.unit.sample_stream import EOE, alone, context, record, records, tally

USER_AVC = 1107
SOCKET_FD, RING_FDS = 1000, [1001, 1002]
OTHER = 4711
"""A process that is not us."""


def image(message: Context | Tally) -> bytes:
    """The message as it stands in a ring (bpf/include/events.h)."""
    sec, _, rest = message.stamp.partition(b".")
    ms, _, serial = rest.partition(b":")
    head = (int(message.time), int(sec), int(ms), int(serial))
    if isinstance(message, Tally):
        runs = [number for run in message.runs for number in run]
        packed = struct.pack(
            f"=HHIQQIIIHH{len(runs)}H", 2, 1, 168, *head, message.total, message.flags, len(runs) // 2, *runs
        )
        return packed.ljust(168, b"\0")
    c = message
    size = 248 if len(c.levels) <= 4 else 480
    packed = struct.pack("=HHIQQII", 1, 1, size, *head)
    packed += struct.pack(
        "=HHI6I", c.record_type, c.flags, 0, c.pid, c.tid, c.ppid, c.auid, c.ses, len(c.levels)
    )
    packed += struct.pack("=QQ16s10I10Q", c.start, c.cgroup_id, c.comm, *c.inums, *c.ids)
    packed += b"".join(struct.pack("=II", *level) for level in c.levels)
    return packed.ljust(size, b"\0")


class Host:
    """What is finished is seen by the hook if `hook_sees`, and comes to the socket if `delivers`."""

    def __init__(self) -> None:
        self.hook_sees = True
        self.delivers = True
        self.refusal: BaseException | None = None  # of the next messages to audit
        self.hidden_for = 0  # so many drains find the rings parked, and nothing in them
        self.script: list[Callable[[], object] | None] = []  # None: nothing happens, the time passes
        self.queue: list[Record] = []
        self.messages: list[Context | Tally] = []
        self.sent: list[bytes] = []
        self.log: list[str] = []
        self.slept: list[float] = []
        self.waits: list[float] = []
        self.registered: dict[int, int] = {}
        self.ready: list[int] = []  # what the next wait finds readable besides
        self.dropped = 0
        self.skipped: int | None = 0
        self.skipped_losses: int | None = 0
        self.counted = dict.fromkeys(wire.COUNTERS, 0) | {"unknown_messages": 0}
        self.serial = 100
        self.now = 50.0
        # AuditSocket
        self.way = "multicast"
        self.left: list[Record] | None = (
            None  # what was brought before `leave`, where that gives something back
        )
        self.batch = 512
        self.buffer_limited = False
        self.truncated = self.foreign = 0
        self.receive_buffer = 32 << 20
        self.patience = 3.0
        self.unheard = "look there"
        self.ended = False
        # Loaded
        self.hook = Hook.PLAIN
        self.parked = False
        self.counts_lost = True
        self.tap: list[bytes] | None = None
        self.cgroups: list[CgroupChange] = []
        self.facts: list[Fact] = []
        self.skipped_facts = 0
        self.families: dict[str, str] = {}
        self.ring_count, self.ring_size = 2, 16 << 20
        self.ring_drops = [0, 0]
        self.measured: dict[str, tuple[int, int]] = {}

    # -- the kernel ----------------------------------------------------------------------------------

    def finish(self, *items: Record | Context | Tally) -> None:
        """Contexts and counts to the rings, then records to the queue, as the kernel does."""
        if self.hook_sees:
            self.messages += [item for item in items if not isinstance(item, Record)]
        if self.delivers:
            self.queue += [item for item in items if isinstance(item, Record)]

    def event(self, pid: int = OTHER, *numbers: int, flags: int = ContextFlag.SUBJECT) -> int:
        """A whole event of `pid`; returns its serial."""
        self.serial += 1
        made = records(self.serial, *(numbers or (1300, EOE)))
        who = context(self.serial, int(self.now * 1e9), flags, pid=pid)
        self.finish(*made, who, tally(self.serial, len(made), int(self.now * 1e9)))
        return self.serial

    def look_at_all(self) -> tuple[list[Context], list[Tally]]:
        return [], []

    # -- AuditControl --------------------------------------------------------------------------------

    def send_user(self, record_type: int, text: bytes) -> None:
        assert record_type == USER_AVC
        if self.refusal:
            raise self.refusal
        self.sent.append(text)
        self.serial += 1
        made = alone(self.serial, int(self.now * 1e9))._replace(pid=os.getpid(), record_type=USER_AVC)
        body = b"pid=%d uid=0 auid=4294967295 ses=4294967295 msg='%b exe=\"/usr/bin/python3\" res=success'"
        self.finish(record(self.serial, USER_AVC, body % (os.getpid(), text)), made)

    # -- AuditSocket ---------------------------------------------------------------------------------

    def fileno(self) -> int:
        return SOCKET_FD

    def receive(self) -> list[Record]:
        self.log.append("receive")
        taken, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        return taken

    @property
    def overflows(self) -> int:
        return self.dropped

    def drops(self) -> int:
        return self.dropped

    def queued(self) -> int:
        return len(self.queue) * 2304

    def leave(self) -> bool:
        self.log.append("leave")
        if self.left is None:
            return False
        self.queue, self.left = self.queue + self.left, None
        return True

    # -- Loaded --------------------------------------------------------------------------------------

    def drain(self) -> tuple[list[Context], list[Tally]]:
        self.log.append("drain")
        self.parked = self.hidden_for > 0
        if self.parked:
            self.hidden_for -= 1
            return [], []
        taken, self.messages = self.messages, []
        contexts, tallies = [], []
        for message in taken:
            raw = image(message)
            if self.tap is not None:
                self.tap.append(raw)
            if isinstance(message, Context):
                contexts.append(wire.decode_context(raw, 0))
            else:
                tallies.append(wire.decode_tally(raw, 0))
        return contexts, tallies

    def missed_facts(self) -> int:
        return self.skipped_facts

    def missed_lives(self) -> int:
        return self.skipped_facts

    def look_for_missed(self) -> None:
        pass

    def settle(self) -> None:
        self.log.append("settle")

    def found(self, cgroups: list[CgroupChange]) -> None:
        self.cgroups += cgroups

    def wake_fds(self) -> list[int]:
        return RING_FDS

    def counters(self) -> dict[str, int]:
        return self.counted

    def drops_by_cpu(self) -> list[int]:
        return self.ring_drops

    def run_times(self) -> dict[str, tuple[int, int]]:
        return self.measured

    def missed(self) -> int | None:
        return self.skipped

    def missed_losses(self) -> int | None:
        return self.skipped_losses

    def close(self) -> None:
        self.log.append("close")

    # -- time and waiting ----------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._pass(seconds)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if not self.queue:
            self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        act = self.script.pop(0) if self.script else None
        self.now += min(seconds, 0.001) if act else seconds
        if act:
            act()


class Poll:
    """select.poll and select.epoll; the first takes milliseconds."""

    def __init__(self, host: Host, unit: float) -> None:
        self._host = host
        self._unit = unit

    def register(self, fd: int, mask: int) -> None:
        assert fd not in self._host.registered or self._unit != 1
        self._host.registered[fd] = mask

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        ready, self._host.ready = self._host.ready, []
        if ready or not timeout:
            return [(fd, select.EPOLLIN) for fd in ready]
        assert 0 < timeout * self._unit <= 24 * 86400, "the kernel takes 31 bits of milliseconds"
        self._host.wait(timeout * self._unit)
        return []

    def close(self) -> None:
        self._host.log.append("epoll closed")


def install(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the runtime's time and waits the host's. The modules' own names for them: no other sees it.

    And no helper: its reads are of the real host.
    """
    monkeypatch.setattr(prefetch, "start", lambda *_: None)
    for module in ("runtime.pipeline", "runtime.selftest", "cli.run"):
        monkeypatch.setattr(f"enricher.{module}.time", _Time(host))
    for module in ("pipeline", "selftest"):
        monkeypatch.setattr(f"enricher.runtime.{module}.select", _Select(host))


class _Time:
    def __init__(self, host: Host) -> None:
        self.monotonic, self.sleep = host.monotonic, host.sleep
        self.time = lambda: 1_772_366_400.25 + host.now


class _Select:
    POLLIN, EPOLLIN, EPOLLET = select.POLLIN, select.EPOLLIN, select.EPOLLET

    def __init__(self, host: Host) -> None:
        self.poll = lambda: Poll(host, 0.001)
        self.epoll = lambda: Poll(host, 1)


def started(host: Host, trial: Trial | None = None) -> Started:
    """What a start-up on this host gives; as if the nonce had had serial 100."""
    ends = cast("Any", host)
    proved = trial or Trial(Proof.PROVED, 100, [], [], [])
    return Started(ends, ends, ends, "double", Candidate(Hook.PLAIN, "told to"), proved, None, None)


class Run:
    """A pipeline on a host, and what it gave out."""

    def __init__(self, host: Host, trial: Trial | None = None) -> None:
        self.host = host
        self.events: list[Event] = []
        begun = started(host, trial)
        self.pipeline = Pipeline(begun, self.emit, Opening(os.getpid(), "0badcafe", begun.trial.serial))

    def emit(self, events: list[Event]) -> None:
        assert events
        self.events += events

    def losses(self) -> list[Loss]:
        return [event.loss for event in self.events if event.loss is not None]

    def turns(self, *script: Callable[[], object] | None) -> list[Event]:
        """One turn for each act of the script, once it has happened; returns what these gave out."""
        before = len(self.events)
        self.host.script = list(script)
        left = iter(range(len(script)))
        self.pipeline.run(lambda: next(left, None) is None)
        return self.events[before:]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    install(made, monkeypatch)
    return made


@pytest.fixture
def run(host: Host) -> Run:
    return Run(host)
