# SPDX-License-Identifier: Apache-2.0
"""The receive loop over a socket pair, and over NETLINK_USERSOCK where overflow is the real one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.errors import AuditUnavailable
from enricher.model import Record
from enricher.sources.audit import netlink
from enricher.sources.audit.mmsg import SLOT
from enricher.sources.audit.netlink import HEADER, HEADER_SIZE
from enricher.sources.audit.receiver import Receiver

USERSOCK = 2


def datagram(record_type: int, text: bytes, length: int | None = None) -> bytes:
    return HEADER.pack(HEADER_SIZE + len(text) if length is None else length, record_type, 0, 0, 0) + text


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reader, writer:
        yield reader, writer


Pair = tuple[socket.socket, socket.socket]


def test_nothing_there(pair: Pair) -> None:
    assert Receiver(pair[0], 4).receive() == []


def test_a_batch_in_order_and_of_the_right_type(pair: Pair) -> None:
    receiver = Receiver(pair[0], 4)
    for i in range(6):
        pair[1].send(datagram(1300 + i, b"audit(1.2:%d): n=%d" % (i, i)))
    first = receiver.receive()
    assert first == [Record(1300 + i, b"audit(1.2:%d): n=%d" % (i, i)) for i in range(4)]
    assert all(type(record) is Record and record.text for record in first)
    assert [record.type for record in receiver.receive()] == [1304, 1305]
    assert receiver.receive() == []
    assert receiver.received == 6


def test_a_shorter_record_shows_nothing_of_the_one_before(pair: Pair) -> None:
    receiver = Receiver(pair[0], 1)
    pair[1].send(datagram(1300, b"long" * 1000))
    pair[1].send(datagram(1300, b"s"))
    assert [len(receiver.receive()[0].text), receiver.receive()] == [4000, [Record(1300, b"s")]]


def test_records_outlive_the_buffer(pair: Pair) -> None:
    receiver = Receiver(pair[0], 1)
    pair[1].send(datagram(1300, b"first"))
    kept = receiver.receive()
    pair[1].send(datagram(1301, b"other"))
    receiver.receive()
    assert kept == [Record(1300, b"first")]


@pytest.mark.parametrize("length", [0, 5, 16, 4_000_000_000])
def test_the_received_length_counts_not_the_header(pair: Pair, length: int) -> None:
    """The copy for auditd has nlmsg_len 16 short; whatever it says, the datagram is what came."""
    pair[1].send(datagram(1302, b"item=0", length))
    assert Receiver(pair[0], 2).receive() == [Record(1302, b"item=0")]


@pytest.mark.parametrize("size", [0, 1, 15])
def test_shorter_than_a_header(pair: Pair, size: int) -> None:
    receiver = Receiver(pair[0], 4)
    pair[1].send(datagram(1300, b"a"))
    pair[1].send(b"\xaa" * size)
    pair[1].send(datagram(1301, b"b"))
    assert receiver.receive() == [Record(1300, b"a"), Record(0, b"\xaa" * size), Record(1301, b"b")]
    assert (receiver.received, receiver.malformed, receiver.truncated) == (3, 1, 0)


def test_header_only(pair: Pair) -> None:
    receiver = Receiver(pair[0], 4)
    pair[1].send(datagram(1320, b""))
    assert receiver.receive() == [Record(1320, b"")]
    assert receiver.malformed == 0


def test_longest_record_fits_and_a_longer_one_is_cut_and_counted(pair: Pair) -> None:
    receiver = Receiver(pair[0], 4)
    room = SLOT - HEADER_SIZE
    pair[1].send(datagram(1300, b"x" * room))
    assert receiver.receive() == [Record(1300, b"x" * room)]
    assert receiver.truncated == 0
    pair[1].send(datagram(1300, b"y" * (room + 1)))
    pair[1].send(datagram(1300, b"z"))
    assert receiver.receive() == [Record(1300, b"y" * room, truncated=True), Record(1300, b"z")]
    assert (receiver.truncated, receiver.received, receiver.malformed) == (1, 3, 0)


def test_auditds_longest_message_fits() -> None:
    assert SLOT >= 8970 + HEADER_SIZE


def test_a_closed_receiver_reads_nothing_from_who_has_its_number_now(pair: Pair) -> None:
    receiver = Receiver(pair[0], 1)
    number = receiver.fileno()
    receiver.close()
    with socket.socket(fileno=os.dup2(pair[1].fileno(), number)), pytest.raises(OSError, match="Bad file"):
        receiver.receive()


def test_buffers_cost_memory_only_where_written(pair: Pair) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    receiver = Receiver(pair[0], 4096)
    assert receiver.receive() == []
    assert resident() - before < 4096 * SLOT // 8


# -- netlink -----------------------------------------------------------------------------------------


@pytest.fixture
def reader() -> Iterator[socket.socket]:
    """Return a member of group 1 of the protocol that is there for user-space programs."""
    try:
        sock = netlink.open_socket(USERSOCK)
    except AuditUnavailable as error:
        pytest.skip(str(error))
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        try:
            sock.setsockopt(netlink.SOL_NETLINK, netlink.NETLINK_ADD_MEMBERSHIP, 1)
        except PermissionError:
            pytest.skip("joining a group needs CAP_NET_ADMIN")
        yield sock


@pytest.fixture
def writer() -> Iterator[socket.socket]:
    with netlink.open_socket(USERSOCK) as sock:
        yield sock


def multicast(writer: socket.socket, data: bytes) -> None:
    # the second half of a multicast is a unicast to port 0, where nobody listens for this protocol
    with contextlib.suppress(ConnectionRefusedError):
        writer.sendto(data, (0, 1))


def test_overflow_is_counted_exactly_and_receiving_goes_on(
    reader: socket.socket, writer: socket.socket
) -> None:
    receiver = Receiver(reader, 8, kernel_only=False)
    assert (receiver.drops(), receiver.overflows) == (0, 0)
    for round_ in (1, 2):
        for i in range(50):
            multicast(writer, datagram(1300, b"n=%d" % i))
        got = []
        while records := receiver.receive():
            got += records
        assert got[:2] == [Record(1300, b"n=0"), Record(1300, b"n=1")]
        assert receiver.overflows == round_
        assert receiver.received + receiver.drops() == 50 * round_
        assert receiver.drops() > 0
    multicast(writer, datagram(1305, b"after"))
    assert receiver.receive() == [Record(1305, b"after")]


def test_what_waits_is_told(reader: socket.socket, writer: socket.socket) -> None:
    receiver = Receiver(reader, 8, kernel_only=False)
    assert receiver.queued() == 0
    multicast(writer, datagram(1300, b"x" * 100))
    assert receiver.queued() > 100
    receiver.receive()
    assert receiver.queued() == 0


def test_drops_go_on_past_32_bits(reader: socket.socket) -> None:
    receiver = Receiver(reader, 1)
    receiver._drops = 0xFFFFFFFF  # as if read shortly before the kernel's counter wrapped to 0
    assert receiver.drops() == 1 << 32


def test_a_message_not_sent_by_the_kernel_is_dropped(reader: socket.socket, writer: socket.socket) -> None:
    receiver = Receiver(reader, 8)
    multicast(writer, datagram(1300, b"audit(1.2:3): forged=1"))
    writer.sendto(datagram(1300, b"audit(1.2:3): forged=2"), (reader.getsockname()[0], 0))
    assert receiver.receive() == []
    assert (receiver.foreign, receiver.received) == (2, 0)
