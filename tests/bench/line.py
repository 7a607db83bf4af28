# SPDX-License-Identifier: Apache-2.0
"""The way of a record from the socket to the file as steps that can be measured one by one, over a fixed sample.

Owns the sample and what each step is. Never measures: whoever does gives a meter, which runs a step and notes what
it likes. The steps are the product's own functions, in the order of the service, and keep what they remember.

The sample is batches of 73 events as a host makes them: forty execs of seven records, twenty connects that fail, of
four, and thirteen messages of programs, an event of one record each; 40 containers, whose cgroups are known. Every
event is another one; equal numbers give equal events.

Some steps cannot be had without others: their figures are differences (`ROWS`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from enricher.correlate.join import Correlator
from enricher.enrich.cgroups import CgroupTable
from enricher.enrich.decode import Decoder
from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.model import Batch, CgroupChange, CgroupOp, Context, ContextFlag, Event, Level, Record, Tally
from enricher.route.views.native_json import render
from enricher.runtime.stages import Opening, Stages
from enricher.sinks.stream import FileSink
from enricher.sources.audit.mmsg import SLOT
from enricher.sources.audit.netlink import HEADER, HEADER_SIZE
from enricher.sources.audit.receiver import Receiver
from enricher.sources.audit.text import stamp_of
from enricher.sources.bpf import wire
from tests.bench.bench_replay import context_message, tally_message
from tests.bench.bench_views import CONTAINERS, HOST, call_event, exec_event

if TYPE_CHECKING:
    from enricher.enrich.shape import NativeEvent

EXECS: Final = 40
CALLS: Final = 20
MESSAGES: Final = 13
EVENTS: Final = EXECS + CALLS + MESSAGES

Step = Callable[[], object]
Meter = Callable[[str, Step], object]
"""Runs a step, which it is told the name of, once, and returns what that returned."""


class Row(NamedTuple):
    """A stage: what is measured, what of that belongs to stages before it, and what it is in words."""

    name: str
    step: str
    less: tuple[str, ...]
    what: str


ROWS: Final = (
    Row("receive", "fill", (), "one recvmmsg(2) for a batch"),
    Row("frame", "frame", ("fill",), "datagrams to records; ring messages to contexts and counts"),
    Row("parse", "stamps", (), "the stamp of each record"),
    Row(
        "reassemble",
        "together",
        ("stamps",),
        "records of one stamp to an event, until all that were counted are there",
    ),
    Row("join", "joined", ("together",), "contexts to their events; the account"),
    Row("decode", "entries", (), "words to fields and values, and what they mean"),
    Row("identity", "native", ("entries",), "the native event: who, which namespaces, which container"),
    Row("encode", "encode", (), "the native event as JSON"),
    Row("write", "write", (), "a batch of lines, one write(2)"),
)
"""In the order in which a record passes them."""


def rows_of(steps: dict[str, float]) -> dict[str, float]:
    """Return the stages' figures, by name, from the steps' ones."""
    return {row.name: steps[row.step] - sum(steps[less] for less in row.less) for row in ROWS}


class Made(NamedTuple):
    """One batch: what the kernel sends."""

    records: list[Record]
    contexts: list[bytes]
    tallies: list[bytes]
    events: int


def _connect(number: int) -> Event:
    event = call_event(number)
    assert event.context is not None
    event.context = event.context._replace(pid=4000 + number, tid=4000 + number)  # as its records say
    return event


def message_event(number: int) -> Event:
    """Return a login's verdict: a record of a program, which is an event of its own."""
    event = exec_event(number)
    text = (
        b"audit(%b): pid=%d uid=0 auid=1000 ses=3 subj=unconfined msg='op=PAM:session_open grantors=pam_unix"
        b' acct="user%d" exe="/usr/sbin/sshd" hostname=? addr=? terminal=ssh res=success\''
    )
    event.records = [Record(1105, text % (event.stamp, 4711 + number, number % 50))]
    assert event.context is not None
    flags = int(ContextFlag.SUBJECT | ContextFlag.STANDALONE)
    event.context = event.context._replace(record_type=1105, flags=flags)
    return event


_KINDS: Final = (
    *itertools.repeat(exec_event, EXECS),
    *itertools.repeat(_connect, CALLS),
    *itertools.repeat(message_event, MESSAGES),
)


