# SPDX-License-Identifier: Apache-2.0
"""What our side of a comparison must be like. Owns the assertions that `make accuracy` and `make test` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.accuracy.matrix import OURS
from tests.accuracy.rows import Claim, claim

if TYPE_CHECKING:
    from tests.accuracy.matrix import Outcome


def hold(outcome: Outcome, hierarchy: str = "unified") -> None:
    """Nothing wrong, nothing lost; everything right, and each container named in the end, where that is claimed."""
    ours = outcome.scores[OURS]
    assert outcome.account.balanced, outcome.said
    assert ours.total("events") > 0
    for tally in ours.tallies:
        claimed = claim(tally.row, hierarchy)
        assert tally.lost == tally.doubled == 0, (tally, outcome.said)
        assert tally.wrong == 0, (tally, ours.samples)
        if claimed is Claim.RIGHT:
            assert tally.right == tally.events, (tally, ours.samples)
    unnamed = [each for each in ours.unnamed if claim(each.row, hierarchy) is Claim.RIGHT]
    assert unnamed == [], "the last event of these has no name"
