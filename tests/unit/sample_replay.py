# SPDX-License-Identifier: Apache-2.0
"""A run on the fake host that writes a capture, the acts that can happen in it, and its replay.

Owns the double of a run. Never asserts more than that a replay gives the same: tests/unit/test_replay.py looks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from enricher.correlate.ledger import Summary, words
from enricher.errors import DamagedInput
from enricher.model import Answer as ContainerAnswer
from enricher.model import CgroupChange, CgroupOp, ContextFlag, Known, Metadata, Record
from enricher.runtime.output import Output, Wanted
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.replay import replay
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.stages import Opening
from enricher.sources.bpf import wire
from enricher.sources.capture import CaptureReader, CaptureWriter, Head
from enricher.sources.recorded import RecordedNames, RecordingNames
from tests import schema
from tests.unit.fake_host import OTHER, Host, image, install, started
from tests.unit.sample_events import EXEC, HOST, SYSCALL, USER_LOGIN
from tests.unit.sample_stream import EOE, alone, context, record, records, tally

if TYPE_CHECKING:
    from enricher.runtime.prefetch import Prefetch

US = os.getpid()
HELPER = 4243
CGROUP = context(1).cgroup_id
DOCKER = b"/system.slice/docker-" + b"ab" * 32 + b".scope"
Act = Callable[["Live"], object]


class Service:
    """A name service that gives other answers each time it is told to."""

    def __init__(self) -> None:
        self.generation = 0
        self.shift = 0
        self.asked = 0

    def user(self, uid: int) -> str | None:
        self.asked += 1
        return None if (uid + self.shift) % 5 == 3 else f"user{uid}-{(uid + self.shift) % 3}"

    def group(self, gid: int) -> str | None:
        self.asked += 1
        return f"group{gid}-{self.shift}"


class Told:
    """What stands for `Prefetch`: it says what the acts have it say."""

    def __init__(self) -> None:
        self.answers: list[ContainerAnswer] = []
        self.helpers: tuple[tuple[int, int], ...] = ()

    def take(self) -> list[ContainerAnswer]:
        taken, self.answers = self.answers, []
        return taken

    def take_helpers(self) -> tuple[tuple[int, int], ...]:
        taken, self.helpers = self.helpers, ()
        return taken

    def fileno(self) -> int:
        return 77

    def serve(self) -> None:
        pass

    def turn(self, now: float) -> None:
        pass

    def wait(self, _now: float) -> float | None:
        return None


class Live:
    """A run on the fake host with a capture; `play` is one act a turn."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, *, proof: Proof = Proof.PROVED
    ) -> None:
        self.host = Host()
        install(self.host, monkeypatch)
        self.host.serial = 200
        self.names = Service()
        self.told = Told()
        self.path = directory / "capture"
        self.output = directory / "events.json"
        self.proof = proof

    def run(self, acts: list[Act], *, last: Act | None = None, finish: bool = True) -> Summary | None:
        """Returns the account; None of a run that is cut off. `last` is read together with the last nonce."""
        serial = 100 if self.proof is Proof.PROVED else None
        early = context(99), tally(99, 2)
        trial = Trial(self.proof, serial, records(99, 1300, EOE), [early[0]], [early[1]])
        self.host.tap = [image(each) for each in early]
        opening = Opening(US, "0badcafe", serial)
        with CaptureWriter(str(self.path)) as capture:
            capture.head(Head(HOST, US, "0badcafe", "1", "6.12", "audit_log_end", "double", serial))
            names = RecordingNames(self.names, capture)
            with Output(Wanted("json", str(self.output)), HOST, names) as output:
                pipeline = Pipeline(
                    started(self.host, trial),
                    output.emit,
                    opening,
                    capture,
                    learn=output.learn,
                    metadata=cast("Prefetch", self.told),
                )
                for act in acts:
                    self.host.script = [lambda act=act: act(self)]  # type: ignore[misc]
                    turns = iter((False, True))
                    pipeline.run(lambda turns=turns: next(turns))  # type: ignore[misc]
                if last:
                    last(self)
                return pipeline.finish() if finish else None

    def exec(self, uid: int, *, lost: int = 0, pid: int = OTHER) -> None:
        """An exec of a user's, with so many of its records lost on the way."""
        host = self.host
        host.serial += 1
        at = int(host.now * 1e9)
        bodies = [
            (number, body.replace(b" uid=0", b" uid=%d" % uid).replace(b"ouid=0", b"ouid=%d" % (uid + 1)))
            for number, body in EXEC
        ]
        made = [record(host.serial, number, body) for number, body in bodies]
        host.finish(context(host.serial, at, pid=pid), tally(host.serial, len(made), at))
        host.finish(*made[: len(made) - lost])


class Again(Output):
    """The output of a replay into a file."""

    def __init__(self, path: Path, names: RecordedNames, wanted: Wanted | None = None) -> None:
        super().__init__((wanted or Wanted("json"))._replace(path=str(path)), HOST, names)


