# SPDX-License-Identifier: Apache-2.0
"""What a nonce record proves, by what comes back of it on which side."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from enricher.errors import MissingCapability
from enricher.runtime.selftest import Proof, Trial, new_nonce, send_and_wait
from tests.unit.fake_host import OTHER, USER_AVC, Host, install
from tests.unit.sample_stream import alone, record

NONCE = b"0123456789abcdef"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    install(made, monkeypatch)
    return made


def prove(host: Host, word: bytes = b"start") -> Trial:
    ends = cast("Any", host)
    return send_and_wait(NONCE, word, ends, ends, ends, os.getpid())


def test_nonces_are_sixteen_characters_and_never_the_same() -> None:
    assert len(new_nonce()) == 16
    assert len({new_nonce() for _ in range(100)}) == 100


def test_proved(host: Host) -> None:
    assert prove(host)[:2] == (Proof.PROVED, 101)
    (sent,) = host.sent
    assert b"nonce=" + NONCE in sent
    assert b"op=audit-enricher-start" in sent
    assert host.now == 50.0


def test_hook_missed_it(host: Host) -> None:
    """What it saw of others is no proof: those are the records that the plain symbol does not miss."""
    host.event()
    host.hook_sees = False
    assert prove(host)[:2] == (Proof.HOOK_MISSED, 102)
    assert host.now == 50.0, "the record was received: there is nothing to wait for"


def test_not_delivered(host: Host) -> None:
    """The hook has its serial all the same, which can bound a run."""
    host.delivers = False
    assert prove(host)[:2] == (Proof.NOT_DELIVERED, 101)
    assert host.now == pytest.approx(53.0)


def test_one_that_stood_still_looks_before_it_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its time passed between sending and the first look, and what came of it was there."""
    fileno = host.fileno

    def stands_still() -> int:
        host.now += 1000.0
        return fileno()

    monkeypatch.setattr(host, "fileno", stands_still)
    assert prove(host)[:2] == (Proof.PROVED, 101)


def test_whoever_brings_records_has_gone(host: Host) -> None:
    """It is readable for ever then, and nothing will come: not waited for."""
    host.delivers = False
    host.script = [lambda: setattr(host, "ended", True)]
    assert prove(host)[:2] == (Proof.NOT_DELIVERED, 101)
    assert host.now < 50.1


def test_silent(host: Host) -> None:
    host.delivers = host.hook_sees = False
    assert prove(host)[:2] == (Proof.SILENT, None)
    assert host.now == pytest.approx(53.0)


def test_other_programs_messages_prove_nothing(host: Host) -> None:
    host.delivers = host.hook_sees = False

    def others() -> None:
        host.delivers = host.hook_sees = True
        said = b"pid=4711 uid=0 msg='nonce=fedcba9876543210 op=audit-enricher-start'"
        host.finish(record(150, USER_AVC, said), alone(150)._replace(pid=OTHER, record_type=USER_AVC))
        host.finish(alone(151)._replace(pid=os.getpid(), record_type=1300))
        # The nonce in a record of another type is somebody's file name.
        host.finish(record(152, 1302, b'name="nonce=' + NONCE + b'"'), alone(152))

    host.script.append(others)
    trial = prove(host)
    assert trial[:2] == (Proof.SILENT, None)
    assert (len(trial.records), len(trial.contexts)) == (2, 3)


def test_context_behind_an_uncommitted_reservation_is_waited_for(host: Host) -> None:
    host.hidden_for = 3
    assert prove(host).proof is Proof.PROVED
    assert host.now < 50.1
    assert max(host.waits[1:]) == 0.001


def test_a_reservation_never_committed_ends_the_wait(host: Host) -> None:
    host.hidden_for = 1_000_000
    assert prove(host).proof is Proof.HOOK_MISSED
    assert host.now == pytest.approx(53.0, abs=0.01)


def test_everything_read_meanwhile_is_handed_on(host: Host) -> None:
    host.batch = 4
    before = [host.event() for _ in range(5)]
    trial = prove(host)
    assert trial[:2] == (Proof.PROVED, 106)
    assert [each.text[-7:] for each in trial.records[:-1]] == [b" item=0", b" item=1"] * 5
    assert len(trial.contexts) == 6
    assert [each.stamp[-3:] for each in trial.tallies] == [b"%d" % serial for serial in before]


def test_rings_are_drained_after_each_batch(host: Host) -> None:
    """In three seconds of a burst they would run over."""
    host.batch = 4
    for _ in range(5):
        host.event()
    prove(host)
    assert host.log == ["receive", "drain"] * 3


def test_drops_are_those_before_the_nonce_was_sent(host: Host) -> None:
    """What is dropped while it is under way is of the run."""
    host.dropped = 7
    host.delivers = False
    host.script = [lambda: setattr(host, "dropped", 9)]
    assert prove(host).drops == 7


def test_refusal_is_passed_on(host: Host) -> None:
    host.refusal = MissingCapability("CAP_AUDIT_WRITE is missing")
    with pytest.raises(MissingCapability):
        prove(host)
