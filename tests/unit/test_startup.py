# SPDX-License-Identifier: Apache-2.0
"""Start-up: what is tried, what is handed on, what the operator is told, and that nothing is left open."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import pytest

from enricher.errors import (
    AuditUnavailable,
    EnricherError,
    LayoutMismatch,
    LoadFailed,
    MissingCapability,
    NoBtf,
    NoHook,
    SelfTestFailed,
    WrongNamespace,
)
from enricher.runtime import startup
from enricher.runtime.selftest import Proof
from enricher.sources.audit.control import AuditStatus, RulesCount
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.hook import Candidate, Hook
from tests.unit.fake_host import USER_AVC, Host, install
from tests.unit.fake_host import started as started_on
from tests.unit.sample_stream import record

PLAIN, PART, QUEUE = (Candidate(hook, f"because of {hook.name}") for hook in Hook)
STATUS = AuditStatus(1, 1, 812, 0, 8192, 0, 0, 127, 15000, 0)
REFUSED = LoadFailed("cannot be attached: ENOENT", "look at the log")


class Bench:
    """A start-up on a host; `acts` says what loading each hook in turn does, "" being all is well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = Host()
        install(self.host, monkeypatch)
        self.acts: list[str | EnricherError] = []
        self.tries: list[Candidate] = [PLAIN]
        self.tried: list[Hook] = []
        self.nonces: list[bytes] = []
        self.notes: list[str] = []
        self.rules = RulesCount(5, 5, task_never=False)
        self.status: AuditStatus | EnricherError = STATUS
        self.name = "double"
        ends = cast("Any", self.host)
        on = Found(Answer.YES, "ftrace is on")
        monkeypatch.setattr("enricher.runtime.startup.features.has_ftrace", lambda: on)
        for name, made in {
            "AuditControl": lambda: _Named(ends, "control", self),
            "AuditSocket": lambda _buffer: _Named(ends, "socket", self),
            "require_initial_namespaces": lambda: ("could not compare",),
            "kernel_candidates": lambda _forced: (self.tries, True),
        }.items():
            monkeypatch.setattr(startup, name, made)

    def load(self, hook: Hook, nonce: bytes, budget: int = 0, *, uring: bool = True) -> object:
        """`Loader.load`."""
        assert uring
        self.tried.append(hook)
        self.nonces.append(nonce)
        act = self.acts.pop(0) if self.acts else ""
        if isinstance(act, EnricherError):
            raise act
        self.host.hook_sees = "missed" not in act and "silent" not in act
        self.host.delivers = "undelivered" not in act and "silent" not in act
        self.host.log.append(f"load {budget >> 20}M")
        return _Named(cast("Any", self.host), hook.value, self)

    def start(self, *, tap: bool = False) -> startup.Started:
        return startup.start(self.notes.append, loader=cast("Any", self), budget=8 << 20, tap=tap)

    def fails(self, kind: type[BaseException]) -> BaseException:
        with pytest.raises(kind) as caught:
            self.start()
        return caught.value

    def closed(self) -> list[str]:
        return [line for line in self.host.log if line.startswith("close ")]


class _Named:
    """One of the host's roles, which notes by name that it was closed."""

    def __init__(self, host: Host, role: str, bench: Bench) -> None:
        self._host, self._role, self._bench = host, role, bench

    def __getattr__(self, name: str) -> object:
        return getattr(self._host, name)

    def close(self) -> None:
        self._host.log.append(f"close {self._role}")

    def status(self) -> AuditStatus:
        if isinstance(self._bench.status, EnricherError):
            raise self._bench.status
        return self._bench.status

    def rules_count(self) -> RulesCount:
        return self._bench.rules


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


# -- the candidates ----------------------------------------------------------------------------------


def test_the_first_that_is_proved_is_taken(bench: Bench) -> None:
    bench.tries = [PLAIN, QUEUE]
    started = bench.start()
    assert (started.candidate, started.loader, started.trial.proof) == (PLAIN, "double", Proof.PROVED)
    assert bench.tried == [Hook.PLAIN]
    assert len(bench.nonces[0]) == 16
    assert bench.nonces[0] in bench.host.sent[0]
    assert "load 8M" in bench.host.log
    assert bench.notes == ["could not compare"]
    assert bench.closed() == []


