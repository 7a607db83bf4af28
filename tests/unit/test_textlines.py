# SPDX-License-Identifier: Apache-2.0
"""The short way to audit text gives what the long one does, and leaves to it what has more to say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.cli.replay import NOWHERE
from enricher.correlate.logjoin import FROM_LOG
from enricher.facts import Beside, PacketNet
from enricher.model import ContextFlag, Event, Recalled, Record
from enricher.route.views import audit_text, textlines
from enricher.route.views.audit_text import AuditText
from tests.unit.sample_events import BOX_INUMS, HOST, context

STAMP = b"1772366400.042:7"


def event_of(*records: tuple[int, bytes, bool]) -> Event:
    event = Event(STAMP, 0.0)
    event.complete = None
    event.reason = FROM_LOG
    event.records = [
        Record(number, b"audit(%b):%b" % (STAMP, body), truncated) for number, body, truncated in records
    ]
    return event


def both(event: Event) -> tuple[bytes, bytes]:
    """What `render` gives, and what it gives without the short way."""
    text = AuditText(NOWHERE)
    short = text.render(event)
    before = textlines.bare
    audit_text.textlines.bare = lambda _: None  # type: ignore[attr-defined]
    try:
        return short, text.render(event)
    finally:
        audit_text.textlines.bare = before  # type: ignore[attr-defined]


def put(**members: object) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        for name, value in members.items():
            setattr(event, name, value)

    return change


def say(body: bytes, *, truncated: bool = False) -> Callable[[Event], None]:
    """Its last record says this."""

    def change(event: Event) -> None:
        last = event.records[-1]
        event.records[-1] = Record(last.type, b"audit(%b):%b" % (STAMP, body), truncated)

    return change


RECALLED = Recalled(HOST, 2, 7312, b"/a", None, BOX_INUMS, (0,) * 10, b"key")
PACKET = Beside(packet=PacketNet(STAMP, 81, 1324, BOX_INUMS[3], 0))
ODD: dict[str, Callable[[Event], None]] = {
    "complete": put(complete=True),
    "incomplete": put(complete=False),
    "context": put(context=context()),
    "bystander": put(context=context(flags=ContextFlag.INTERRUPT)),
    "recalled": put(recalled=RECALLED),
    "packet": put(beside=PACKET),
    "node": put(node=b"web 1"),
    "part": put(part=3),
    "self_caused": put(self_caused=True),
    "truncated": say(b" a=b", truncated=True),
    **{
        f"says {body!r}": say(body) for body in (b" \x1b[31m", b" a\nb", b" \x7f", b" \xc3\xa9", b" \xc2\x9b")
    },
}
"""One thing that a usual event does not have; the long way says more of each, so a short one differs."""

plain = st.sampled_from([b" a=b", b"", b" tab\there", b' "x"'])
# Those that decide where our line stands often come twice.
kinds = st.sampled_from([1300, 1300, 1327, 1327, 1320, 1320, 1309, 1400, 1100, 0, 9999])
usual = st.lists(st.tuples(kinds, plain, st.just(False)), max_size=7).map(tuple)  # noqa: FBT003
reasons = st.sampled_from([FROM_LOG, "", 'a "b"\tc'])


@given(usual, reasons)
@settings(max_examples=300)
def test_both_ways_give_the_same(found: tuple[tuple[int, bytes, bool], ...], reason: str) -> None:
    event = event_of(*found)
    event.reason = reason
    assert textlines.bare(event) is not None
    short, long = both(event)
    assert short == long


@pytest.mark.parametrize("odd", ODD)
@given(usual.filter(bool), reasons)
@settings(max_examples=20)
def test_both_ways_give_the_same_where_there_is_more(
    odd: str, found: tuple[tuple[int, bytes, bool], ...], reason: str
) -> None:
    event = event_of(*found)
    event.reason = reason
    ODD[odd](event)
    short, long = both(event)
    assert short == long


def test_the_usual_event_goes_the_short_way() -> None:
    event = event_of(*[(number, b" a=b", False) for number in (1300, 1309, 1307, 1302, 1327, 1320)])
    made = textlines.bare(event)
    assert made is not None
    assert made == AuditText(NOWHERE).render(event)
    assert [line.split(b" ")[0] for line in made.splitlines()] == [
        *(b"type=SYSCALL", b"type=EXECVE", b"type=CWD", b"type=PATH", b"type=UNKNOWN[1390]"),
        *(b"type=PROCTITLE", b"type=EOE"),
    ]


def test_what_says_more_does_not() -> None:
    assert textlines.bare(event_of((1300, b" \x1b", False))) is None
    assert textlines.bare(event_of((1300, b" a\nb", False))) is None
    assert textlines.bare(event_of((1300, b" a", True))) is None
    whole = event_of((1300, b" a", False))
    whole.complete = True
    assert textlines.bare(whole) is None


def test_reasons_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textlines, "_ends", {})
    for number in range(200):
        event = event_of((1300, b" a", False))
        event.reason = f"number {number}"
        assert b'reason="number_%d"' % number in (textlines.bare(event) or b"")
    assert len(textlines._ends) <= 64
