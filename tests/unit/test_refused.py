# SPDX-License-Identifier: Apache-2.0
"""Messages that the kernel refused: their senders may write what they like."""

from __future__ import annotations

import json
import struct

import pytest

from enricher.enrich.refused import refused_entry
from enricher.facts import Refused
from enricher.sources.bpf import wire, wirefacts
from tests.unit.sample_events import context

PAM = b'op=PAM:authentication grantors=pam_unix acct="root" exe="/bin/su" hostname=? addr=? terminal=pts/0 res=failed'


def refused(text: bytes, record_type: int = 1100, length: int | None = None) -> Refused:
    who = context()
    return Refused(who.time, who, record_type, len(text) if length is None else length, text, 100005, 100006)


def test_a_message_of_pam_is_a_text() -> None:
    assert refused_entry(refused(PAM + b"\0")) == {
        "type": "USER_AUTH",
        "text": PAM.decode(),
        "length": len(PAM) + 1,
    }


@pytest.mark.parametrize(
    ("text", "shown", "exact"),
    [
        (b"\xff\xfe", "\ufffd\ufffd", "FFFE"),
        (b"a\0b\n\x1b[2J", "a\0b\n\x1b[2J", None),
        ("größe".encode(), "größe", None),
        ("größe".encode()[:3], "gr\ufffd", "6772C3"),  # cut in the middle
        (b"audit(1.000:1): pid=1 uid=0 msg='x'", "audit(1.000:1): pid=1 uid=0 msg='x'", None),
    ],
)
def test_hostile_text_is_kept_and_nothing_is_read_in_it(text: bytes, shown: str, exact: str | None) -> None:
    entry = refused_entry(refused(text))
    assert (entry["text"], entry.get("text_hex")) == (shown, exact)
    assert set(entry) <= {"type", "text", "text_hex", "length"}
    assert "\n" not in json.dumps(entry)


@pytest.mark.parametrize(("number", "name"), [(1000, "GET"), (1011, "ADD_RULE"), (65535, "UNKNOWN[65535]")])
def test_a_command_has_no_text(number: int, name: str) -> None:
    assert refused_entry(refused(b"", number, 40)) == {"type": name, "text": "", "length": 40}


def test_a_long_message_says_how_long_it_was() -> None:
    entry = refused_entry(refused(b"x" * 1024, length=8000))
    assert (len(entry["text"]), entry["length"]) == (1024, 8000)


@pytest.mark.parametrize("size", [0, 5, 1024])
def test_the_message_from_the_kernel_side_has_its_text_and_no_old_bytes(size: int) -> None:
    who = struct.pack("=HHIQ", wirefacts.EVENT_REFUSED, wire.EVENT_VERSION, 1520, 4711)
    who = who.ljust(wire.SIZES["context_deep_event"], b"\0")
    raw = who + struct.pack("=IIHHI", 100005, 100006, 1100, size, 3000) + b"x" * size + b"o" * (1024 - size)
    assert len(raw) in wirefacts.SIZES[wirefacts.EVENT_REFUSED]
    fact = wirefacts.DECODERS[wirefacts.EVENT_REFUSED](raw, 0)
    assert isinstance(fact, Refused)
    assert (fact.time, fact.record_type, fact.length, fact.text) == (4711, 1100, 3000, b"x" * size)
    assert (fact.uid, fact.gid) == (100005, 100006)