def test_one_that_missed_the_record_is_followed_by_the_next(bench: Bench) -> None:
    bench.tries, bench.acts = [PLAIN, PART, QUEUE], ["missed", "", ""]
    early = bench.host.event()
    started = bench.start()
    assert started.candidate == PART
    assert bench.tried == [Hook.PLAIN, Hook.PART]
    assert bench.closed() == ["close audit_log_end"]
    assert bench.host.log.index("close audit_log_end") < len(bench.host.log) - 1 - bench.host.log[::-1].index(
        "load 8M"
    )
    assert "hook audit_log_end: the self-test's record passed it by" in bench.notes
    assert len(set(bench.nonces)) == 2
    # What the failed try read is handed on, in order: an event and its nonce, then the second nonce.
    texts = [record.text for record in started.trial.records]
    assert [f":{early})".encode() in text for text in texts] == [True, True, False, False]
    assert [nonce in text for nonce, text in zip(bench.nonces, texts[2:], strict=True)] == [True, True]


def test_one_that_cannot_be_attached_is_followed_by_the_next(bench: Bench) -> None:
    bench.tries, bench.acts = [PLAIN, QUEUE], [REFUSED]
    assert bench.start().candidate == QUEUE
    assert "hook audit_log_end: cannot be attached: ENOENT" in bench.notes
    assert any("skb_queue_tail: sees records only after" in note for note in bench.notes)


def test_none_can_be_attached(bench: Bench) -> None:
    bench.tries, bench.acts = [PLAIN, QUEUE], [REFUSED, LoadFailed("another")]
    assert bench.fails(LoadFailed) is REFUSED
    assert bench.closed() == ["close socket", "close control"]


@pytest.mark.parametrize("acts", [["missed", "missed"], ["missed", REFUSED], [REFUSED, "missed"]])
def test_none_sees_the_record(bench: Bench, acts: list[str | EnricherError]) -> None:
    bench.tries, bench.acts = [PLAIN, PART], list(acts)
    error = bench.fails(SelfTestFailed)
    assert "hook audit_log_end: " in str(error)
    assert "hook audit_log_end.part.0: " in str(error)
    assert bench.closed()[-2:] == ["close socket", "close control"]
    assert len(bench.closed()) == 2 + acts.count("missed")


@pytest.mark.parametrize(
    "error", [MissingCapability("CAP_BPF"), LayoutMismatch("differ"), ValueError("a bug")]
)
def test_what_stops_every_hook_stops_at_once(bench: Bench, error: Exception) -> None:
    bench.tries, bench.acts = [PLAIN, QUEUE], [cast("Any", error)]
    if not isinstance(error, EnricherError):
        bench.acts = []
        bench.host.refusal = error
    assert bench.fails(type(error)) is error
    assert bench.tried == [Hook.PLAIN]
    assert bench.closed()[-2:] == ["close socket", "close control"]


def test_interrupted_while_it_waits(bench: Bench) -> None:
    bench.host.refusal = KeyboardInterrupt()
    bench.fails(KeyboardInterrupt)
    assert bench.closed() == ["close audit_log_end", "close socket", "close control"]


def test_not_delivered_though_nothing_was_dropped(bench: Bench) -> None:
    bench.tries, bench.acts = [PLAIN, QUEUE], ["undelivered"]
    error = bench.fails(WrongNamespace)
    assert "which dropped nothing" in str(error)
    assert (bench.tried, len(bench.host.sent)) == ([Hook.PLAIN], 1)
    assert bench.closed() == ["close audit_log_end", "close socket", "close control"]


def test_not_delivered_by_whoever_has_gone(bench: Bench) -> None:
    """What the kernel's queue to a daemon loses meanwhile says nothing of our record."""
    bench.tries, bench.acts = [PLAIN, QUEUE], ["undelivered"]
    bench.host.way, bench.host.ended = "plugin", True
    bench.host.counted["lost_queue"] = 8
    assert "which dropped nothing" in str(bench.fails(WrongNamespace))
    assert len(bench.host.sent) == 1