def again(
    data: bytes, path: Path, wanted: Wanted | None = None, stop: Callable[[Output], bool] | None = None
) -> tuple[bytes, Summary, DamagedInput | None]:
    """Replay into a new file; returns what was written, the account, and the damage."""
    source = path.with_name("copy")
    source.write_bytes(data)
    with source.open("rb") as file:
        frames = CaptureReader(file, "it").frames()
        head = next(frames)
        assert isinstance(head, Head)
        names = RecordedNames()
        path.unlink(missing_ok=True)
        with Again(path, names, wanted) as output:
            summary, damage = replay(
                head,
                frames,
                names,
                output.emit,
                lambda: stop(output) if stop else output.full,
                output.learn,
            )
    return path.read_bytes(), summary, damage


def same_twice(live: Live, summary: Summary) -> None:
    """The same bytes and the same account, each time."""
    data = live.path.read_bytes()
    for _ in range(2):
        found, account, damage = again(data, live.path.with_name("again"))
        assert found == live.output.read_bytes()
        assert (account, damage) == (summary, None)
        assert words(account) == words(summary)


def events(live: Live) -> list[dict[str, object]]:
    return schema.parse(live.output.read_bytes())


# -- acts --------------------------------------------------------------------------------------------


def malformed(live: Live) -> None:
    live.host.finish(Record(1300, b"nonsense\n\x1b[31m\xff"), Record(0, b""), Record(1112, b"audit(x"))


def login(live: Live) -> None:
    live.host.serial += 1
    live.host.finish(
        record(live.host.serial, 1112, USER_LOGIN), alone(live.host.serial, int(live.host.now * 1e9))
    )


def gap(live: Live) -> None:
    """Netlink drops the end of an event, and some nobody knows of."""
    live.exec(1, lost=3)
    live.host.dropped += 4


def before(live: Live) -> None:
    live.host.finish(record(97, 1107), alone(98), record(98, 1107))


def after(live: Live) -> None:
    serial = live.host.serial + 5000
    live.host.finish(record(serial, 1107), alone(serial, int(live.host.now * 1e9)))


def parts(live: Live) -> None:
    """A call that blocks: a record now, the others later, without a context of their own."""
    live.host.finish(record(101, 1300, SYSCALL), context(101, int(live.host.now * 1e9)))


def rest(live: Live) -> None:
    live.host.finish(*records(101, 1302, EOE), tally(101, 3, int(live.host.now * 1e9)))


def ring_full(live: Live) -> None:
    live.host.serial += 1
    live.host.finish(*records(live.host.serial, 1300, EOE))
    live.host.counted["drop_context"] += 1
    live.host.counted["drop_tally"] += 1


def kernel_lost(live: Live) -> None:
    live.host.counted["lost_rate_limit"] += 3
    live.host.counted["lost_backlog"] += 2
    live.host.counted["lost_queue"] += 1


def hidden(live: Live) -> None:
    live.host.hidden_for = 2
    live.exec(2)


def renamed(live: Live) -> None:
    live.names.shift += 1
    live.names.generation += 1


def renamed_unseen(live: Live) -> None:
    """The answers change, and nobody says so: what was asked is still believed."""
    live.names.shift += 1


def pause(live: Live) -> None:
    live.host.now += 7.0


def ours(live: Live) -> None:
    live.exec(0, pid=US)


def bystander(live: Live) -> None:
    live.host.event(OTHER, 1324, flags=ContextFlag.INTERRUPT)


def cgroup(live: Live, op: CgroupOp, path: bytes) -> None:
    """What became of the cgroup that all events are in."""
    change = CgroupChange(CGROUP, op, path, 0)
    live.host.cgroups.append(change)
    assert live.host.tap is not None
    live.host.tap.append(wire.encode_cgroup(change))


def made(live: Live) -> None:
    cgroup(live, CgroupOp.MADE, DOCKER)


def made_free(live: Live) -> None:
    cgroup(live, CgroupOp.MADE, b"/jobs/batch")


def moved(live: Live) -> None:
    cgroup(live, CgroupOp.RENAMED, b"/jobs/batch")


def removed(live: Live) -> None:
    cgroup(live, CgroupOp.REMOVED, b"")


def answered(live: Live) -> None:
    said = Metadata("docker", "shop \u2028", "shop:1", (("k", "v"),))
    live.told.answers.append(ContainerAnswer(CGROUP, said))


def answered_free(live: Live) -> None:
    live.told.answers.append(
        ContainerAnswer(CGROUP, Known("runc", "batch", "/jobs/batch", Metadata("runc", "batch")))
    )


def helpers(live: Live) -> None:
    live.told.helpers = ((HELPER, context(1).start // 10_000_000),)


def helped(live: Live) -> None:
    live.exec(0, pid=HELPER)


ACTS: list[Act] = [
    lambda live: live.exec(0),
    lambda live: live.exec(1000),
    lambda live: live.exec(1003),
    *[malformed, login, gap, before, after, parts, rest, ring_full, kernel_lost, hidden],
    *[renamed, renamed_unseen, pause, ours, bystander],
    *[made, made_free, moved, removed, answered, answered_free, helped, helpers, helped],
]
