# SPDX-License-Identifier: Apache-2.0
"""What every unit test gets: each native event that is built keeps to the published schema."""

from __future__ import annotations

import pytest

from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.model import Event
from tests import schema


@pytest.fixture(autouse=True)
def every_native_event_keeps_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked = NativeBuilder.build

    def build(self: NativeBuilder, event: Event) -> NativeEvent:
        native = unchecked(self, event)
        schema.validate(native)
        return native

    monkeypatch.setattr(NativeBuilder, "build", build)
