# SPDX-License-Identifier: Apache-2.0
"""Metrics of queues, destinations, the journal, the helper, the sockets and the programs.

Owns their names and words. Never a value.
"""

from __future__ import annotations

from typing import Final

from enricher.runtime.metrics.exposition import Sample
from enricher.runtime.metrics.sources import (
    Metric,
    Source,
    by,
    failing,
    metadata_runs,
    of_sinks,
    of_status,
    one,
    sink_failing,
    sink_info,
)

_SINK: Final = ("sink",)
_OWN: Final = "the metrics' own server"
_TIMES: Final = (
    "the kernel's account of each program, where `kernel.bpf_stats_enabled` is 1 and the loader is libbpf"
)

ROWS: Final = (
    # -- queues and buffers
    Metric(
        "receive_queue_bytes",
        "gauge",
        "bytes",
        "What waits in the netlink socket, as the kernel counts it",
        one("the socket", lambda reading: reading.queued_bytes),
    ),
    Metric(
        "receive_buffer_bytes",
        "gauge",
        "bytes",
        "The most that can wait there",
        of_status("receive_buffer"),
    ),
    Metric("ring_bytes", "gauge", "bytes", "All rings together", of_status("rings.bytes")),
    # -- the output file
    Metric(
        "output_events_total",
        "counter",
        "events",
        "Events written to the output file",
        of_status("output.written"),
    ),
    Metric(
        "output_waiting_events",
        "gauge",
        "events",
        "Events that wait in memory because the file cannot be written",
        of_status("output.waiting"),
    ),
    Metric(
        "output_lost_events_total",
        "counter",
        "events",
        "Events given up because too many waited",
        of_status("output.failed"),
    ),
    Metric(
        "output_failing",
        "gauge",
        "",
        "1 while the output file cannot be written, else 0",
        failing("output.error"),
    ),
    Metric(
        "output_rotations_total",
        "counter",
        "files",
        "How often a new output file was begun",
        of_status("output.rotations"),
    ),
    # -- destinations
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
        "The same in bytes: of the spool on disk, or of memory",
        of_sinks("waiting_bytes"),
        _SINK,
    ),
    Metric(
        "sink_max_bytes",
        "gauge",
        "bytes",
        "The most that the queue holds",
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
        "1 while the destination cannot be reached, else 0",
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
        "Tries that did not get through",
        of_sinks("errors"),
        _SINK,
    ),
    Metric(
        "sink_bugs_total",
        "counter",
        "tries",
        "Of those, the ones that ended in an error of this program",
        of_sinks("bugs"),
        _SINK,
    ),
    Metric(
        "sink_lost_events_total",
        "counter",
        "events",
        "Events given up for this destination: for want of room, or damaged on disk",
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
    # -- the journal
    Metric("journal_bytes", "gauge", "bytes", "Size on disk", of_status("journal.bytes")),
    Metric(
        "journal_max_bytes", "gauge", "bytes", "The most that it may have", of_status("journal.max_bytes")
    ),
    Metric("journal_events", "gauge", "events", "Events in it", of_status("journal.events")),
    Metric(
        "journal_waiting_events",
        "gauge",
        "events",
        "Events to be written to it",
        of_status("journal.waiting"),
    ),
    Metric("journal_lost_events_total", "counter", "events", "Events given up", of_status("journal.lost")),
    Metric(
        "journal_write_failures_total",
        "counter",
        "writes",
        "Writes that failed",
        of_status("journal.failed"),
    ),
    Metric(
        "journal_failing",
        "gauge",
        "",
        "1 while it cannot be written, else 0",
        failing("journal.error"),
    ),
    # -- what runtimes know of containers
    Metric(
        "metadata_running",
        "gauge",
        "",
        "1 while there is a process that reads runtimes' state files, 0 where it ended or could not be started; absent"
        " where it is not wanted",
        Source("status: `metadata.state`", metadata_runs),
    ),
    Metric(
        "metadata_requests_total",
        "counter",
        "requests",
        "Requests to that process",
        of_status("metadata.asked"),
    ),
    Metric(
        "metadata_answers_total",
        "counter",
        "requests",
        "What became of them",
        by(
            "metadata",
            answered="answered",
            unknown="unknown",
            timed_out="timed_out",
            crashed="crashed",
            failed="failed",
        ),
        ("result",),
    ),
    Metric(
        "metadata_not_asked_total",
        "counter",
        "requests",
        "Containers that were not asked about, by reason: an owner that had made the reader hang or die; want of room;"
        " gone before any event",
        by("metadata", refused="refused", room="dropped+overfull", short_lived="short_lived"),
        ("reason",),
    ),
    Metric(
        "metadata_waiting_requests",
        "gauge",
        "requests",
        "Requests that wait",
        by("metadata", sent="waiting", unsent="pending"),
        ("state",),
    ),
    Metric("metadata_containers", "gauge", "containers", "Answers that are held", of_status("metadata.held")),
    # -- the control socket and this one
    Metric("followers", "gauge", "clients", "Who follows now", of_status("followers")),
    Metric(
        "follower_skipped_events_total",
        "counter",
        "events",
        "Events that a slow follower did not get",
        of_status("control.skipped"),
    ),
    Metric(
        "control_refusals_total",
        "counter",
        "clients",
        "Requests and clients of the control socket that were not served, by reason",
        by(
            "control",
            refused="refused",
            oversized="oversized",
            crowded_out="crowded_out",
            turned_away="turned_away",
            unaccepted="unaccepted",
        ),
        ("reason",),
    ),
    Metric(
        "scrapes_total",
        "counter",
        "requests",
        "Scrapes, this one included",
        one(_OWN, lambda reading: reading.server["scrapes"]),
    ),
    Metric(
        "scrape_refusals_total",
        "counter",
        "clients",
        "Other requests and clients of the metrics' server, by reason: no GET of /metrics; gone for a newer one; no"
        " descriptor",
        Source(
            _OWN,
            lambda reading: [
                Sample((name,), reading.server[name]) for name in ("refused", "crowded_out", "unaccepted")
            ],
        ),
        ("reason",),
    ),
    Metric(
        "scrape_seconds_total",
        "counter",
        "seconds",
        "What earlier scrapes cost the service; who asks again within half a second gets the same text",
        one(_OWN, lambda reading: reading.server["seconds"]),
    ),
    # -- the programs
    Metric(
        "bpf_run_seconds_total",
        "counter",
        "seconds",
        "How long a program ran while the kernel measured it",
        Source(
            _TIMES,
            lambda reading: [Sample((name,), time / 1e9) for name, (time, _) in reading.run_times.items()],
        ),
        ("program",),
    ),
    Metric(
        "bpf_runs_total",
        "counter",
        "runs",
        "How often a program ran while the kernel measured it",
        Source(
            _TIMES, lambda reading: [Sample((name,), runs) for name, (_, runs) in reading.run_times.items()]
        ),
        ("program",),
    ),
)
