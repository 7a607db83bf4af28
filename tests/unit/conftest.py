# SPDX-License-Identifier: Apache-2.0
"""What every unit test gets: each native event that is built keeps to the published schema."""

from __future__ import annotations

import pytest

from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.model import Event
from enricher.route.views.native_json import NativeJson, render
from tests import schema


@pytest.fixture(autouse=True)
def every_native_event_keeps_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked = NativeBuilder.build

    def build(self: NativeBuilder, event: Event) -> NativeEvent:
        native = unchecked(self, event)
        schema.validate(native)
        return native

    monkeypatch.setattr(NativeBuilder, "build", build)


@pytest.fixture(autouse=True)
def every_line_of_json_is_that_of_the_native_event(monkeypatch: pytest.MonkeyPatch) -> None:
    short = NativeJson.line

    def line(self: NativeJson, event: Event) -> bytes:
        made = short(self, event)
        assert made == render(self._builder.build(event))
        return made

    monkeypatch.setattr(NativeJson, "line", line)


@pytest.fixture(autouse=True)
def the_tests_own_variables_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the guests' kernels are kept is said in a variable that to the program is a setting it does not know."""
    for name in ("AUDIT_ENRICHER_CACHE", "AUDIT_ENRICHER_ACCEL", "AUDIT_ENRICHER_TCG"):
        monkeypatch.delenv(name, raising=False)
