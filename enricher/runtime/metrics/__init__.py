# SPDX-License-Identifier: Apache-2.0
"""Figures of the service for Prometheus: every metric is a row, declared once.

From the rows derive what is scraped and docs/metrics.md (tools/gen_docs.py). Owns their order. Never counts anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.runtime.metrics import of_destinations, of_outputs, of_records
from enricher.runtime.metrics.exposition import Family
from enricher.runtime.metrics.sources import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.runtime.metrics.sources import Reading

METRICS: Final = (*of_records.ROWS, *of_outputs.ROWS, *of_destinations.ROWS)
"""In the order of the documentation and of the text."""


def families(reading: Reading) -> Iterable[Family]:
    """Return every metric's series."""
    for row in METRICS:
        yield Family(PREFIX + row.name, row.kind, row.help, row.labels, row.source.samples(reading))
