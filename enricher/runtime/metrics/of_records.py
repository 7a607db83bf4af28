# SPDX-License-Identifier: Apache-2.0
"""Metrics of the service as a whole, of its records and events, and of what was lost.

Owns their names and words. Never a value.
"""

from __future__ import annotations

from typing import Final

from enricher.model import FAILED_AT
from enricher.runtime.metrics.exposition import Sample
from enricher.runtime.metrics.sources import (
    COUNTS,
    Metric,
    Source,
    by,
    failing,
    gap,
    info,
    latency,
    moment,
    of_status,
    one,
)

ROWS: Final = (
    # -- the service
    Metric("build_info", "gauge", "", "1, with the version", info("version"), ("version",)),
    Metric(
        "hook_info",
        "gauge",
        "",
        "1, with the kernel function that the programs are attached to, and how they were loaded; absent without a"
        " hook",
        info("hook", "loader"),
        ("hook", "loader"),
    ),
    Metric(
        "start_time_seconds", "gauge", "seconds", "When the service started, in Unix time", moment("since")
    ),
    Metric(
        "reload_time_seconds",
        "gauge",
        "seconds",
        "When the settings were last read again, in Unix time; absent before the first time",
        moment("reloaded"),
    ),
    Metric(
        "degraded",
        "gauge",
        "",
        "1 where no hook can be used on this kernel, so that events have no contexts; else 0",
        failing("degraded"),
    ),
    Metric(
        "balanced",
        "gauge",
        "",
        "1 while every record that the kernel finished since the start was read and joined; once 0, it stays 0 until a"
        " restart, unless what was missing comes late",
        of_status("account.balanced"),
    ),
    Metric(
        "gap_events",
        "gauge",
        "events",
        "At most so many events were finished between the run before and this one, and read by neither; absent where"
        " the serials are not known",
        Source("status: `gap.events`", gap),
    ),
    Metric("resident_memory_bytes", "gauge", "bytes", "Memory, the rings' included", of_status("rss")),
    Metric(
        "cpu_seconds_total",
        "counter",
        "seconds",
        "CPU time of the service's process, in user and kernel mode",
        one("the process's clock", lambda reading: reading.cpu_seconds),
    ),
    # -- records and events
    Metric(
        "records_finished_total",
        "counter",
        "records",
        "Records that the kernel finished, by its own side's count; 0 in a degraded run",
        of_status("account.finished"),
    ),
    Metric(
        "records_received_total",
        "counter",
        "records",
        "Records read from the audit netlink socket, of events that were given out",
        of_status("account.delivered"),
    ),
    Metric(
        "records_joined_total",
        "counter",
        "records",
        "Records received, with the context of their task",
        of_status("account.joined"),
    ),
    Metric(
        "records_without_context_total",
        "counter",
        "records",
        "Records received for which no context came: unmatched on the side of netlink",
        of_status("account.without_context"),
    ),
    Metric(
        "records_missing",
        "gauge",
        "records",
        "Records that the kernel side counted and that were not read: unmatched on the side of the hook. It falls"
        " where they come late",
        of_status("account.missing"),
    ),
    Metric(
        "records_malformed_total",
        "counter",
        "records",
        "Records without a stamp, passed through",
        of_status("account.malformed"),
    ),
    Metric(
        "records_before_start_total",
        "counter",
        "records",
        "Records read from before the self-test's, which are in no other figure",
        of_status("account.before"),
    ),
    Metric("events_total", "counter", "events", "Events given out", of_status("account.events")),
    Metric(
        "events_incomplete_total",
        "counter",
        "events",
        "Events given out with fewer records than the kernel side counted",
        of_status("account.incomplete_events"),
    ),
    Metric(
        "events_self_total",
        "counter",
        "events",
        "Events that the service itself caused",
        of_status("account.self_events"),
    ),
    Metric(
        "events_without_subject_total",
        "counter",
        "events",
        "Events in whose context the task is not the one that acted",
        of_status("account.no_subject_events"),
    ),
    Metric(
        "events_open",
        "gauge",
        "events",
        "Events whose records are not all there yet",
        one("the join", lambda reading: reading.open_events),
    ),
    Metric(
        "event_latency_seconds",
        "histogram",
        "seconds",
        "From the kernel's end of an event to its line in the output file. Not in it: events that no context or count"
        " came for, those of the service itself, and those that had to wait for the file",
        Source("measured once for each batch of lines", latency),
    ),
    # -- losses
    Metric(
        "records_lost_total",
        "counter",
        "records",
        "Records lost, by cause: the netlink buffer was full; over audit's rate limit; over its backlog limit, out of"
        " memory or for another reason (never made). A cause is absent where the kernel side cannot count it",
        by(
            COUNTS,
            netlink="netlink_drops",
            rate_limit="rate_limit",
            backlog="backlog",
            memory="memory",
            other="lost_other+lost_unseen",
        ),
        ("cause",),
    ),
    Metric(
        "contexts_lost_total",
        "counter",
        "messages",
        "Messages of the kernel side lost without which records have no context, or events no count: a ring was full,"
        " for either; the hook was entered again while it ran",
        by(COUNTS, ring_context="contexts_dropped", ring_tally="tallies_dropped", reentry="hook_misses"),
        ("cause",),
    ),
    Metric(
        "facts_lost_total",
        "counter",
        "messages",
        "Messages about namespaces, targets and users lost, by cause: a ring was full; the program was entered again",
        by(COUNTS, ring="facts_dropped", reentry="facts_missed"),
        ("cause",),
    ),
    Metric(
        "ring_drops_total",
        "counter",
        "messages",
        "Messages of any kind that found the ring of this CPU full, since the programs were loaded",
        Source(
            "the kernel side's counters",
            lambda reading: [Sample((str(cpu),), drops) for cpu, drops in enumerate(reading.ring_drops)],
        ),
        ("cpu",),
    ),
    Metric(
        "kernel_lost_total",
        "counter",
        "records",
        "What the kernel itself calls lost (`auditctl -s`), of all causes; absent once the service may not ask any"
        " more",
        of_status(f"{COUNTS}.status_lost"),
    ),
    Metric(
        "auditd_queue_lost_total",
        "counter",
        "records",
        "Records that auditd's own queue lost; they are not lost here",
        of_status(f"{COUNTS}.auditd_queue"),
    ),
    Metric(
        "limited_total",
        "counter",
        "messages",
        "Messages that the kernel side did not tell, over its own rate limit: changes of namespaces, refused messages",
        by(COUNTS, change="changes_limited", refused="refusals_limited"),
        ("kind",),
    ),
    Metric(
        "hook_records_total",
        "counter",
        "records",
        "Records that the hook saw",
        of_status(f"{COUNTS}.hook_records"),
    ),
    Metric(
        "hook_uncounted_records_total",
        "counter",
        "records",
        "Records that the hook saw and no message of the kernel side counts",
        of_status(f"{COUNTS}.uncounted"),
    ),
    Metric(
        "hook_failures_total",
        "counter",
        "reads",
        "What the programs could not read in kernel memory, or had no room for, by place",
        by(COUNTS, **{name.removeprefix("failed_"): name for name in FAILED_AT}),
        ("place",),
    ),
    Metric(
        "unknown_messages_total",
        "counter",
        "messages",
        "Messages of the kernel side that were not understood",
        of_status(f"{COUNTS}.unknown_messages"),
    ),
    Metric(
        "records_truncated_total",
        "counter",
        "records",
        "Records longer than what is received",
        of_status(f"{COUNTS}.truncated"),
    ),
    Metric(
        "foreign_datagrams_total",
        "counter",
        "datagrams",
        "Datagrams that the kernel did not send, refused",
        of_status(f"{COUNTS}.foreign"),
    ),
)
