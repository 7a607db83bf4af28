# SPDX-License-Identifier: Apache-2.0
"""Messages packed from a second, independent reading of bpf/include/events.h come out as they went in."""

from __future__ import annotations

import ctypes
import struct

import pytest

from enricher.model import FAILED_AT, Context, KernelCounts, Level, Tally
from enricher.sources.bpf import wire, wirefacts

U8, U16, U32, U64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
EVENT_CONTEXT, EVENT_TALLY = 1, 2
OFF = 24  # messages lie anywhere in a ring, at multiples of eight


class Header(ctypes.Structure):
    _fields_ = (("type", U16), ("version", U16), ("size", U32), ("time", U64))


class Stamp(ctypes.Structure):
    _fields_ = (("sec", U64), ("ms", U32), ("serial", U32))


class PidLevel(ctypes.Structure):
    _fields_ = (("ns", U32), ("pid", U32))


class ContextEvent(ctypes.Structure):
    _fields_ = (
        ("header", Header),
        ("stamp", Stamp),
        ("record_type", U16),
        ("flags", U16),
        ("missing", U32),
        ("pid", U32),
        ("tid", U32),
        ("ppid", U32),
        ("auid", U32),
        ("ses", U32),
        ("levels", U32),
        ("start", U64),
        ("cgroup_id", U64),
        ("comm", U8 * 16),
        ("inum", U32 * 10),
        ("unique", U64 * 10),
        ("level", PidLevel * 4),
    )


class ContextDeepEvent(ctypes.Structure):
    _fields_ = (("c", ContextEvent), ("more", PidLevel * 29))


class TallyRun(ctypes.Structure):
    _fields_ = (("type", U16), ("count", U16))


class TallyEvent(ctypes.Structure):
    _fields_ = (
        ("header", Header),
        ("stamp", Stamp),
        ("records", U32),
        ("flags", U16),
        ("runs", U16),
        ("run", TallyRun * 32),
    )


INUMS = tuple(4026531830 + i for i in range(10))
IDS = tuple((1 << 60) + i for i in range(10))


def context_event(levels: int, comm: bytes = b"bash") -> ContextEvent:
    """Every value is another one, and as large as its type allows."""
    made = ContextEvent(
        Header(EVENT_CONTEXT, 1, 248, 2**63 + 1),
        Stamp(17_723_664_000, 7, 2**32 - 1),
        record_type=65_001,
        flags=0x8003,
        missing=0x3FF,
        pid=2**22 + 1,
        tid=2**22 + 2,
        ppid=2**22 + 3,
        auid=2**32 - 2,
        ses=2**32 - 3,
        levels=levels,
        start=2**63 + 2,
        cgroup_id=2**63 + 3,
    )
    made.comm[:] = comm.ljust(16, b"\0")
    made.inum[:] = INUMS
    made.unique[:] = IDS
    for i in range(min(levels, 4)):
        made.level[i] = PidLevel(100 + i, 200 + i)
    return made


def at_offset(message: ctypes.Structure) -> bytes:
    return b"\xff" * OFF + bytes(message) + b"\xff" * OFF


def expected(levels: int, comm: bytes = b"bash") -> Context:
    message = bytes(context_event(levels, comm))
    return Context(
        stamp=b"17723664000.007:4294967295",
        time=2**63 + 1,
        record_type=65_001,
        flags=0x8003,
        pid=2**22 + 1,
        tid=2**22 + 2,
        ppid=2**22 + 3,
        auid=2**32 - 2,
        ses=2**32 - 3,
        start=2**63 + 2,
        cgroup_id=2**63 + 3,
        comm=comm,
        inums=INUMS,
        ids=IDS,
        levels=tuple(Level(100 + i, 200 + i) for i in range(levels)),
        key=message[ContextEvent.inum.offset : ContextEvent.level.offset],
    )


@pytest.mark.parametrize("levels", [2, 7])
@pytest.mark.parametrize("chain", [(0,), (4, 2, 2**64 - 2), tuple(range(8))])
def test_a_chain_stands_behind_a_context(levels: int, chain: tuple[int, ...]) -> None:
    event = context_event(levels)
    more = b"" if levels <= 4 else b"".join(struct.pack("=II", 100 + i, 200 + i) for i in range(4, 33))
    event.header.size = 248 + len(more) + 72
    numbers = [2**64 - 1 - contid for contid in chain] + [0] * (8 - len(chain))
    tail = struct.pack("=II8Q", len(chain), 0, *numbers)
    memory = b"\xff" * OFF + bytes(event) + more + tail + b"\xff" * OFF
    assert wire.decode_context(memory, OFF) == expected(levels)._replace(contid=chain)


TOLD = {5: 632, 8: 88, 10: 1520}
"""Bytes of the messages about a change, a namespace and a refused message, by type, without a chain."""


