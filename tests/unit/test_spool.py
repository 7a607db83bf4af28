# SPDX-License-Identifier: Apache-2.0
"""The spool as long as nothing is broken: order, acknowledgement, limits, who may have it, and what outlives a run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from enricher.clock import ManualClock
from enricher.errors import OutputFailed, UsageError
from enricher.model import Loss
from enricher.sinks.delivery import spooldir
from enricher.sinks.delivery.message import Queue
from enricher.sinks.delivery.segment import MAGIC
from enricher.sinks.delivery.segments import BLOCK
from tests.unit.sample_delivery import DEADLINE, NOW, drained, lost, message, messages, numbers, spool

BODY = b"x" * 1000


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.seg"))


def test_in_order_and_the_same_until_done(tmp_path: Path) -> None:
    queue: Queue = spool(tmp_path / "s")
    queue.put(messages(0, 3))
    queue.put(messages(3, 5))
    assert numbers(queue.take(4, 0)) == [0, 1, 2, 3]
    assert queue.take(2, 0) == messages(0, 2)
    queue.done(1)
    assert numbers(queue.take(9, 0)) == [1, 2, 3, 4]
    queue.put(messages(5, 6))
    assert numbers(queue.take(9, 0)) == [1, 2, 3, 4, 5]
    assert queue.waiting == 5
    queue.done(5)
    assert (queue.take(9, 0), queue.waiting, queue.losses()) == ([], 0, [])
    queue.close()


def test_a_courier_that_outlives_its_queue_may_still_say_what_is_done(tmp_path: Path) -> None:
    """Its receiver kept it from ending in time. The next who has the spool sends it again."""
    queue = spool(tmp_path / "s")
    queue.put(messages(0, 3))
    queue.take(2, 0)
    queue.close()
    again = spool(tmp_path / "s")
    queue.done(2)
    assert queue.error == "", "its directory is another's now"
    assert numbers(again.take(9, 0)) == [0, 1, 2]
    again.close()


def test_every_member_of_a_message_comes_back(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s")
    odd = message(1)._replace(
        uid="\udcff/ü", type="", body=bytes(range(256)), serial=0xFFFFFFFF, records=70_000
    )
    queue.put([odd])
    assert queue.take(1, 0) == [odd]
    queue.close()
    queue = spool(tmp_path / "s")
    assert queue.take(1, 0) == [odd]
    queue.close()


def test_a_run_goes_on_where_the_one_before_was_done(tmp_path: Path) -> None:
    for run in range(4):
        queue = spool(tmp_path / "s")
        assert queue.waiting == 5 * run
        queue.put(messages(run * 10, run * 10 + 10))
        queue.take(5, 0)
        queue.done(5)
        queue.close()
    queue = spool(tmp_path / "s")
    assert drained(queue) == list(range(20, 40))
    assert queue.losses() == []
    queue.close()


def test_segments_rotate_and_go_when_they_are_done(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", segment=10_000)
    queue.put(messages(0, 50, BODY))
    assert len(segments(tmp_path / "s")) == 5
    assert max(path.stat().st_size for path in segments(tmp_path / "s")) < 12_000
    assert queue.size == sum(path.stat().st_size for path in segments(tmp_path / "s"))
    queue.take(25, 0)
    queue.done(25)
    assert len(segments(tmp_path / "s")) == 3
    assert drained(queue) == list(range(25, 50))
    assert len(segments(tmp_path / "s")) == 1  # the one that is written to
    queue.close()
    spool(tmp_path / "s").close()
    assert segments(tmp_path / "s") == []


def test_many_short_runs_leave_no_files_behind(tmp_path: Path) -> None:
    for run in range(20):
        queue = spool(tmp_path / "s")
        queue.put(messages(run, run + 1))
        assert drained(queue) == [run]
        queue.close()
    assert len(segments(tmp_path / "s")) <= 1


def test_modes_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "s").mkdir(mode=0o777)
        queue = spool(tmp_path / "s")
        queue.put(messages(0, 1))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()}
    assert found == {"0000000000000000.seg": 0o600, "cursor": 0o600}
    queue.close()


# -- limits ------------------------------------------------------------------------------------------


def test_drop_oldest_lets_whole_segments_go_and_tells(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", size=100_000)
    queue.put([message(number, BODY, records=3) for number in range(200)])
    kept = numbers(queue.take(200, 0))
    assert kept == list(range(kept[0], 200))
    assert 40 < len(kept) < 95
    assert queue.losses() == [Loss("queue", "queue", 3 * kept[0], "records", 1000, 999 + kept[0], ())]
    assert queue.given_up.messages == kept[0]
    assert queue.size + BLOCK * len(segments(tmp_path / "s")) <= 100_000
    queue.close()


def test_drop_newest_refuses_and_tells(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", size=100_000, policy="drop_newest")
    queue.put(messages(0, 200, BODY))
    kept = drained(queue)
    assert kept == list(range(len(kept)))
    assert 40 < len(kept) < 95
    assert queue.losses() == [
        Loss("queue", "queue", 200 - len(kept), "records", 1000 + len(kept), 1199, ()),
    ]
    queue.put(messages(200, 201, BODY))
    assert drained(queue) == [200]
    queue.close()


def test_for_what_will_never_fit_nothing_goes(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", size=100_000)
    queue.put([message(0), message(1, b"x" * 100_000), message(2)])
    assert queue.losses() == [Loss("queue", "queue", 1, "records", 1001, 1001, ())]
    assert drained(queue) == [0, 2]
    queue.close()


def test_what_is_in_the_couriers_hands_is_never_both_lost_and_sent(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", size=100_000)
    queue.put(messages(0, 30, BODY))
    in_hand = numbers(queue.take(5, 0))
    queue.put(messages(30, 300, BODY))
    told = lost(queue)
    queue.done(5)
    found = in_hand + drained(queue, most=1)
    assert found[:5] == [0, 1, 2, 3, 4]
    assert len(found) + told == 300
    assert queue.losses() == []
    assert found == sorted(set(found))
    assert len(found) < 100
    queue.close()
    queue = spool(tmp_path / "s")
    assert (queue.losses(), queue.waiting) == ([], 0)
    queue.close()


def test_a_courier_that_takes_again_has_nothing_in_its_hands(tmp_path: Path) -> None:
    now, clock = NOW, ManualClock()
    queue = spool(tmp_path / "s", size=100_000, age=100.0, clock=clock, wall=lambda: now)
    queue.put(messages(0, 30, BODY))
    queue.take(5, 0)
    now += 101
    clock.advance(2.0)
    queue.put(messages(30, 31))
    assert numbers(queue.take(1, 0)) == [0]  # within a second of the last look nothing goes
    clock.advance(2.0)
    assert numbers(queue.take(1, 0)) == [30]
    assert sum(loss.lost for loss in queue.losses()) == 30
    assert queue.waiting == 1
    queue.close()


def test_what_was_given_up_and_told_is_not_told_by_the_next_run(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", size=100_000)
    queue.put(messages(0, 30, BODY))
    queue.take(1, 0)
    queue.put(messages(30, 300, BODY))
    told = lost(queue)
    waiting = queue.waiting
    queue.close()
    queue = spool(tmp_path / "s", size=100_000)
    assert (told + waiting, queue.waiting) == (300, waiting)
    assert len(drained(queue)) == waiting
    assert queue.losses() == []
    queue.close()


def test_what_was_given_up_and_not_told_is_told_by_the_next_run(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s", size=100_000)
    queue.put([message(number, BODY, records=2) for number in range(30)])
    queue.take(1, 0)
    queue.put([message(number, BODY, records=2) for number in range(30, 300)])
    waiting = queue.waiting
    queue.close()
    queue = spool(tmp_path / "s", size=100_000)
    assert len(drained(queue)) == waiting
    assert lost(queue) == 2 * (300 - waiting)
    queue.close()


@pytest.mark.parametrize("reopened", [False, True])
def test_age(tmp_path: Path, reopened: bool) -> None:  # noqa: FBT001
    now = NOW
    clock = ManualClock()
    queue = spool(tmp_path / "s", age=80.0, clock=clock, wall=lambda: now)
    for number in range(10):
        queue.put(messages(number, number + 1))
        clock.advance(11.0)
        now += 11.0
    if reopened:
        for path in segments(tmp_path / "s"):
            os.utime(path, (NOW, NOW + 11 * int(path.stem, 16)))
        queue.losses()
        queue.close()
        queue = spool(tmp_path / "s", age=80.0, clock=clock, wall=lambda: now)
    found = drained(queue)
    assert found == list(range(found[0], 10))
    assert 2 <= found[0] <= 4
    now += 1000
    clock.advance(1000.0)
    queue.put(messages(10, 11))
    now += 1000
    clock.advance(1000.0)
    assert queue.take(1, 0) == []
    assert queue.waiting == 0
    queue.put(messages(11, 12))
    queue.losses()
    queue.close()
    queue = spool(tmp_path / "s", age=80.0, clock=clock, wall=lambda: NOW)
    assert drained(queue) == [11]
    assert queue.losses() == []
    queue.close()


# -- who may have it ---------------------------------------------------------------------------------


def test_one_process_at_a_time_and_a_kill_lets_it_go(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s")
    with pytest.raises(UsageError, match="another process has the spool"):
        spool(tmp_path / "s")
    queue.close()
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.unit.sample_delivery import *\n"
        "queue = spool(Path(sys.argv[1])); queue.put(messages(0, 3)); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(UsageError):
            spool(tmp_path / "s")
        child.kill()
        child.wait(DEADLINE)
    queue = spool(tmp_path / "s")
    assert drained(queue) == [0, 1, 2]
    queue.close()


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s").symlink_to("elsewhere")
    with pytest.raises(OutputFailed, match="symbolic link"):
        spool(tmp_path / "s")
    (tmp_path / "target").write_bytes(b"kept")
    queue = spool(tmp_path / "t")
    queue.put(messages(0, 1))
    queue.close()
    for name in ("cursor", "0000000000000000.seg"):
        (tmp_path / "t" / name).unlink()
        (tmp_path / "t" / name).symlink_to("../target")
        with pytest.raises(OutputFailed, match="cannot open the spool"):
            spool(tmp_path / "t")
        (tmp_path / "t" / name).unlink()
    assert (tmp_path / "target").read_bytes() == b"kept"
    (tmp_path / "t" / "cursor.new").symlink_to("../target")
    (tmp_path / "t" / "0000000000000000.seg").mkdir()
    with pytest.raises(OutputFailed, match="it is no file"):
        spool(tmp_path / "t")
    assert (tmp_path / "target").read_bytes() == b"kept"


def test_what_is_no_spool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").touch()
    with pytest.raises(UsageError, match="is no spool: it has 'passwd'"):
        spool(tmp_path / "etc")
    with pytest.raises(OutputFailed, match="no directory"):
        spool(tmp_path / "etc" / "passwd")
    with pytest.raises(OutputFailed, match="No such file"):
        spool(tmp_path / "none" / "s")
    spool(tmp_path / "s").close()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UsageError, match="another user"):
        spool(tmp_path / "s")


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("enricher.sinks.delivery.segment.VERSION", 2)
        queue = spool(tmp_path / "s")
        queue.put(messages(0, 2))
        queue.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert before["0000000000000000.seg"].startswith(MAGIC + b"\x02")
    with pytest.raises(UsageError, match=r"seg: a spool of another version \(2\)"):
        spool(tmp_path / "s")
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before
    with monkeypatch.context() as patch:
        patch.setattr(spooldir, "_VERSION", 3)
        spool(tmp_path / "t").close()
    with pytest.raises(UsageError, match=r"cursor: a spool of another version \(3\)"):
        spool(tmp_path / "t")


# -- two threads -------------------------------------------------------------------------------------


def test_take_is_woken_by_put(tmp_path: Path) -> None:
    queue = spool(tmp_path / "s")
    found: list[list[int]] = []
    thread = Thread(target=lambda: found.append(numbers(queue.take(5, DEADLINE))))
    thread.start()
    queue.put(messages(0, 1))
    thread.join(DEADLINE)
    assert found == [[0]]
    thread = Thread(target=lambda: found.append(numbers(queue.take(5, DEADLINE))))
    queue.done(1)
    thread.start()
    queue.close()
    thread.join(DEADLINE)
    assert found == [[0], []]


@pytest.mark.parametrize(("size", "count"), [(1 << 30, 10_000), (300_000, 6_000)])
def test_two_threads_lose_and_repeat_nothing_untold(tmp_path: Path, size: int, count: int) -> None:
    queue = spool(tmp_path / "s", size=size, segment=200_000)
    found: list[int] = []
    ended = False

    def carry() -> None:
        while True:
            last = ended
            batch = queue.take(7, 0.01)
            found.extend(numbers(batch))
            queue.done(len(batch))
            if last and not batch:
                return

    thread = Thread(target=carry)
    thread.start()
    told = 0
    for start in range(0, count, 20):
        queue.put(messages(start, start + 20))
        told += lost(queue)
    ended = True
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert found == sorted(set(found))
    assert len(found) + told + lost(queue) == count
    assert queue.error == ""
    queue.close()


def test_limits_are_checked(tmp_path: Path) -> None:
    for wrong in ({"policy": "block"}, {"size": 0}):
        with pytest.raises(ValueError, match="no such spool"):
            spool(tmp_path / "s", **wrong)
