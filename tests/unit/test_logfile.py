# SPDX-License-Identifier: Apache-2.0
"""Log files: which, in which order, packed or not, whole or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from enricher.errors import DamagedInput, UsageError
from enricher.sources.logfile import read_log
from enricher.sources.logformat import LogCounts, LogRecord
from enricher.sources.unpack import BLOCK

PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
PACKED = [name for name in PACK if name != "plain"]


def log(first: int, count: int = 3, sec: int = 1772366400) -> bytes:
    """Lines with the serials from `first`; no two alike, so that packers have something to do."""
    return b"".join(
        b"type=CWD msg=audit(%d.%03d:%d): cwd=%b\n"
        % (sec, number % 1000, number, b'"/%b"' % zlib.crc32(b"%d" % number).to_bytes(4).hex().encode())
        for number in range(first, first + count)
    )


def reader(raw: io.RawIOBase | io.BytesIO) -> io.BufferedReader:
    return io.BufferedReader(raw)  # type: ignore[arg-type, return-value, unused-ignore]


def serials(batches: list[list[LogRecord]]) -> list[int]:
    return [
        int(stamp.partition(b":")[2])
        for stamp in (each.stamp for batch in batches for each in batch)
        if stamp
    ]


def read(*paths: Path | str, stdin: bytes | None = None) -> list[int]:
    given = None if stdin is None else reader(io.BytesIO(stdin))
    return serials(list(read_log([str(path) for path in paths], stdin=given)))


def until_damage(
    *paths: Path, counts: LogCounts | None = None, stdin: io.BufferedReader | None = None
) -> tuple[list[LogRecord], DamagedInput]:
    out: list[LogRecord] = []
    batches = read_log([str(path) for path in paths] or ["-"], counts, stdin)
    with pytest.raises(DamagedInput) as caught:
        out.extend(each for batch in batches for each in batch)
    return out, caught.value


# -- order -------------------------------------------------------------------------------------------


def test_a_directory_is_read_oldest_first(tmp_path: Path) -> None:
    names = ["audit.log.10", "audit.log.9.gz", "audit.log.2.xz", "audit.log.1", "audit.log"]
    for number, name in enumerate(names):
        packer = gzip.compress if name.endswith("gz") else lzma.compress if name.endswith("xz") else bytes
        (tmp_path / name).write_bytes(packer(log(number * 10, 1)))
    (tmp_path / "other.log").write_bytes(log(666))
    (tmp_path / "audit.log.swp").write_bytes(log(666))
    assert read(tmp_path) == [0, 10, 20, 30, 40]
    assert read(*[tmp_path / name for name in sorted(names)]) == [0, 10, 20, 30, 40]


def test_files_without_numbers_go_by_their_first_stamp(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"no record\n" + log(1, 2, sec=1000))
    (tmp_path / "a").write_bytes(gzip.compress(log(3, 2, sec=2000)))
    (tmp_path / "c.2").write_bytes(log(5, 2, sec=4000))  # its number goes before its stamp
    (tmp_path / "c").write_bytes(log(7, 2, sec=3000))
    (tmp_path / "0").write_bytes(b"")
    assert read(*[tmp_path / name for name in "0 c a b c.2".split()]) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_each_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(log(1, 1))
    (tmp_path / "link").symlink_to("audit.log")
    assert read(tmp_path, tmp_path / "audit.log", tmp_path / "link") == [1]


def test_standard_input_comes_last(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(log(1, 1))
    assert read("-", tmp_path, stdin=log(2, 1)) == [1, 2]


def test_standard_input_of_the_process() -> None:
    reader, writer = os.pipe()
    os.write(writer, gzip.compress(log(1, 2)))
    os.close(writer)
    kept = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert read("-") == [1, 2]
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)


def test_a_rotation_meanwhile_changes_nothing(tmp_path: Path) -> None:
    for number, name in enumerate(["audit.log.1", "audit.log"]):
        (tmp_path / name).write_bytes(log(number * 10, 1))
    batches = read_log([str(tmp_path)])
    first = next(batches)
    (tmp_path / "audit.log.1").rename(tmp_path / "audit.log.2")
    (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
    (tmp_path / "audit.log").write_bytes(log(20, 1))
    assert serials([first, *batches]) == [0, 10]


# -- content -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACK)
def test_packing_is_known_by_the_first_bytes(tmp_path: Path, packing: str) -> None:
    count = 20_000  # several blocks
    (tmp_path / "log").write_bytes(PACK[packing](log(0, count)))
    counts = LogCounts()
    batches = list(read_log([str(tmp_path / "log")], counts))
    assert serials(batches) == list(range(count))
    assert (counts.files, counts.lines, counts.records) == (1, count, count)
    assert 1 < len(batches) < 20


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("data", [b"", b"\n", b"x"])
def test_files_with_next_to_nothing(tmp_path: Path, packing: str, data: bytes) -> None:
    (tmp_path / "log").write_bytes(PACK[packing](data))
    counts = LogCounts()
    found = [each for batch in read_log([str(tmp_path / "log")], counts) for each in batch]
    assert [each.record.text for each in found] == data.split()
    assert counts.lines == len(data)


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("padding", [0, 4, 40_000])
def test_packed_files_may_be_put_one_behind_the_other(tmp_path: Path, packing: str, padding: int) -> None:
    pack = PACK[packing]
    parts = [pack(log(0, 4_000)), pack(b""), pack(log(4_000, 1))]
    (tmp_path / "log").write_bytes((bytes(padding)).join([*parts, b""]))
    assert read(tmp_path / "log") == list(range(4_001))


@pytest.mark.parametrize("packing", PACK)
def test_a_pipe_may_give_a_byte_at_a_time(tmp_path: Path, packing: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = PACK[packing](log(1, 3)) * 2

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            for byte in data:
                file.write(bytes([byte]))

    writer = threading.Thread(target=write)
    writer.start()
    assert read(fifo) == [1, 2, 3, 1, 2, 3]
    writer.join()


@pytest.mark.parametrize("packing", PACK)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, packing: str) -> None:
    def peak(blocks: int) -> int:
        path = tmp_path / f"{packing}{blocks}"
        line = log(1, 1)[:-1].ljust((1 << 12) - 1, b"x") + b"\n"
        path.write_bytes(PACK[packing](line * (BLOCK // len(line) * blocks)))
        tracemalloc.start()
        try:
            for _ in read_log([str(path)]):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(128) < 1.3 * peak(32)


def test_the_shortest_lines_take_little_memory(tmp_path: Path) -> None:
    """They make the most records of a block."""
    path = tmp_path / "short"
    path.write_bytes(b"x\n" * (1 << 18))
    tracemalloc.start()
    try:
        assert sum(map(len, read_log([str(path)]))) == 1 << 18
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(gzip.compress(bytes(32 << 20)))
    tracemalloc.start()
    try:
        ((found,),) = read_log([str(path)])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert found.record.truncated
    assert len(found.record.text) == 65_536


# -- damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_what_a_truncated_file_holds_is_used(tmp_path: Path, packing: str, kept: float) -> None:
    plain = log(0, 20_000)
    packed = PACK[packing](plain)
    packed = packed[: int(len(packed) * kept)]
    path = tmp_path / "log"
    path.write_bytes(packed)
    decoders: dict[str, Callable[[bytes], bytes]] = {
        "gzip": zlib.decompressobj(31).decompress,
        "bzip2": bz2.BZ2Decompressor().decompress,
        "xz": lzma.LZMADecompressor().decompress,
    }
    there = decoders[packing](packed)
    found, error = until_damage(path)
    assert b"\n".join(b"type=CWD msg=" + each.record.text for each in found if each.stamp)[: len(there)] == (
        there[: there.rindex(b"\n")] if found and not found[-1].stamp else there.removesuffix(b"\n")
    )
    assert not there or found[-1].record.truncated == (not there.endswith(b"\n"))
    assert str(path) in error.message
    assert f"byte {len(packed)}:" in error.message
    assert error.exit_code == 12
    assert error.hint


def test_gzip_is_used_to_the_byte_before_a_fault(tmp_path: Path) -> None:
    plain = log(0, 20_000)
    packed = bytearray(gzip.compress(plain))
    packed[-8] ^= 1  # the checksum: all data is good
    path = tmp_path / "log"
    path.write_bytes(packed)
    found, error = until_damage(path)
    assert [each.record.text for each in found] == [line[13:] for line in plain.splitlines()]
    assert f"byte {len(packed) - 5}:" in error.message or f"byte {len(packed) - 4}:" in error.message


@pytest.mark.parametrize("packing", PACKED)
def test_what_comes_before_a_fault_is_used(tmp_path: Path, packing: str) -> None:
    plain = log(0, 40_000)
    packed = bytearray(PACK[packing](plain))
    at = len(packed) * 9 // 10
    packed[at : at + 64] = bytes(64)
    path = tmp_path / "log"
    path.write_bytes(packed)
    found, error = until_damage(path)
    good = [each.record.text for each in found][: 40_000 // 10]
    assert good == [line[13:] for line in plain.splitlines()][: len(good)]
    assert len(good) == 4_000
    assert "damaged at byte" in error.message


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("garbage", [b"x", b"\0\0x", b"\x1f", b"BZ", log(1)])
def test_what_stands_behind_packed_data_is_not_ignored(tmp_path: Path, packing: str, garbage: bytes) -> None:
    packed = PACK[packing](log(0, 4))
    path = tmp_path / "log"
    path.write_bytes(packed + garbage)
    found, error = until_damage(path)
    assert len(found) == 4
    assert f"byte {len(packed) + len(garbage) - len(garbage.lstrip(bytes(1)))}:" in error.message


def test_files_behind_a_damaged_one_are_read(tmp_path: Path) -> None:
    names = ["audit.log.3.gz", "audit.log.2.gz", "audit.log.1.gz", "audit.log"]
    whole = gzip.compress(log(1, 100))
    for name, data in zip(names, [whole[:-1], whole, whole[:50], log(200, 1)], strict=True):
        (tmp_path / name).write_bytes(data)
    counts = LogCounts()
    found, error = until_damage(tmp_path, counts=counts)
    assert serials([found])[:200] == [*range(1, 101), *range(1, 101)]
    assert serials([found])[-1] == 200
    assert "audit.log.3.gz" in error.message
    assert error.message.endswith("(and 1 more files)")
    assert counts.files == 4


@pytest.mark.parametrize(
    "data", [b"\x1f\x8bnot gzip", b"BZh9not bzip2", b"\xfd7zXZ\x00not xz", PACK["xz"](log(1))[:9]]
)
def test_damage_at_the_very_beginning_is_told_where_files_are_put_in_order(
    tmp_path: Path, data: bytes
) -> None:
    """To find the order each file is begun, and then read again."""
    (tmp_path / "bad").write_bytes(data)
    (tmp_path / "good").write_bytes(log(1))
    found, error = until_damage(tmp_path / "bad", tmp_path / "good")
    assert serials([found]) == [1, 2, 3]
    assert f"{tmp_path}/bad: damaged at byte " in error.message


def test_xz_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    packer = lzma.LZMACompressor(format=lzma.FORMAT_XZ, filters=[{**filters[0], "dict_size": 4096}])
    packed = bytearray(packer.compress(log(1)) + packer.flush())
    at = packed.index(b"\x21\x01", 12) + 2  # LZMA2's filter flags: id, size of properties, dictionary size
    packed[at] = 40  # 4 GiB - 1
    begin = 12
    size = (packed[begin] + 1) * 4
    packed[begin + size - 4 : begin + size] = zlib.crc32(packed[begin : begin + size - 4]).to_bytes(
        4, "little"
    )
    path = tmp_path / "log"
    path.write_bytes(packed)
    found, error = until_damage(path)
    assert found == []
    assert "emory" in error.message


def test_an_error_while_reading_is_told_at_the_end() -> None:
    class Failing(io.RawIOBase):
        def __init__(self) -> None:
            self.given = [log(1, 2)[:-5]]

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            if not self.given:
                raise OSError(5, "Input/output error")
            data = self.given.pop()
            buffer[: len(data)] = data
            return len(data)

    out, error = until_damage(stdin=reader(Failing()))
    assert error.message == "standard input: damaged at byte 103: cannot be read on: Input/output error"
    assert [each.record.truncated for each in out] == [False, True]


# -- what cannot be read at all ----------------------------------------------------------------------


def refused(*paths: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_log(paths)  # not iterated: this is said before anything is read
    assert caught.value.hint
    return caught.value


def test_missing_and_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audit.log").write_bytes(log(1))
    assert "No such file" in refused(str(tmp_path), str(tmp_path / "none")).message
    assert "audit.log" in refused(str(tmp_path / "none")).hint
    assert "null" in refused("a\0b").message
    (tmp_path / "empty").mkdir()
    assert "no audit.log" in refused(str(tmp_path / "empty")).message
    assert "not a file" in refused(str(tmp_path), socket_at(tmp_path / "socket")).message

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    error = refused(str(tmp_path))
    assert "audit.log: cannot be read: Permission denied" in error.message
    assert "root" in error.hint

    def too_many(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "open", too_many)
    assert "ulimit" in refused(str(tmp_path)).hint


def socket_at(path: Path) -> str:
    import socket

    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return str(path)


def test_zstd_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(10))
    assert "zstd" in refused(str(tmp_path)).message
    with pytest.raises(UsageError, match="standard input: packed with zstd"):
        read("-", stdin=b"\x28\xb5\x2f\xfd" + bytes(10))
