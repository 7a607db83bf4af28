# SPDX-License-Identifier: Apache-2.0
"""Reads one BPF ring buffer through its memory maps.

Owns the consumer side of a BPF_MAP_TYPE_RINGBUF: positions, the busy and discard bits, wrap-around.
Never makes the map and never waits. The format is the kernel's ABI (kernel/bpf/ringbuf.c): one
page with the consumer position, one with the producer position, then the data mapped twice so that
a record is contiguous even where it wraps. Every record has an 8-byte header whose first word is
its length, bit 31 "busy" and bit 30 "discarded".

On memory order: a Python program has no load-acquire. What the join rests on needs none: the context
of a record is committed before the record is queued, and the lock of the socket's queue that our
receive takes orders the two. For a message newer than every record received, x86_64 keeps the order
of loads. aarch64 may load ahead, but not as far as the hundreds of instructions that the interpreter
runs between the position, the header and the message; that is no guarantee by the architecture.
"""

from __future__ import annotations

import mmap
import struct
import time
from functools import cache
from typing import TYPE_CHECKING, Final

from enricher.facts import NamespaceLife, NamespaceOp
from enricher.sources.bpf import wire, wirefacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.facts import Fact
    from enricher.model import CgroupChange, Context, Tally

_BUSY: Final = 1 << 31
_DISCARD: Final = 1 << 30
_LENGTH: Final = _DISCARD - 1
_HEADER: Final = 8
_BEGIN: Final = mmap.PAGESIZE + _HEADER
"""Of the first message, in the producer's map."""
_word = struct.Struct("=I").unpack_from
_VERSION: Final = wire.EVENT_VERSION
_CONTEXT, _TALLY, _CGROUP, _WALK = (
    wire.EVENT_CONTEXT,
    wire.EVENT_TALLY,
    wire.EVENT_CGROUP,
    wire.EVENT_WALK,
)
_DROPPED: Final = wire.COUNTERS.index("drop_namespace")
_DROPS: Final = tuple(place for place, name in enumerate(wire.COUNTERS) if name.startswith("drop_"))


@cache
def _column(cpus: int) -> struct.Struct:
    """What takes one counter of each CPU out of the map at once, from the first CPU's on."""
    return struct.Struct("=" + f"Q{wire.COUNTERS_SIZE - 8}x" * (cpus - 1) + "Q")


class Ring:
    """The consumer of one ring buffer map of `size` bytes behind the file descriptor `fd`.

    ``parked`` tells after a drain whether a reservation that is not yet committed hides what is
    behind it: the one case in which a context can be late for its record. ``unknown`` counts
    messages of a type or version that this decoder does not know.
    """

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self.fd = fd
        self.parked = False
        self.unknown = 0
        self._mask = size - 1
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer_map = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer_view = memoryview(self._consumer_map)
        self._consumer = self._consumer_view[:8].cast("Q")
        self._whole = memoryview(self._producer_map)
        self._producer = self._whole[:8].cast("Q")
        self._data = self._whole[page:]
        self._words = self._data.cast("I")
        self._position = self._consumer[0]

    def drain(
        self,
        contexts: list[Context],
        tallies: list[Tally],
        cgroups: list[CgroupChange],
        facts: list[Fact],
        tap: list[bytes] | None = None,
    ) -> bool:
        """Append every committed message to the list of its kind, in the order of reservation; returns ``parked``.

        Each is appended to `tap`, if there is one, as it stands in the ring.
        """
        position = self._position
        end = self._producer[0]
        self.parked = False
        if position == end:
            return False
        whole, words = self._producer_map, self._words
        mask = self._mask
        while position < end:
            at = position & mask
            word = words[at >> 2]
            if word & _BUSY:
                self.parked = True
                break
            length = word & _LENGTH
            if not word & _DISCARD:
                # A copy, of which parts are had for less than of what is mapped; the map gives one, a view does not.
                message = whole[_BEGIN + at : _BEGIN + at + length]
                if tap is not None:
                    tap.append(message)
                # As the programs are built: for a machine whose low byte comes first.
                kind, version = message[0] | message[1] << 8, message[2] | message[3] << 8
                if version != _VERSION:
                    self.unknown += 1
                elif kind == _CONTEXT:
                    contexts.append(wire.decode_context(message, 0))
                elif kind == _TALLY:
                    tallies.append(wire.decode_tally(message, 0))
                elif kind == _CGROUP:
                    cgroups.append(wire.decode_cgroup(message, 0))
                elif kind == _WALK:
                    cgroups.append(wire.decode_walk(message, 0))
                elif (decode := wirefacts.DECODERS.get(kind)) is not None:
                    facts.append(decode(message, 0))
                else:
                    self.unknown += 1
            position += (length + _HEADER + 7) & ~7
        self._position = position
        self._consumer[0] = position
        return self.parked

    def take(self) -> list[bytes]:
        """Every committed message as it stands in the ring, in the order of reservation."""
        found: list[bytes] = []
        position, end = self._position, self._producer[0]
        while position < end:
            at = position & self._mask
            (word,) = _word(self._data, at)
            if word & _BUSY:
                break
            if not word & _DISCARD:
                found.append(bytes(self._data[at + _HEADER : at + _HEADER + (word & _LENGTH)]))
            position += ((word & _LENGTH) + _HEADER + 7) & ~7
        self._position = position
        self._consumer[0] = position
        return found

    def close(self) -> None:
        """Unmap. The map itself lives on with its file descriptor."""
        for view in (
            self._consumer,
            self._consumer_view,
            self._producer,
            self._words,
            self._data,
            self._whole,
        ):
            view.release()
        self._consumer_map.close()
        self._producer_map.close()