DROPS = {
    "lost_rate_limit": "17 records over the rate limit",
    "lost_backlog": "17 records over the backlog limit",
    "": "17 records the receive buffer was full",
}


def drop(host: Host, counter: str) -> None:
    if counter:
        host.counted[counter] = 17
    else:
        host.dropped = 17


@pytest.mark.parametrize(("counter", "words"), DROPS.items())
def test_not_delivered_while_records_are_dropped(bench: Bench, counter: str, words: str) -> None:
    bench.tries, bench.acts = [PLAIN, QUEUE], ["undelivered"]
    drop(bench.host, counter)
    error = bench.fails(SelfTestFailed)
    assert "dropped 5 times" in str(error)
    assert words in str(error)
    assert (bench.tried, len(bench.host.sent), len(set(bench.host.sent))) == ([Hook.PLAIN], 5, 1)
    assert bench.closed() == ["close audit_log_end", "close socket", "close control"]


@pytest.mark.parametrize("counter", DROPS)
def test_the_nonce_is_sent_again_where_drops_may_have_taken_it(bench: Bench, counter: str) -> None:
    bench.acts = ["undelivered"]
    drop(bench.host, counter)
    # The first try's time passes; in the second one's the flood ends, after its nonce was lost as well.
    bench.host.script = [None, lambda: setattr(bench.host, "delivers", True)]
    early = bench.host.event()
    started = bench.start()
    assert (len(bench.host.sent), started.trial[:2]) == (3, (Proof.PROVED, 104))
    # What was read in the tries before is handed on: an event's context and count, and three nonces'.
    assert [each.stamp[-3:] for each in started.trial.contexts] == [b"101", b"102", b"103", b"104"]
    assert [each.stamp[-3:] for each in started.trial.tallies] == [b"%d" % early]
    assert bench.closed() == []


def test_an_earlier_nonce_that_comes_late_is_a_proof(bench: Bench) -> None:
    """Its context was drained with the try before: the hook has not missed it."""
    host = bench.host
    bench.acts = ["undelivered"]
    host.dropped = 1
    said = b"pid=%d uid=0 msg='%b'"

    def late() -> None:
        host.queue.append(record(101, USER_AVC, said % (os.getpid(), host.sent[0])))

    host.script = [None, late]
    started = bench.start()
    assert started.trial[:2] == (Proof.PROVED, 101)
    assert (len(host.sent), len(started.trial.records)) == (2, 1)


@pytest.mark.parametrize("tap", [True, False])
def test_messages_are_tapped_from_the_first_one_on(bench: Bench, tap: bool) -> None:  # noqa: FBT001
    started = bench.start(tap=tap)
    assert started.loaded.tap == ([] if tap else None)


def test_silence_while_records_are_dropped_may_have_either_reason(bench: Bench) -> None:
    bench.acts = ["silent"]
    bench.host.counted["lost_backlog"] = 3
    started = bench.start()
    assert (started.trial.proof, len(bench.host.sent)) == (Proof.SILENT, 5)
    (note,) = [note for note in bench.notes if "is not proved" in note]
    assert "3 records over the backlog limit" in note


def test_silence_is_told_and_lived_with(bench: Bench) -> None:
    bench.acts = ["silent"]
    started = bench.start()
    assert (started.trial.proof, started.trial.serial) == (Proof.SILENT, None)
    (note,) = [note for note in bench.notes if "is not proved" in note]
    assert "or it went" not in note
    assert len(bench.host.sent) == 1
    assert bench.closed() == []


def test_silence_leaves_the_last_resort_blind(bench: Bench) -> None:
    """It knows the audit queue by the nonce record, and would see nothing ever."""
    bench.tries, bench.acts = [QUEUE], ["silent"]
    assert "a rule drops USER_AVC" in str(bench.fails(SelfTestFailed))
    assert bench.closed() == ["close skb_queue_tail", "close socket", "close control"]


