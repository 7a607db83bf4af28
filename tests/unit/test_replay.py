# SPDX-License-Identifier: Apache-2.0
"""A capture written by a run on the fake host, replayed: the same bytes, however much went wrong in the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enricher.correlate import join
from enricher.correlate.ledger import words
from enricher.errors import AuditUnavailable, DamagedInput
from enricher.model import Batch
from enricher.runtime.output import Wanted
from enricher.runtime.selftest import Proof
from enricher.runtime.stages import Stages
from enricher.sources.capture import Answer, CaptureReader, Head, Stop
from tests import schema
from tests.unit.sample_stream import stamp

if TYPE_CHECKING:
    pass
from tests.unit.sample_replay import (
    ACTS,
    Act,
    Live,
    after,
    again,
    answered,
    events,
    gap,
    helped,
    helpers,
    login,
    made,
    parts,
    pause,
    removed,
    renamed,
    renamed_unseen,
    same_twice,
)


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    return Live(tmp_path, monkeypatch)


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
    assert schema.parse(found)[-1]["lost"]["records"] == 4


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
