# SPDX-License-Identifier: Apache-2.0
"""What the tests know of ECS is what its publishers say. For `make soak-schemas`: it fetches their package."""

from __future__ import annotations

import pytest

from tests.unit import ecs_package
from tests.unit.ecs_fields import CATEGORIES, FIELDS, KINDS, OUTCOMES

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]


def test_every_field_that_we_use_is_one_and_of_that_type() -> None:
    published = ecs_package.fields()
    assert len(published) > 2000
    assert {name: published.get(name) for name in FIELDS} == FIELDS


def test_the_words_are_those_that_are_allowed() -> None:
    assert set(ecs_package.words("event.kind")) == KINDS
    assert set(ecs_package.words("event.outcome")) == OUTCOMES
    published = ecs_package.words("event.category")
    assert {name: published[name] for name in CATEGORIES} == CATEGORIES
