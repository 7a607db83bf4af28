# SPDX-License-Identifier: Apache-2.0
"""The short way to audit text gives what the long one does, and leaves to it what has more to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from enricher.cli.replay import NOWHERE
from enricher.correlate.logjoin import FROM_LOG
from enricher.model import Event, Record
from enricher.route.views import audit_text, textlines
from enricher.route.views.audit_text import AuditText

if TYPE_CHECKING:
    import pytest

STAMP = b"1772366400.042:7"
TYPES = [1300, 1302, 1307, 1309, 1320, 1327, 1400, 1100, 0, 9999]
BODIES = [
    b" a=b",
    b"",
    b" tab\there",
    b" \x1b[31m",
    b" a\nb",
    b" \x7f",
    b" \xc3\xa9",
    b" \xc2\x9b",
    b' x\x1dNAME="y"',
]


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


# Most are of the usual kind: one that is not sends the whole event the long way.
records = st.tuples(
    st.sampled_from([*TYPES[:6], *TYPES]),
    st.sampled_from([*BODIES[:1] * 60, *BODIES]),
    st.sampled_from([*[False] * 30, True]),
)


@given(
    st.lists(records, max_size=6),
    st.sampled_from([*[None] * 10, True, False]),
    st.sampled_from([*[b""] * 10, b"web 1"]),
    st.sampled_from([*[1] * 10, 3]),
    st.sampled_from([*[False] * 10, True]),
    st.sampled_from([FROM_LOG, "", 'a "b"\tc']),
)
def test_both_ways_give_the_same(  # noqa: PLR0913 - what an event differs in
    found: list[tuple[int, bytes, bool]],
    complete: bool | None,  # noqa: FBT001
    node: bytes,
    part: int,
    own: bool,  # noqa: FBT001
    reason: str,
) -> None:
    event = event_of(*found)
    event.complete, event.node, event.part, event.self_caused, event.reason = (
        complete,
        node,
        part,
        own,
        reason,
    )
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
