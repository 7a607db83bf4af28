# SPDX-License-Identifier: Apache-2.0
"""Metrics of buffers, the output file, the journal, the helper, the sockets and the programs.

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
    of_status,
    one,
)

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
        "The most that can wait in the netlink socket",
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
        "Events given up because too many waited for the output file",
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
    # -- the journal
    Metric(
        "journal_bytes",
        "gauge",
        "bytes",
        "Size of the journal on disk, with its write-ahead log",
        of_status("journal.bytes"),
    ),
    Metric(
        "journal_max_bytes",
        "gauge",
        "bytes",
        "The most that the journal may take on disk",
        of_status("journal.max_bytes"),
    ),
    Metric("journal_events", "gauge", "events", "Events in the journal", of_status("journal.events")),
    Metric(
        "journal_waiting_events",
        "gauge",
        "events",
        "Events that wait to be written to the journal",
        of_status("journal.waiting"),
    ),
    Metric(
        "journal_lost_events_total",
        "counter",
        "events",
        "Events given up for the journal",
        of_status("journal.lost"),
    ),
    Metric(
        "journal_write_failures_total",
        "counter",
        "writes",
        "Writes to the journal that failed",
        of_status("journal.failed"),
    ),
    Metric(
        "journal_failing",
        "gauge",
        "",
        "1 while the journal cannot be written, else 0",
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
        "Requests to the process that reads runtimes' state files",
        of_status("metadata.asked"),
    ),
    Metric(
        "metadata_answers_total",
        "counter",
        "requests",
        "What became of the requests to the process that reads runtimes' state files",
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
        "Requests to the process that reads runtimes' state files that wait: for its answer, or to be sent",
        by("metadata", sent="waiting", unsent="pending"),
        ("state",),
    ),
    Metric(
        "metadata_containers",
        "gauge",
        "containers",
        "Containers whose names and images are held",
        of_status("metadata.held"),
    ),
    # -- the control socket and this one
    Metric(
        "followers",
        "gauge",
        "clients",
        "Who follows events over the control socket now",
        of_status("followers"),
    ),
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
        "Scrapes until this text was made",
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
