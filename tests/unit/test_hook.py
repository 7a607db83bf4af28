# SPDX-License-Identifier: Apache-2.0
"""Which hooks are tried, for every answer that the kernel may give."""

from __future__ import annotations

import itertools

import pytest

from enricher.config.settings import HOOK
from enricher.errors import NoHook
from enricher.sources.bpf.features import Answer, Found
from enricher.sources.bpf.hook import CAVEATS, PROGRAM, Hook, candidates

Y, N, U = (Found(answer, f"because {answer.value}") for answer in Answer)
PLAIN, PART, QUEUE = Hook.PLAIN, Hook.PART, Hook.QUEUE


def tried(plain: Found, part: Found, queue: Found) -> list[Hook]:
    return [candidate.hook for candidate in candidates(plain, part, queue)]


@pytest.mark.parametrize(
    ("plain", "part", "queue", "expected"),
    [
        # One function: it sees all. Split: the plain symbol would miss records, and is no candidate.
        (Y, N, Y, [PLAIN, QUEUE]),
        (Y, Y, Y, [PART, QUEUE]),
        (N, Y, Y, [PART, QUEUE]),
        (U, Y, N, [PART]),
        # Could not tell is not no: tried, and proved or not by the self-test.
        (Y, U, Y, [PLAIN, PART, QUEUE]),
        (U, U, U, [PLAIN, PART, QUEUE]),
        (U, N, N, [PLAIN]),
        (N, U, N, [PART]),
        (N, U, Y, [PART, QUEUE]),
        (N, N, U, [QUEUE]),
        (N, N, Y, [QUEUE]),
        (Y, N, N, [PLAIN]),
    ],
)
def test_choice(plain: Found, part: Found, queue: Found, expected: list[Hook]) -> None:
    assert tried(plain, part, queue) == expected


def test_nothing_left() -> None:
    with pytest.raises(NoHook) as caught:
        candidates(N, Found(Answer.NO, "no part"), Found(Answer.NO, "no queue"))
    assert "because no; no part; no queue" in caught.value.message
    assert "CONFIG_AUDIT" in caught.value.hint


def test_no_hook_is_tried_that_is_known_not_to_be_there_and_none_twice() -> None:
    for plain, part, queue in itertools.product((Y, N, U), repeat=3):
        if plain.no and part.no and queue.no:
            continue
        hooks = tried(plain, part, queue)
        absent = {
            hook for hook, found in zip((PLAIN, PART, QUEUE), (plain, part, queue), strict=True) if found.no
        }
        assert not absent & set(hooks)
        assert len(set(hooks)) == len(hooks)
        assert PLAIN not in hooks or not part.yes
        assert (QUEUE in hooks) == (not queue.no)
        assert QUEUE not in hooks[:-1]


def test_reasons_are_given() -> None:
    doubtful = candidates(Y, Found(Answer.UNKNOWN, "no kallsyms"), N)
    assert all("no kallsyms" in candidate.reason for candidate in doubtful)
    assert "one function" in candidates(Y, N, N)[0].reason
    assert "split" in candidates(Y, Y, N)[0].reason
    assert "last resort" in candidates(N, N, Y)[0].reason


def test_every_hook_has_its_program_and_its_caveat() -> None:
    assert set(PROGRAM) == set(CAVEATS) == set(Hook)
    assert len(set(PROGRAM.values())) == len(Hook)
    assert [hook for hook in Hook if CAVEATS[hook]] == [QUEUE]


def test_the_setting_offers_every_hook() -> None:
    assert HOOK.kind.metavar.split("|") == ["auto", *(hook.value for hook in Hook)]
