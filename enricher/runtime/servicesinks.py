# SPDX-License-Identifier: Apache-2.0
"""The service's destinations: those of any program that lives long, and their reload.

Owns that output and destinations go over to other settings together, or not at all. Never touches an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.errors import EnricherError
from enricher.runtime.destinations import Destinations, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.config.load import Settings
    from enricher.model import HostFacts
    from enricher.runtime.serviceoutput import ServiceOutput
    from enricher.sources.names import Names


class ServiceSinks(Destinations):
    """`output` hands its events to the routes from `open` on."""

    def __init__(
        self,
        output: ServiceOutput,
        facts: HostFacts,
        names: Names,
        state: str,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(output, facts, names, state, say)
        self._output = output

    def reload(self, settings: Settings) -> list[str]:
        """Go over to these, and the output as well; returns the tables that changed.

        Raises EnricherError, and then nothing has changed.
        """
        if self.routes is None and not settings.sinks:
            self._output.reload(settings)
            return []
        wanted = read(settings)
        change = (self.routes or self.make([])).prepare(wanted)
        try:
            self._output.reload(settings)
        except EnricherError:
            change.cancel()
            raise
        return [f"sinks.{name}" for name in change.commit()]