class ReadingSide:
    """What every loader's programs have in common once they run: their rings and counters, read in one way.

    A loader's class makes `_rings` and `_counters_map`, for `_cpus` possible CPUs.
    """

    tap: list[bytes] | None
    cgroups: list[CgroupChange]
    facts: list[Fact]
    parked = False
    """See `loader.Loaded.parked`."""
    _rings: list[Ring]
    _counters_map: mmap.mmap | None
    _cpus: int
    _drops: tuple[int, ...] = ()
    _missed = 0
    _column: Callable[[mmap.mmap, int], tuple[int, ...]] | None = None

    def drain(self) -> tuple[list[Context], list[Tally]]:
        """See `loader.Loaded.drain`."""
        contexts: list[Context] = []
        tallies: list[Tally] = []
        cgroups, facts, tap = self.cgroups, self.facts, self.tap
        parked = False
        for ring in self._rings:
            if ring.drain(contexts, tallies, cgroups, facts, tap):
                parked = True
        self.parked = parked
        # After the rings: what could not be told happened before the context of anybody who is in it.
        if (drops := self._counts_of(_DROPPED)) != self._drops:
            self._drops = drops
            if any(drops):  # all 0 is what they begin with
                self._tell_loss()
        return contexts, tallies

    def _tell_loss(self) -> None:
        """Say in the stream itself that messages about namespaces were lost until now."""
        self._tell(NamespaceOp.LOST, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def _tell(self, op: NamespaceOp, now: int) -> None:
        fact = NamespaceLife(now, op, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")
        self.facts.append(fact)
        if self.tap is not None:
            self.tap.append(wirefacts.encode_namespace(fact))

    def look_at_all(self) -> tuple[list[Context], list[Tally]]:
        """See `loader.Loaded.look_at_all`."""
        return [], []

    def settle(self) -> None:
        """See `loader.Loaded.settle`; where a program looks at every call there is nothing to ask for."""

    def missed_facts(self) -> int:
        """See `loader.Loaded.missed_facts`."""
        return 0

    def missed_lives(self) -> int:
        """See `loader.Loaded.missed_lives`."""
        return 0

    def look_for_missed(self) -> None:
        """See `loader.Loaded.look_for_missed`."""
        if (missed := self.missed_lives()) != self._missed:
            self._missed = missed
            self._tell_loss()

    def _counts_of(self, place: int) -> tuple[int, ...]:
        """The counter at this place of `wire.COUNTERS`, of each CPU; () where there is none."""
        counters = self._counters_map
        if counters is None:
            return ()
        if self._column is None:
            self._column = _column(self._cpus).unpack_from
        return self._column(counters, 8 * place)

    def found(self, cgroups: list[CgroupChange]) -> None:
        """See `loader.Loaded.found`."""
        self.cgroups += cgroups
        if self.tap is not None:
            self.tap += map(wire.encode_cgroup, cgroups)

    def drops_by_cpu(self) -> list[int]:
        """See `loader.Loaded.drops_by_cpu`."""
        return [sum(drops) for drops in zip(*map(self._counts_of, _DROPS), strict=True)]

    def run_times(self) -> dict[str, tuple[int, int]]:
        """See `loader.Loaded.run_times`."""
        return {}

    def counters(self) -> dict[str, int]:
        """See `loader.Loaded.counters`. Read from mapped memory: no system call, no capability."""
        if self._counters_map is None:
            return {}
        sums = [0] * len(wire.COUNTERS)
        one = struct.Struct(f"={len(wire.COUNTERS)}Q")
        for cpu in range(self._cpus):
            for i, value in enumerate(one.unpack_from(self._counters_map, cpu * wire.COUNTERS_SIZE)):
                sums[i] += value
        named = dict(zip(wire.COUNTERS, sums, strict=True))
        named["unknown_messages"] = sum(ring.unknown for ring in self._rings)
        return named