# -- what the operator is told -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "rules", "words"),
    [
        (STATUS._replace(enabled=0), RulesCount(5, 5, task_never=False), ["audit is off"]),
        (STATUS, RulesCount(1, 0, task_never=True), ["no audit rule makes events", "-a never,task"]),
        (
            MissingCapability("no"),
            RulesCount(0, 0, task_never=False),
            ["cannot be asked without CAP_AUDIT_CONTROL"],
        ),
        (STATUS._replace(enabled=2), RulesCount(5, 5, task_never=False), []),
    ],
)
def test_state_of_audit(
    bench: Bench, status: AuditStatus | EnricherError, rules: RulesCount, words: list[str]
) -> None:
    bench.status, bench.rules = status, rules
    started = bench.start()
    said = bench.notes[1:]
    assert len(said) == len(words)
    assert all(word in note for word, note in zip(words, said, strict=True))
    assert (started.status is None) == isinstance(status, MissingCapability)


def test_small_receive_buffer(bench: Bench) -> None:
    bench.host.buffer_limited, bench.host.receive_buffer = True, 416 << 10
    bench.start()
    assert any("416 KiB" in note and "CAP_NET_ADMIN" in note for note in bench.notes)


def test_nothing_is_attached_where_ftrace_is_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would succeed, and detaching would switch ftrace off until the next boot."""
    off = Found(Answer.NO, "ftrace is off")
    monkeypatch.setattr("enricher.runtime.startup.features.has_ftrace", lambda: off)
    assert "ftrace is off" in str(bench.fails(NoHook))
    assert (bench.tried, bench.closed()) == ([], [])


def test_no_audit_at_all(bench: Bench) -> None:
    bench.status = AuditUnavailable("no answer")
    bench.fails(AuditUnavailable)
    assert bench.closed() == ["close control"]


# -- what the kernel offers --------------------------------------------------------------------------


class Types:
    def __init__(self, known: set[str]) -> None:
        self.known = known

    def __enter__(self) -> Types:  # noqa: PYI034 - a double
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has_function(self, name: str) -> Found:
        return Found(Answer.YES if name in self.known else Answer.NO, name)


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def make(btf: Answer, *known: str, part: Answer = Answer.NO) -> None:
        monkeypatch.setattr(startup, "library", lambda: None)
        monkeypatch.setattr("enricher.runtime.startup.features.has_btf", lambda: Found(btf, "as told"))
        monkeypatch.setattr("enricher.runtime.startup.features.KernelTypes", lambda _lib: Types(set(known)))
        monkeypatch.setattr("enricher.runtime.startup.features.can_kprobe", lambda name: Found(part, name))

    return make


def test_without_btf_there_is_nothing_to_try(offers: Callable[..., None]) -> None:
    offers(Answer.NO)
    with pytest.raises(NoBtf, match="as told"):
        startup.kernel_candidates(None)


@pytest.mark.parametrize("btf", [Answer.YES, Answer.UNKNOWN])
def test_hooks_of_this_kernel(offers: Callable[..., None], btf: Answer) -> None:
    offers(btf, "audit_log_end", "skb_queue_tail", "__audit_uring_exit")
    found, uring = startup.kernel_candidates(None)
    assert ([candidate.hook for candidate in found], uring) == ([Hook.PLAIN, Hook.QUEUE], True)
    offers(btf, "audit_log_end", part=Answer.YES)
    found, uring = startup.kernel_candidates(None)
    assert ([candidate.hook for candidate in found], uring) == ([Hook.PART], False)


def test_a_hook_asked_for_is_the_only_one(offers: Callable[..., None]) -> None:
    offers(Answer.YES, "audit_log_end")
    found, _ = startup.kernel_candidates(Hook.QUEUE)
    assert [candidate.hook for candidate in found] == [Hook.QUEUE]


def test_stop_takes_all_down() -> None:
    host = Host()
    startup.stop(started_on(host))
    assert host.log == ["close"] * 3
