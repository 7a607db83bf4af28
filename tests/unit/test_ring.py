# SPDX-License-Identifier: Apache-2.0
"""The consumer of a ring, over memory laid out as the kernel's.

The kernel maps the data pages twice in a row. A file cannot be mapped so by one call: here it holds the
data twice, and every byte is written to both.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from enricher.model import Context, Tally
from enricher.sources.bpf import wire
from enricher.sources.bpf.ring import Ring

PAGE = mmap.PAGESIZE
SIZE = PAGE
BUSY, DISCARD = 1 << 31, 1 << 30
HEADER = 8
CONTEXT, TALLY = wire.SIZES["context_event"], wire.SIZES["tally_event"]


class Producer:
    """The producer: consumer page, producer page, data, data again (kernel/bpf/ringbuf.c)."""

    def __init__(self, position: int = 0) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = position
        os.pwrite(self.fd, struct.pack("=Q", position), 0)
        os.pwrite(self.fd, struct.pack("=Q", position), PAGE)

    def consumed(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.fd, 8, 0))[0])

    def put(self, message: bytes, flags: int = 0) -> int:
        """Reserve and write one message; returns where its header is, for `commit`."""
        at = self.position
        self._write(at, struct.pack("=II", len(message) | flags, 0) + message)
        self.position += (len(message) + HEADER + 7) & ~7
        assert self.position - self.consumed() <= SIZE, "the test overfills the ring"
        os.pwrite(self.fd, struct.pack("=Q", self.position), PAGE)
        return at

    def commit(self, at: int, length: int, flags: int = 0) -> None:
        self._write(at, struct.pack("=I", length | flags))

    def _write(self, at: int, data: bytes) -> None:
        for i, byte in enumerate(data):
            offset = (at + i) % SIZE
            for start in (2 * PAGE, 2 * PAGE + SIZE):
                os.pwrite(self.fd, bytes([byte]), start + offset)


def context_message(serial: int, version: int = wire.EVENT_VERSION, kind: int = wire.EVENT_CONTEXT) -> bytes:
    head = struct.pack("=HHIQQII", kind, version, CONTEXT, 5, 1772366400, 42, serial)
    return head.ljust(CONTEXT, b"\0")


def tally_message(serial: int, total: int = 3) -> bytes:
    head = struct.pack("=HHIQQIIIHH", wire.EVENT_TALLY, 1, TALLY, 6, 1772366400, 42, serial, total, 1, 0)
    return head.ljust(TALLY, b"\0")


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(producer: Producer) -> Iterator[Ring]:
    made = Ring(producer.fd, SIZE)
    yield made
    made.close()


def drain(ring: Ring) -> tuple[list[int], list[int]]:
    """The serials of what a drain gave."""
    contexts: list[Context] = []
    tallies: list[Tally] = []
    ring.drain(contexts, tallies, [], [])
    serials = [[int(each.stamp.rpartition(b":")[2]) for each in kind] for kind in (contexts, tallies)]
    return serials[0], serials[1]


def test_empty(ring: Ring) -> None:
    assert drain(ring) == ([], [])
    assert not ring.parked


def test_messages_in_their_order(producer: Producer, ring: Ring) -> None:
    for message in (context_message(1), tally_message(1), context_message(2)):
        producer.put(message)
    assert drain(ring) == ([1, 2], [1])
    assert drain(ring) == ([], [])
    assert producer.consumed() == producer.position == 2 * (CONTEXT + HEADER) + TALLY + HEADER
    assert (ring.parked, ring.unknown) == (False, 0)


def test_decoded_whole(producer: Producer, ring: Ring) -> None:
    producer.put(tally_message(7, 12))
    contexts: list[Context] = []
    tallies: list[Tally] = []
    ring.drain(contexts, tallies, [], [])
    assert tallies == [Tally(b"1772366400.042:7", 6, 1, 12, ())]


def test_space_is_given_back_before_it_is_needed_again(producer: Producer, ring: Ring) -> None:
    """Several times round; messages that cross the end are contiguous in the doubled mapping."""
    seen: list[int] = []
    crossings = 0
    for serial in range(60):
        producer.put(tally_message(serial))
        at = producer.put(context_message(serial)) % SIZE
        crossings += at + HEADER + CONTEXT > SIZE
        contexts, tallies = drain(ring)
        assert contexts == tallies
        seen += contexts
    assert seen == list(range(60))
    assert crossings > 2
    assert producer.consumed() == 60 * (CONTEXT + TALLY + 2 * HEADER)


def test_a_full_ring(producer: Producer, ring: Ring) -> None:
    count = SIZE // (CONTEXT + HEADER)
    assert count * (CONTEXT + HEADER) == SIZE
    for serial in range(count):
        producer.put(context_message(serial))
    assert drain(ring)[0] == list(range(count))


def test_positions_go_on_from_where_they_are() -> None:
    """64-bit positions that never wrap, beyond 32 bits after 4 GiB of messages."""
    start = (1 << 32) - 256
    producer = Producer(start)
    ring = Ring(producer.fd, SIZE)
    producer.put(context_message(1))
    producer.put(context_message(2))
    assert drain(ring) == ([1, 2], [])
    assert producer.consumed() == start + 512
    ring.close()
    os.close(producer.fd)


def test_busy_hides_what_is_behind_it(producer: Producer, ring: Ring) -> None:
    producer.put(context_message(1))
    at = producer.put(context_message(2), BUSY)
    producer.put(tally_message(1))
    assert drain(ring) == ([1], [])
    assert ring.parked
    assert producer.consumed() == at
    assert drain(ring) == ([], [])
    assert ring.parked
    producer.commit(at, CONTEXT)
    assert drain(ring) == ([2], [1])
    assert not ring.parked


def test_discarded_is_skipped(producer: Producer, ring: Ring) -> None:
    at = producer.put(context_message(1), BUSY)
    producer.put(context_message(2))
    drain(ring)
    producer.commit(at, CONTEXT, DISCARD)
    assert drain(ring) == ([2], [])
    assert (ring.parked, ring.unknown) == (False, 0)


def test_lengths_are_rounded_up_to_eight(producer: Producer, ring: Ring) -> None:
    producer.put(struct.pack("=HHIQ", 77, 1, 17, 0) + b"x")
    producer.put(context_message(1))
    assert drain(ring) == ([1], [])


@pytest.mark.parametrize(
    ("version", "kind"), [(2, wire.EVENT_CONTEXT), (0, wire.EVENT_CONTEXT), (1, 99), (1, 0)]
)
def test_unknown_is_counted_and_passed_over(producer: Producer, ring: Ring, version: int, kind: int) -> None:
    producer.put(context_message(1, version, kind))
    producer.put(context_message(2))
    assert drain(ring) == ([2], [])
    assert ring.unknown == 1
    assert not ring.parked


def test_a_tap_has_every_message_as_it_stands(producer: Producer, ring: Ring) -> None:
    """Also what this decoder does not know: the capture is of the kernel side, not of what we made of it."""
    messages = [
        context_message(1),
        tally_message(1),
        context_message(2, version=2),
        context_message(3, kind=77),
    ]
    for message in messages:
        producer.put(message)
    producer.put(context_message(4), DISCARD)
    busy = producer.put(context_message(5), BUSY)
    tap: list[bytes] = []
    contexts: list[Context] = []
    tallies: list[Tally] = []
    ring.drain(contexts, tallies, [], [], tap)
    assert tap == messages
    assert (len(contexts), len(tallies), ring.unknown) == (1, 1, 2)
    producer.commit(busy, CONTEXT)
    ring.drain(contexts, tallies, [], [], tap)
    assert tap[4:] == [context_message(5)]
    ring.drain(contexts, tallies, [], [], tap)
    assert len(tap) == 5


def test_a_tapped_message_outlives_its_place(producer: Producer, ring: Ring) -> None:
    tap: list[bytes] = []
    for serial in range(40):
        producer.put(context_message(serial))
        ring.drain([], [], [], [], tap)
    assert tap == [context_message(serial) for serial in range(40)]


def test_close_releases_both_maps(producer: Producer) -> None:
    """A view that is still alive would make unmapping raise BufferError."""
    ring = Ring(producer.fd, SIZE)
    producer.put(context_message(1))
    drain(ring)
    ring.close()
    assert (ring._consumer_map.closed, ring._producer_map.closed) == (True, True)
    ring.close()
