# SPDX-License-Identifier: Apache-2.0
"""A capture written by a run on the fake host, replayed: the same bytes, however much went wrong in the run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enricher.correlate import join
from enricher.correlate.ledger import Summary, words
from enricher.errors import AuditUnavailable, DamagedInput
from enricher.model import Answer as ContainerAnswer
from enricher.model import Batch, CgroupChange, CgroupOp, ContextFlag, Known, Metadata, Record
from enricher.runtime.output import Output, Wanted
from enricher.runtime.pipeline import Pipeline
from enricher.runtime.replay import replay
from enricher.runtime.selftest import Proof, Trial
from enricher.runtime.stages import Opening, Stages
from enricher.sources.bpf import wire
from enricher.sources.capture import Answer, CaptureReader, CaptureWriter, Head, Stop
from enricher.sources.recorded import RecordedNames, RecordingNames
from tests.unit.fake_host import OTHER, Host, image, install, started
from tests.unit.sample_events import EXEC, HOST, SYSCALL, USER_LOGIN
from tests.unit.sample_stream import EOE, alone, context, record, records, stamp, tally

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


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    return Live(tmp_path, monkeypatch)


def events(live: Live) -> list[dict[str, object]]:
    return [json.loads(line) for line in live.output.read_bytes().splitlines()]


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


# -- the same bytes ----------------------------------------------------------------------------------


def test_one_of_everything(live: Live) -> None:
    summary = live.run([act for act in ACTS for act in (act, pause)], last=after)
    assert summary is not None
    assert (summary.marked, summary.balanced) == (True, False)
    written = events(live)
    assert {event["type"] for event in written} >= {"SYSCALL", "LOST", "USER_LOGIN", "USER_AVC"}
    assert any("/2" in str(event["uid"])[50:] for event in written), "a further part"
    assert live.output.read_bytes().count(b"user1000-") > 0
    assert (summary.before, summary.after, summary.malformed) == (4, 1, 3)
    same_twice(live, summary)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(st.sampled_from(ACTS), max_size=14),
    proof=st.sampled_from([Proof.PROVED, Proof.SILENT]),
    refused=st.booleans(),
)
def test_any_run(
    tmp_path_factory: pytest.TempPathFactory,
    acts: list[Act],
    proof: Proof,
    refused: bool,  # noqa: FBT001
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        live = Live(tmp_path_factory.mktemp("any"), patch, proof=proof)
        live.host.refusal = AuditUnavailable("the kernel did not answer") if refused else None
        summary = live.run(acts)
    assert summary is not None
    assert summary.marked is (proof is Proof.PROVED and not refused)
    same_twice(live, summary)


def test_names_change_with_their_batch(live: Live) -> None:
    one: Act = lambda live: live.exec(1000)  # noqa: E731 - an act
    summary = live.run([one, one, renamed_unseen, one, renamed, one, one])
    assert summary is not None
    fields = [event["records"][0]["fields"] for event in events(live)]  # type: ignore[index]
    uids = [each["UID"] for each in fields if each.get("uid") == 1000]
    assert uids == ["user1000-1"] * 3 + ["user1000-0"] * 2
    same_twice(live, summary)


def test_a_container_has_its_name_from_the_batch_of_the_answer_on(live: Live) -> None:
    one: Act = lambda live: live.exec(1000)  # noqa: E731 - an act
    summary = live.run([one, made, one, answered, one, removed, one, helped, helpers, helped])
    assert summary is not None
    execs = [event for event in events(live) if event["type"] == "SYSCALL"]
    inside = [event["container"] for event in execs if event["where"] == "container"]
    assert [each.get("name") for each in inside] == [None, "shop \u2028", "shop \u2028"]  # type: ignore[attr-defined]
    own = [event["enrichment"].get("self_caused") for event in execs]  # type: ignore[attr-defined]
    assert own == [None] * (len(own) - 1) + [True]
    same_twice(live, summary)


def test_other_formats_from_the_same_capture(live: Live) -> None:
    live.run([act for act in ACTS for act in (act, pause)])
    for view in ("text", "table"):
        found, _, damage = again(live.path.read_bytes(), live.output.with_name(view), Wanted(view))
        assert len(found) > 1000
        assert damage is None


def test_other_questions_of_the_same_capture(live: Live) -> None:
    """What a filter lets through is what it would have let through, and losses whatever it says."""
    live.run([login, lambda live: live.exec(0), gap, pause, login, pause])
    found, _, _ = again(
        live.path.read_bytes(), live.output.with_name("x"), Wanted("json", types=["USER_LOGIN"])
    )
    kept = [
        line for line in live.output.read_bytes().splitlines() if b'"USER_LOGIN"' in line or b'"LOST"' in line
    ]
    assert found.splitlines() == kept
    assert len(kept) == 3


def test_the_capture_is_written_before_anything_is_made_of_it(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What brings the program down is in the file."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Stages, "take", broken)
    with pytest.raises(ZeroDivisionError):
        live.run([])
    with live.path.open("rb") as file:
        frames = CaptureReader(file, "it").frames()
        assert isinstance(next(frames), Head)
        batch = next(frames)
        assert isinstance(batch, Batch)
        assert (len(batch.records), len(batch.contexts), len(batch.tallies)) == (2, 1, 1)
        with pytest.raises(DamagedInput, match="the end is missing"):
            next(frames)


# -- stopping in the middle --------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5, 7])
def test_a_count_stops_it(live: Live, limit: int) -> None:
    live.run([act for act in ACTS for act in (act, pause)])
    lines = live.output.read_bytes().splitlines()
    found, account, damage = again(
        live.path.read_bytes(), live.output.with_name("x"), Wanted("json", limit=limit)
    )
    assert found.splitlines() == lines[:limit]
    assert (account.marked, damage) == (False, None)


def test_a_signal_stops_it_after_the_batch(live: Live) -> None:
    live.run([lambda live: live.exec(0)] * 5)
    lines = live.output.read_bytes().splitlines()
    asked = iter([False, False, False, *[True] * 100])
    found, account, damage = again(
        live.path.read_bytes(), live.output.with_name("x"), stop=lambda _: next(asked)
    )
    assert 0 < len(found.splitlines()) < len(lines)
    assert lines[: len(found.splitlines())] == found.splitlines()
    assert (account.marked, damage) == (False, None)


def test_stopped_before_anything(live: Live) -> None:
    live.run([lambda live: live.exec(0)])
    found, account, damage = again(live.path.read_bytes(), live.output.with_name("x"), stop=lambda _: True)
    assert (found, account.events, account.marked, damage) == (b"", 0, False, None)


# -- a run cut off -----------------------------------------------------------------------------------


def test_a_run_that_was_killed(live: Live) -> None:
    live.run([lambda live: live.exec(0), gap, parts], finish=False)
    found, account, damage = again(live.path.read_bytes(), live.output.with_name("x"))
    lines = live.output.read_bytes().splitlines()
    assert found.splitlines()[: len(lines)] == lines, "all that the run had written"
    assert len(found.splitlines()) > len(lines), "and what it still held"
    assert join.STOPPED.encode() in found
    assert damage is not None
    assert "the end is missing" in damage.message
    assert account.marked is False
    assert "not marked by a self-test record" in words(account)


def test_what_was_counted_before_the_cut_is_in_the_account(live: Live) -> None:
    live.run([gap, pause, login, lambda live: live.exec(0)], finish=False)
    found, account, _ = again(live.path.read_bytes(), live.output.with_name("x"))
    assert account.counts.netlink_drops == 4
    assert json.loads(found.splitlines()[-1])["lost"]["records"] == 4


def test_a_signal_at_the_last_frame(live: Live) -> None:
    """The batch that waits for its names is not processed any more, as any other would not be."""
    live.run([], finish=False)
    asked = iter([False, True, True])
    found, account, _ = again(live.path.read_bytes(), live.output.with_name("x"), stop=lambda _: next(asked))
    assert (found, account.delivered, account.before) == (b"", 0, 0)


def test_cut_off_anywhere_gives_a_beginning(live: Live) -> None:
    """All events of the batches that are whole, then what was held of them, then the damage."""
    live.run([lambda live: live.exec(0), login, renamed, lambda live: live.exec(0)])
    data = live.path.read_bytes()
    lines = live.output.read_bytes().splitlines()
    best = 0
    for size in range(len(data) // 3, len(data), 97):
        found, account, damage = again(data[:size], live.output.with_name("x"))
        common = next(
            (i for i, (a, b) in enumerate(zip(lines, found.splitlines(), strict=False)) if a != b),
            min(len(lines), len(found.splitlines())),
        )
        # The last batch may lack its names, and what was held is given out as it is.
        assert len(found.splitlines()) - common <= 2
        best = max(best, common)
        assert (damage is None) == (account.marked and damage is None)
    assert best >= len(lines) - 2


def test_damage_in_the_middle(live: Live) -> None:
    live.run([lambda live: live.exec(0)] * 6)
    data = bytearray(live.path.read_bytes())
    data[len(data) // 2] ^= 1
    found, account, damage = again(bytes(data), live.output.with_name("x"))
    lines = live.output.read_bytes().splitlines()
    assert 0 < len(found.splitlines()) < len(lines)
    assert found.splitlines() == lines[: len(found.splitlines())]
    assert damage is not None
    assert "checksum" in damage.message
    assert account.delivered == 7 * (len(found.splitlines()) - 1)


# -- the order of frames -----------------------------------------------------------------------------


def test_answers_are_known_before_their_batch_and_the_window_closes_in_its_place(live: Live) -> None:
    """Of the file: a batch, its answers, and the last nonce's serial before the batch that has it."""
    live.run([lambda live: live.exec(1000)])
    with live.path.open("rb") as file:
        frames = list(CaptureReader(file, "it").frames())
    kinds = "".join(type(each).__name__[0] for each in frames)
    assert kinds.startswith("HBBA")
    assert kinds.count("S") == 1
    assert kinds.index("S") < kinds.rindex("B") < kinds.index("E")
    assert {each.name for each in frames if isinstance(each, Answer)} > {"user1000-1"}
    (stop,) = [each for each in frames if isinstance(each, Stop)]
    assert stop.serial == live.host.serial


def test_messages_go_into_the_capture_once(live: Live) -> None:
    live.run([lambda live: live.exec(0)] * 3)
    with live.path.open("rb") as file:
        frames = list(CaptureReader(file, "it").frames())
    batches = [each for each in frames if isinstance(each, Batch)]
    contexts = [each.stamp for batch in batches for each in batch.contexts]
    tallies = [each.stamp for batch in batches for each in batch.tallies]
    assert contexts == [stamp(serial) for serial in (99, 201, 202, 203, 204)], "the last is the nonce's"
    assert tallies == contexts[:-1]
