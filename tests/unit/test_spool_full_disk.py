# SPDX-License-Identifier: Apache-2.0
"""A disk that takes nothing: a real one in a mount namespace of the test's own, and one that is pretended."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from enricher.clock import ManualClock
from enricher.model import Loss
from tests.unit.sample_delivery import drained, message, messages, numbers, spool

ROOT = Path(__file__).parents[2]
BODY = b"x" * 1000
HELD = 20_000

ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from enricher.clock import ManualClock
from tests.unit.sample_delivery import *

root, clock = Path(sys.argv[1]), ManualClock()
queue = spool(root / "s", clock=clock, segment=50_000, held=1 << 20)
for number in range(0, 1000, 10):
    queue.put(messages(number, number + 10, b"x" * 1000))
assert "No space left" in queue.error, queue.error
on_disk = sum(path.stat().st_size for path in root.glob("s/*.seg"))
assert 300_000 < on_disk < 512 << 10, on_disk
assert queue.waiting == 1000
assert queue.losses() == []
first = drained(queue)[:5000]
assert first == list(range(1000)), first
assert queue.waiting == 0
clock.advance(2.0)
queue.put(messages(1000, 1010))
assert queue.error == "", queue.error
queue.close()
queue = spool(root / "s", clock=clock)
assert drained(queue) == list(range(1000, 1010))
assert queue.losses() == []

# Full because of somebody else: the cursor still goes on, and a later run does not begin again.
queue.put(messages(1010, 1020))
fill = open(root / "fill", "wb", buffering=0)
try:
    while fill.write(bytes(4096)):
        pass
except OSError:
    pass
queue.take(5, 0)
queue.done(5)
queue.put(messages(1020, 1030, b"x" * 1000))
queue.close()
(root / "fill").unlink()
queue = spool(root / "s", clock=clock)
assert drained(queue)[:5] == list(range(1015, 1020))
print("done")
"""


def test_a_real_disk_of_half_a_megabyte(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=512k none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, ON_A_SMALL_DISK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr.partition("Traceback")[0]:
        pytest.skip(f"no mount namespace can be made: {done.stderr}")
    assert done.stdout == "done\n", done.stderr


class Disk:
    """Takes so many bytes, and then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 1 << 40
        self.truncates = True
        self.cursor_passes = False
        self._write = os.write
        self._truncate = os.ftruncate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "ftruncate", self.truncate)

    def write(self, fd: int, data: bytes) -> int:
        if self.cursor_passes and bytes(data[:7]) == b"AUDENSC":
            return self._write(fd, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sent = self._write(fd, data[: self.room])
        self.room -= sent
        return sent

    def truncate(self, fd: int, size: int) -> None:
        if not self.truncates:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._truncate(fd, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("room", [0, 1, 71, 72, 100, 1200, 3000, 5300])
def test_wherever_the_write_ends(tmp_path: Path, disk: Disk, room: int, *, truncates: bool) -> None:
    clock = ManualClock()
    queue = spool(tmp_path / "s", clock=clock, segment=4000)
    disk.room, disk.truncates = room, truncates
    queue.put(messages(0, 6, BODY))
    assert "No space left" in queue.error
    assert queue.waiting == 6
    disk.room = 1 << 40
    queue.put(messages(6, 7, BODY))
    assert "No space left" in queue.error, "a second has not passed"
    clock.advance(1.0)
    queue.put(messages(7, 8, BODY))
    assert queue.error == ""
    assert numbers(queue.take(3, 0)) == [0, 1, 2]
    queue.close()
    queue = spool(tmp_path / "s")
    assert drained(queue) == list(range(8))
    assert queue.losses() == []
    queue.close()


@pytest.mark.parametrize(("policy", "lost"), [("drop_oldest", (1000, 1085)), ("drop_newest", (1014, 1099))])
def test_what_memory_does_not_hold_is_given_up_and_told(
    tmp_path: Path, disk: Disk, policy: str, lost: tuple[int, int]
) -> None:
    clock = ManualClock()
    queue = spool(tmp_path / "s", clock=clock, held=HELD, policy=policy)
    disk.room = 0
    for number in range(100):
        queue.put([message(number, BODY, records=2)])
        assert queue.size <= HELD
    assert queue.losses() == [Loss("queue", "queue", 2 * 86, "records", *lost, ())]
    disk.room = 1 << 40
    clock.advance(1.0)
    assert queue.take(1, 0)[0].serial == (1086 if policy == "drop_oldest" else 1000)
    assert queue.size > 14 * 1000
    queue.close()
    queue = spool(tmp_path / "s")
    assert drained(queue) == (list(range(86, 100)) if policy == "drop_oldest" else list(range(14)))
    queue.close()


def test_with_a_receiver_that_takes_a_full_disk_holds_nothing_up(tmp_path: Path, disk: Disk) -> None:
    clock = ManualClock()
    queue = spool(tmp_path / "s", clock=clock, held=HELD)
    queue.put(messages(0, 5))
    disk.room = 0
    queue.put(messages(5, 10))
    assert numbers(queue.take(7, 0)) == [0, 1, 2, 3, 4, 5, 6]
    queue.put(messages(10, 12))
    queue.done(6)
    assert numbers(queue.take(9, 0)) == [6, 7, 8, 9, 10, 11]
    disk.room = 1 << 40
    clock.advance(1.0)
    queue.put(messages(12, 13))  # behind what is in the courier's hands, which is in memory alone
    assert queue.waiting == 7
    queue.done(1)
    assert numbers(queue.take(9, 0)) == [7, 8, 9, 10, 11, 12]
    queue.close()
    queue = spool(tmp_path / "s")
    assert drained(queue) == [7, 8, 9, 10, 11, 12]
    assert queue.losses() == []
    queue.close()


def test_what_waits_in_memory_at_the_end_is_told_by_the_next_run(tmp_path: Path, disk: Disk) -> None:
    queue = spool(tmp_path / "s")
    queue.put(messages(0, 5))
    disk.room = 0
    queue.put(messages(5, 9))
    disk.cursor_passes = True
    queue.close()
    disk.room = 1 << 40
    queue = spool(tmp_path / "s")
    assert drained(queue) == [0, 1, 2, 3, 4]
    assert queue.losses() == [Loss("queue", "queue", 4, "records", None, None, ())]
    queue.close()


def test_a_limit_on_the_size_of_files_is_no_end(tmp_path: Path) -> None:
    """RLIMIT_FSIZE in a child: what really fails there is write(2)."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            queue = spool(tmp_path / "s", clock=ManualClock())
            queue.put(messages(0, 10, BODY))
            assert queue.error
            assert numbers(queue.take(20, 0)) == list(range(10))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
