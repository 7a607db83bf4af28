# SPDX-License-Identifier: Apache-2.0
"""A suite's test is done again only where an account says that the kernel skipped a program."""

from __future__ import annotations

import pytest

from tests.suites import live

SKIPPED = "lost: facts beside records  0 for want of room, 2 where a program was skipped"
ROOM = "lost: facts beside records  3 for want of room, 0 where a program was skipped"


@pytest.mark.parametrize("failure", [AssertionError, KeyError, ValueError])
@pytest.mark.parametrize(
    ("said", "bad", "done"),
    [(SKIPPED, 1, 2), (SKIPPED, 2, 3), (SKIPPED, 9, 3), (ROOM, 1, 1), ("", 1, 1), (SKIPPED, 0, 1)],
)
def test_again(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception], said: str, bad: int, done: int
) -> None:
    accounts: list[str] = []
    monkeypatch.setattr(live, "_said", accounts)
    runs = 0

    @live.again_where_skipped
    def check() -> None:
        nonlocal runs
        runs += 1
        accounts.append(f"events  1\n{said}\nevery record is accounted for")
        if runs <= bad:
            raise failure

    if runs_out := done <= bad:
        with pytest.raises(failure):
            check()
    else:
        check()
    assert runs == done, runs_out
