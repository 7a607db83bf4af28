# SPDX-License-Identifier: Apache-2.0
"""Metrics of each destination beside the output file, by its name.

Owns their names and words. Never a value.
"""

from __future__ import annotations

from typing import Final

from enricher.runtime.metrics.sources import Metric, Source, of_sinks, sink_failing, sink_info

_SINK: Final = ("sink",)

ROWS: Final = (
    Metric(
        "sink_info",
        "gauge",
        "",
        "1, with what a destination is",
        Source("status: `type`, `schema`, `queue` of each of `sinks`", sink_info),
        ("sink", "type", "schema", "queue"),
    ),
    Metric(
        "sink_waiting_events",
        "gauge",
        "events",
        "Depth of the destination's queue: what its receiver has not taken yet",
        of_sinks("waiting"),
        _SINK,
    ),
    Metric(
        "sink_waiting_bytes",
        "gauge",
        "bytes",
        "What waits in the destination's queue: bytes of the spool on disk, or of memory",
        of_sinks("waiting_bytes"),
        _SINK,
    ),
    Metric(
        "sink_max_bytes",
        "gauge",
        "bytes",
        "The most that the destination's queue holds; bytes, of disk or of memory",
        of_sinks("max_bytes"),
        _SINK,
    ),
    Metric(
        "sink_oldest_waiting_seconds",
        "gauge",
        "seconds",
        "Age of the event that waits longest of those that were tried, 0 where none does",
        of_sinks("oldest_seconds"),
        _SINK,
    ),
    Metric(
        "sink_failing",
        "gauge",
        "",
        "1 while the destination cannot be reached, or its queue or its file of refused events not be written; else 0",
        Source("status: `error` of each of `sinks`", sink_failing),
        _SINK,
    ),
    Metric(
        "sink_sent_events_total",
        "counter",
        "events",
        "Events given to the sender, for the first time or again",
        of_sinks("sent"),
        _SINK,
    ),
    Metric(
        "sink_taken_events_total",
        "counter",
        "events",
        "Events that the receiver took",
        of_sinks("taken"),
        _SINK,
    ),
    Metric(
        "sink_refused_events_total",
        "counter",
        "events",
        "Events that the receiver refused for ever",
        of_sinks("refused"),
        _SINK,
    ),
    Metric(
        "sink_retried_events_total",
        "counter",
        "events",
        "Events that were sent again",
        of_sinks("retries"),
        _SINK,
    ),
    Metric(
        "sink_errors_total",
        "counter",
        "tries",
        "Tries to deliver that did not get through",
        of_sinks("errors"),
        _SINK,
    ),
    Metric(
        "sink_bugs_total",
        "counter",
        "tries",
        "Tries to deliver that ended in an error of this program",
        of_sinks("bugs"),
        _SINK,
    ),
    Metric(
        "sink_lost_events_total",
        "counter",
        "events",
        "Events given up for this destination: for want of room, damaged on disk, or not to be told in its schema",
        of_sinks("lost"),
        _SINK,
    ),
    Metric(
        "sink_unsure_events_total",
        "counter",
        "events",
        "Events that a receiver without acknowledgements may not have got: an upper bound",
        of_sinks("unsure"),
        _SINK,
    ),
    Metric(
        "sink_unheard_events_total",
        "counter",
        "events",
        "Events that came to a Unix socket while nobody was connected: they are taken, and nobody has them",
        of_sinks("unheard"),
        _SINK,
    ),
)
