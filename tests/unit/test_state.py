# SPDX-License-Identifier: Apache-2.0
"""What a run leaves for the next, and the gap between the two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.correlate.ledger import Gap
from enricher.runtime import state
from enricher.runtime.state import Left, gap_before

BOOT = "0b6c8f3e-1d2c-4c57-9a51-3f7a6b1c0d2e"
LEFT = Left(BOOT, 4711, closed=True, hook="audit_log_end", release="6.1.0")


def test_what_is_left_is_found(tmp_path: Path) -> None:
    assert state.load(str(tmp_path)) is None
    for left in (LEFT, LEFT._replace(serial=0, closed=False)):
        state.save(str(tmp_path), left)
        assert state.load(str(tmp_path)) == left
    assert [path.name for path in tmp_path.iterdir()] == [state.NAME]
    assert (tmp_path / state.NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps({"version": 2, **LEFT._asdict()}).encode(),
        json.dumps({"version": 1, **LEFT._asdict(), "serial": "4711"}).encode(),
        json.dumps({"version": 1, **LEFT._asdict(), "serial": True}).encode(),
        json.dumps({"version": 1, **LEFT._asdict(), "serial": -1}).encode(),
        json.dumps({"version": 1, **LEFT._asdict(), "serial": 1 << 32}).encode(),
        json.dumps({"version": 1, **LEFT._asdict(), "more": 1}).encode(),
        json.dumps({"version": 1, **LEFT._asdict()}).encode()[:-9],
    ],
)
def test_a_damaged_file_is_told_from_none(tmp_path: Path, content: bytes) -> None:
    """Or removing what a run left would hide what was done while it was down."""
    (tmp_path / state.NAME).write_bytes(content)
    with pytest.raises(state.Unreadable, match=r"damaged|another version"):
        state.load(str(tmp_path))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / state.NAME).mkdir()
    with pytest.raises(state.Unreadable, match="Is a directory"):
        state.load(str(tmp_path))


def test_what_cannot_be_saved_leaves_the_old(tmp_path: Path) -> None:
    state.save(str(tmp_path), LEFT)
    (tmp_path / state.NAME).with_suffix(".new").mkdir()
    with pytest.raises(OSError, match="directory"):
        state.save(str(tmp_path), LEFT._replace(serial=1))
    assert state.load(str(tmp_path)) == LEFT


@pytest.mark.parametrize(
    ("start", "left", "gap"),
    [
        (None, LEFT, None),
        (4720, None, None),
        (4720, LEFT, Gap(4712, 4719, "restart")),
        (4720, LEFT._replace(closed=False), Gap(4712, 4719, "crash")),
        (4713, LEFT, Gap(4712, 4712, "restart")),
        (4712, LEFT, None),
        (4711, LEFT, Gap(4712, 4710, "restart")),  # once round
        (200 + (1 << 31), LEFT, Gap(4712, 199 + (1 << 31), "restart")),  # more than half of all serials
        (9, LEFT._replace(boot_id="another"), Gap(1, 8, "boot")),
        (1, LEFT._replace(boot_id="another"), None),
        (3, LEFT._replace(serial=(1 << 32) - 2), Gap((1 << 32) - 1, 2, "restart")),
        (0, LEFT._replace(serial=(1 << 32) - 2), Gap((1 << 32) - 1, (1 << 32) - 1, "restart")),
    ],
)
def test_the_gap(start: int | None, left: Left | None, gap: Gap | None) -> None:
    assert gap_before(start, left, BOOT) == gap


@given(st.integers(0, (1 << 32) - 1), st.integers(1, (1 << 32) - 1))
def test_the_gap_is_all_between_the_two(last: int, away: int) -> None:
    found = gap_before((last + away) % (1 << 32), LEFT._replace(serial=last), BOOT)
    assert (found.events if found else 0) == away - 1