@pytest.mark.parametrize(("kind", "size"), sorted(TOLD.items()))
@pytest.mark.parametrize("chain", [(), (0,), (4, 2, 2**64 - 2), tuple(range(8))])
def test_a_chain_stands_behind_what_no_rule_asked_for(kind: int, size: int, chain: tuple[int, ...]) -> None:
    numbers = [2**64 - 1 - contid for contid in chain] + [0] * (8 - len(chain))
    tail = struct.pack("=II8Q", len(chain), 0, *numbers)
    message = struct.pack("=HHIQ", kind, 1, size + len(tail), 5).ljust(size, b"\1") + tail
    assert len(message) in wirefacts.SIZES[kind]
    fact = wirefacts.DECODERS[kind](b"\xff" * OFF + message + b"\xff" * OFF, OFF)
    assert fact.contid == chain  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "size"), sorted(TOLD.items()))
def test_an_older_captures_message_says_nothing_of_a_chain(kind: int, size: int) -> None:
    message = struct.pack("=HHIQ", kind, 1, size, 5).ljust(size, b"\1")
    assert len(message) in wirefacts.SIZES[kind]
    assert wirefacts.DECODERS[kind](message + b"\xff" * 72, 0).contid is None  # type: ignore[union-attr]


def test_sizes_are_those_of_the_header() -> None:
    sizes = {
        "context_event": ctypes.sizeof(ContextEvent),
        "context_deep_event": ctypes.sizeof(ContextDeepEvent),
        "pid_level": ctypes.sizeof(PidLevel),
        "tally_event": ctypes.sizeof(TallyEvent),
        "tally_run": ctypes.sizeof(TallyRun),
    }
    assert sizes == {
        "context_event": 248,
        "context_deep_event": 480,
        "pid_level": 8,
        "tally_event": 168,
        "tally_run": 4,
    }
    assert {name: wire.SIZES[name] for name in sizes} == sizes


@pytest.mark.parametrize("levels", [0, 1, 4])
def test_context(levels: int) -> None:
    assert wire.decode_context(at_offset(context_event(levels)), OFF) == expected(levels)


@pytest.mark.parametrize("levels", [5, 33])
def test_deep_context(levels: int) -> None:
    """MAX_PID_NS_LEVEL is 32, below the initial namespace: 33 at most."""
    deep = ContextDeepEvent(context_event(levels))
    deep.c.header.size = 480
    for i in range(4, levels):
        deep.more[i - 4] = PidLevel(100 + i, 200 + i)
    assert wire.decode_context(at_offset(deep), OFF) == expected(levels)


def test_more_levels_than_there_can_be() -> None:
    deep = ContextDeepEvent(context_event(34))
    assert len(wire.decode_context(at_offset(deep), OFF).levels) == 33


@pytest.mark.parametrize("comm", [b"", b"sixteen-bytes-xx", b"caf\xc3\xa9 \x1b[m"])
def test_comm_is_bytes_up_to_nul(comm: bytes) -> None:
    assert wire.decode_context(at_offset(context_event(1, comm)), OFF).comm == comm


def test_comm_after_nul_is_what_was_there_before() -> None:
    assert wire.decode_context(at_offset(context_event(1, b"sh\0leftover")), OFF).comm == b"sh"


def test_key_is_namespaces_and_nothing_else() -> None:
    """Equal keys are the promise of equal namespaces: later stages cache by it."""
    one, same, other, unique = (context_event(1) for _ in range(4))
    same.pid, same.start, same.comm[:] = 1, 1, b"x" * 16
    same.level[0] = PidLevel(1, 1)
    other.inum[9] += 1
    unique.unique[0] += 1
    keys = [wire.decode_context(at_offset(each), OFF).key for each in (one, same, other, unique)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("runs", [0, 2, 32])
def test_tally(runs: int) -> None:
    made = TallyEvent(
        Header(EVENT_TALLY, 1, 168, 2**63), Stamp(5, 42, 0), records=2**32 - 1, flags=0x8001, runs=runs
    )
    for i in range(runs):
        made.run[i] = TallyRun(1300 + i, 65_000 + i)
    told = wire.decode_tally(at_offset(made), OFF)
    pairs = tuple((1300 + i, 65_000 + i) for i in range(runs))
    assert told == Tally(b"5.042:0", 2**63, 0x8001, 2**32 - 1, pairs)


def test_more_runs_than_fit() -> None:
    assert len(wire.decode_tally(at_offset(TallyEvent(runs=33)), OFF).runs) == 32


def test_a_message_cut_short_is_a_bug() -> None:
    whole = bytes(context_event(4))
    with pytest.raises(struct.error):
        wire.decode_context(whole[:-1], 0)
    with pytest.raises(struct.error):
        wire.decode_tally(bytes(TallyEvent(runs=32))[:-1], 0)


def test_every_failure_that_the_kernel_side_counts_has_a_place() -> None:
    """But two, which are no failures: a task whose namespaces are gone, and packets before the queue was known."""
    counted = {name for name in wire.COUNTERS if name.startswith("fail_")} - {
        "fail_nsproxy",
        "fail_queue_unknown",
    }
    assert {name.replace("failed_", "fail_") for name in FAILED_AT} == counted
    assert set(FAILED_AT) <= set(KernelCounts._fields)
