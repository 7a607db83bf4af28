# SPDX-License-Identifier: Apache-2.0
"""Spools that were cut, flipped and tampered with: never a crash, never a wrong message, and every loss is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.sinks.delivery import segment, spooldir
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.segment import HEAD_SIZE, RECORD_HEAD, Head, Reader, encode, encode_head
from tests.unit.sample_delivery import drained, lost, message, messages, numbers, spool

SEG = "0000000000000000.seg"


@pytest.fixture(autouse=True)
def nothing_is_brought_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of spools are opened here, and no power is cut."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


def filled(path: Path, count: int = 10, records: int = 2) -> bytes:
    """Make a spool of one segment and return that."""
    queue = spool(path)
    queue.put([message(number, records=records) for number in range(count)])
    queue.close()
    return (path / SEG).read_bytes()


def ends(data: bytes) -> list[int]:
    """Where the head and each record end."""
    found = [HEAD_SIZE]
    while found[-1] < len(data):
        length = segment._RECORD.unpack_from(data, found[-1])[5]
        found.append(found[-1] + RECORD_HEAD + length)
    return found


def reopened(path: Path, data: bytes) -> tuple[list[int], int]:
    """What a spool with this segment delivers, each message as it was, and the records that it tells to be lost."""
    (path / SEG).write_bytes(data)
    queue = spool(path)
    found: list[int] = []
    while batch := queue.take(3, 0):
        assert all(
            each == message(number, records=2) for each, number in zip(batch, numbers(batch), strict=True)
        )
        found += numbers(batch)
        queue.done(len(batch))
    assert found == sorted(set(found))
    told = lost(queue)
    queue.put([message(99, records=2)])
    assert drained(queue) == [99]
    assert (queue.waiting, lost(queue), queue.error) == (0, 0, "")
    queue.close()
    queue = spool(path)
    assert (queue.waiting, queue.losses()) == (0, [])
    queue.close()
    for name in (SEG, "cursor"):
        (path / name).unlink(missing_ok=True)
    return found, told


def test_cut_at_every_byte(tmp_path: Path) -> None:
    data = filled(tmp_path / "s", 3)
    boundaries = ends(data)
    for size in range(len(data)):
        found, told = reopened(tmp_path / "s", data[:size])
        whole = sum(end <= size for end in boundaries[1:])
        assert found == list(range(whole)), size
        if size in boundaries or size < HEAD_SIZE:
            assert told == 0, size
        else:
            # Where its head is there, it says what the message stood for.
            headed = size >= boundaries[whole] + RECORD_HEAD
            assert told == (2 if headed else 1), size


def test_a_flipped_bit_at_every_byte(tmp_path: Path) -> None:
    data = filled(tmp_path / "s", 4)
    boundaries = ends(data)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        found, told = reopened(tmp_path / "s", bytes(flipped))
        hit = sum(end <= at for end in boundaries)
        if hit == 0:
            assert (found, told) == ([0, 1, 2, 3], 0), at
            continue
        assert found == [number for number in range(4) if number != hit - 1], at
        # What is behind tells what is missing; the last is known by its head, or that there was something.
        in_last_head = hit == 4 and at < boundaries[3] + RECORD_HEAD
        assert told == (1 if in_last_head else 2), at


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_put_in_taken_out_and_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("spool")
    whole = filled(path / "s", 5)
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 200))
    ruined = whole[:at] + data.draw(st.binary(max_size=100)) + whole[at + gone :]
    found, told = reopened(path / "s", ruined)
    missing = 5 - len(found)
    # Records that are gone without a trace behind the last one, or with the file's head, cannot be known.
    if missing and found and found[-1] == 4:
        assert told == 2 * missing
    assert told <= max(2 * missing, 1)  # junk at the end may have been a message
    shutil.rmtree(path)


@pytest.mark.parametrize("cut", ["none", "middle", "last", "first"])
def test_damage_in_one_of_several_segments(tmp_path: Path, cut: str) -> None:
    queue = spool(tmp_path / "s", segment=4_000)
    queue.put([message(number, b"x" * 1000, records=3) for number in range(20)])
    queue.close()
    files = sorted((tmp_path / "s").glob("*.seg"))
    assert len(files) == 5
    where = {"none": None, "middle": 2, "last": 4, "first": 0}[cut]
    if where is not None:
        with files[where].open("r+b") as file:
            file.write(b"\xff" * HEAD_SIZE)
    queue = spool(tmp_path / "s", segment=4_000)
    found = drained(queue)
    gone = [] if where is None else list(range(where * 4, where * 4 + 4))
    assert found == [number for number in range(20) if number not in gone]
    # Behind the last there is nothing that would tell; the sentence does.
    assert lost(queue) == (0 if cut == "last" else 3 * len(gone))
    assert (queue.advice != "") == (cut != "none")
    assert len(list((tmp_path / "s").glob("*.damaged"))) == (cut != "none")
    queue.close()
    spool(tmp_path / "s").close()


def test_a_segment_that_somebody_removed_is_a_loss(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", segment=4_000)
    queue.put([message(number, b"x" * 1000, records=3) for number in range(20)])
    files = sorted((tmp_path / "s").glob("*.seg"))
    files[1].unlink()
    assert drained(queue) == [*range(4), *range(8, 20)]
    assert lost(queue) == 12
    queue.close()


def test_damage_while_it_runs(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s")
    queue.put([message(number, records=2) for number in range(6)])
    data = (tmp_path / "s" / SEG).read_bytes()
    for number in (2, 5):
        with (tmp_path / "s" / SEG).open("r+b") as file:
            file.seek(ends(data)[number] + RECORD_HEAD + 3)
            file.write(b"\xff\xff")
    assert drained(queue) == [0, 1, 3, 4]
    assert lost(queue) == 4
    queue.put(messages(6, 8))
    assert drained(queue) == [6, 7]
    queue.close()


def test_delivered_messages_are_no_loss_when_they_are_damaged(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s")
    queue.put(messages(0, 6))
    queue.take(6, 0)
    queue.done(6)
    data = (tmp_path / "s" / SEG).read_bytes()
    queue.close()
    for size in (ends(data)[5] + 3, ends(data)[5] + RECORD_HEAD + 2, ends(data)[3]):
        (tmp_path / "s" / SEG).write_bytes(data[:size])
        queue = spool(tmp_path / "s")
        assert (queue.waiting, queue.losses()) == (0, [])
        queue.close()


@pytest.mark.parametrize("damage", ["removed", "emptied", "flipped", "older"])
def test_without_its_cursor_all_is_delivered_again_and_nothing_skipped(tmp_path: Path, damage: str) -> None:
    queue = spool(tmp_path / "s", segment=4_000)
    older = (tmp_path / "s" / "cursor").read_bytes()
    queue.put(messages(0, 20, b"x" * 1000))
    queue.take(10, 0)
    queue.done(10)
    queue.close()
    cursor = tmp_path / "s" / "cursor"
    data = cursor.read_bytes()
    if damage == "removed":
        cursor.unlink()
    elif damage == "emptied":
        cursor.write_bytes(b"")
    elif damage == "flipped":
        cursor.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        cursor.write_bytes(older)
    queue = spool(tmp_path / "s", segment=4_000)
    assert drained(queue) == list(range(8, 20))
    # An old cursor cannot be told from a loss: a spool that is copied back in part says too much, never too little.
    assert lost(queue) == (8 if damage == "older" else 0)
    queue.close()


def test_a_flipped_bit_anywhere_in_the_cursor(tmp_path: Path) -> None:
    filled(tmp_path / "s", 4)
    queue = spool(tmp_path / "s")
    queue.take(2, 0)
    queue.done(2)
    queue.close()
    data = (tmp_path / "s" / "cursor").read_bytes()
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            assert spooldir.decode_cursor(bytes(flipped), "it") is None
        assert spooldir.decode_cursor(data[:at], "it") is None
    assert spooldir.decode_cursor(data, "it") == spooldir.Cursor(2, 4, [], 0)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_content_of_a_cursor(content: object) -> None:
    import zlib

    import msgpack

    try:
        body = msgpack.packb(content)
    except OverflowError:
        return
    start = spooldir._PREFIX.pack(b"AUDENSC", 1, 0)
    data = spooldir._PREFIX.pack(b"AUDENSC", 1, zlib.crc32(body, zlib.crc32(start))) + body
    assert spooldir.decode_cursor(data, "it") is None or isinstance(content, list)


def test_a_power_cut_that_took_what_was_delivered_skips_nothing(tmp_path: Path) -> None:
    data = filled(tmp_path / "s", 10)
    queue = spool(tmp_path / "s")
    queue.take(9, 0)
    queue.done(9)
    queue.close()
    (tmp_path / "s" / SEG).write_bytes(data[: ends(data)[5]])
    queue = spool(tmp_path / "s")
    assert queue.waiting == 0
    queue.put(messages(10, 20))
    assert drained(queue) == list(range(10, 20))
    assert queue.losses() == []
    queue.close()


def test_a_tail_of_zeros_as_power_cuts_leave_it(tmp_path: Path) -> None:
    data = filled(tmp_path / "s", 3)
    found, told = reopened(tmp_path / "s", data + bytes(5000))
    assert (found, told) == ([0, 1, 2], 1)


def test_a_body_cannot_pretend_to_hold_records(tmp_path: Path) -> None:
    """What anybody may write is not read as a record, even where the record around it is damaged."""
    forged = Message("forged", 1.0, "SYSCALL", b"", 1, 1)
    guess = encode(Head(0, 0, b"AUDENSP\x01"), 1, 2, forged)
    queue = spool(tmp_path / "s")
    queue.put([message(0, guess * 50), message(1)])
    queue.close()
    data = bytearray((tmp_path / "s" / SEG).read_bytes())
    data[HEAD_SIZE + 9] ^= 1
    (tmp_path / "s" / SEG).write_bytes(data)
    queue = spool(tmp_path / "s")
    assert numbers(queue.take(9, 0)) == [1]
    queue.close()


def test_the_mark_is_found_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search goes by pieces: a mark across their border is one as well."""
    monkeypatch.setattr(segment, "_CHUNK", 64)
    head = Head(0, 0, os.urandom(8))
    for junk in range(1, 150):
        path = tmp_path / "one"
        path.write_bytes(encode_head(head) + b"\0" * junk + encode(head, 0, 0, message(0)))
        fd = os.open(path, os.O_RDONLY)
        assert [each.message for each in Reader(fd, head).read(path.stat().st_size)] == [message(0)]
        os.close(fd)


def test_a_record_of_another_place_is_not_believed(tmp_path: Path) -> None:
    data = filled(tmp_path / "s", 4)
    at = ends(data)
    again = data + data[at[1] : at[2]]  # the second once more, behind the last
    found, told = reopened(tmp_path / "s", again)
    assert (found, told) == ([0, 1, 2, 3], 0)


def test_a_record_that_is_another_segments_is_not_believed(tmp_path: Path) -> None:
    """Half a write that could not be taken back may hold records whose numbers were used again behind it."""
    queue = spool(tmp_path / "s", segment=4_000)
    queue.put([message(number, b"x" * 1000, records=2) for number in range(8)])
    queue.close()
    first = tmp_path / "s" / SEG
    data = first.read_bytes()
    head = segment.decode_head(data, "it")
    assert head is not None
    first.write_bytes(data + encode(head, 5, 10, message(99, records=2)))
    queue = spool(tmp_path / "s", segment=4_000)
    assert drained(queue) == list(range(8))
    assert queue.losses() == []
    queue.close()