def made(batch: int, containers: int = CONTAINERS) -> Made:
    """Make the batch with this number, from 0, of events in so many containers, in turns."""
    numbers = range(batch * EVENTS + 1, (batch + 1) * EVENTS + 1)
    events = [
        _inside(make(number), number % containers) for number, make in zip(numbers, _KINDS, strict=True)
    ]
    return Made(
        [record for event in events for record in event.records],
        [context_message(event) for event in events],
        [tally_message(event) for event in events if len(event.records) > 1],
        len(events),
    )


def _inside(event: Event, container: int) -> Event:
    """Put an event into another container than the one that it was made in."""
    context = event.context
    assert context is not None
    base = 4_030_000_000 + container * 10
    event.context = context._replace(
        cgroup_id=7000 + container,
        inums=tuple(range(base, base + 10)),
        ids=(0, 0, 0, base, 0, 0, 0, 0, 0, 0),
        levels=(context.levels[0], Level(base + 4, context.levels[1].pid)),
    )
    return event


def cgroups(containers: int) -> list[CgroupChange]:
    """Return the news that so many containers were made, which a batch brings before their events."""
    return [
        CgroupChange(7000 + at, CgroupOp.MADE, b"/system.slice/docker-%064x.scope" % (at + 1), 0)
        for at in range(containers)
    ]


class Line:
    """The steps, with all they remember. Leaving the block closes what they write to."""

    def __init__(self) -> None:
        table = CgroupTable()
        table.learn(Batch([], [], [], parked=False, now=0.0, wall=0.0, cgroups=cgroups(CONTAINERS)))
        self._done: list[Event] = []
        self._correlator = Correlator()
        self._stages = Stages(Opening(1, "0badcafe", None), self._done.extend)
        self._decoder = Decoder()
        self._builder = NativeBuilder(HOST, around=Surroundings(HOST, table))
        self._sink = FileSink("/dev/null")
        self._batches = 0
        self._prepared = _Prepared()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()

    def pass_on(self, batch: Made, meter: Meter) -> None:
        """Let a batch go through all steps, each of them measured."""
        self._batches += 1
        now = self._batches * 0.01
        receiver = self._prepared.receiver
        self._prepared.fill(batch.records)
        with self._prepared:
            meter("fill", receiver._fill)

            def frame() -> tuple[list[Record], list[Context], list[Tally]]:
                return (
                    receiver.receive(),
                    [wire.decode_context(message, 0) for message in batch.contexts],
                    [wire.decode_tally(message, 0) for message in batch.tallies],
                )

            framed = meter("frame", frame)
        assert isinstance(framed, tuple)
        records, contexts, tallies = framed
        assert records == batch.records
        texts = [record.text for record in records]
        alone = [context for context in contexts if context.flags & ContextFlag.STANDALONE]
        whole = Batch(records, contexts, tallies, parked=False, now=now, wall=now)
        meter("stamps", lambda: [stamp_of(text) for text in texts])
        meter("together", lambda: self._correlator.feed(records, alone, tallies, now))
        meter("joined", lambda: self._stages.take(whole))
        events, self._done[:] = list(self._done), []
        assert len(events) == batch.events
        assert all(event.complete for event in events), [event.reason for event in events]
        entries, build = self._decoder.entries, self._builder.build
        meter("entries", lambda: [entries(event.records) for event in events])
        natives: list[NativeEvent] = []
        meter("native", lambda: natives.extend([build(event) for event in events]))
        assert all(native["where"] == "container" for native in natives)
        lines: list[bytes] = []
        meter("encode", lambda: lines.extend([render(native) for native in natives]))
        meter("write", lambda: self._sink.write(lines))


class _Filled(Receiver):
    """A receiver whose system call is left out: so many datagrams are there."""

    there = 0

    def _fill(self) -> int:
        return self.there


class _Prepared:
    """A receiver whose slots are filled as the kernel would. In the block its system call says how many there are."""

    def __init__(self) -> None:
        self.receiver = _Filled(_NoSocket())  # type: ignore[arg-type] # of a socket it asks only this
        self._count = 0

    def fill(self, records: list[Record]) -> None:
        """Write the records' datagrams into the slots."""
        receiver = self.receiver
        for at, record in enumerate(records):
            datagram = HEADER.pack(HEADER_SIZE + len(record.text), record.type, 0, 0, 0) + record.text
            receiver._memory[at * SLOT : at * SLOT + len(datagram)] = datagram
            receiver._lengths[at] = len(datagram)
        self._count = len(records)

    def __enter__(self) -> None:
        self.receiver.there = self._count

    def __exit__(self, *_: object) -> None:
        self.receiver.there = 0


class _NoSocket:
    """What a `Receiver` asks of its socket here."""

    def fileno(self) -> int:
        return -1
