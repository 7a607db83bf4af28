# SPDX-License-Identifier: Apache-2.0
"""The metrics: each is well named and told, what is scraped can be read, and hostile words stay words."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.config.settings import SETTINGS as ROWS
from enricher.config.sinks import Common
from enricher.model import KernelCounts
from enricher.runtime.metrics import METRICS, families
from enricher.runtime.metrics.exposition import VALUE_MAX, Family, Histogram, Sample, text
from enricher.runtime.metrics.latency import BOUNDS, Latency
from enricher.runtime.metrics.sources import PREFIX, Reading
from tests.unit.exposition_reader import Labels, Read, read
from tests.unit.sample_events import SYSCALL, event
from tests.unit.sample_stream import context, tally
from tests.unit.test_cli_status import STATUS as SHOWN

SINK: dict[str, Any] = {
    "name": "siem",
    "type": "relp",
    "schema": "ecs",
    "queue": "spool",
    "waiting": 12,
    "waiting_bytes": 34_567,
    "max_bytes": 1 << 30,
    "oldest_seconds": 1.5,
    "sent": 100,
    "taken": 90,
    "refused": 1,
    "retries": 2,
    "errors": 3,
    "bugs": 4,
    "lost": 5,
    "unsure": 6,
    "unheard": 7,
    "error": "no route to host",
}
STATUS: dict[str, Any] = SHOWN | {
    "since": "2026-03-01T12:00:00.500Z",
    "reloaded": "2026-03-01T13:00:00.000Z",
    "account": {
        "events": 1234,
        "finished": 5000,
        "delivered": 4990,
        "joined": 4980,
        "without_context": 10,
        "missing": 20,
        "incomplete_events": 1,
        "malformed": 2,
        "before": 3,
        "no_subject_events": 4,
        "self_events": 5,
        "balanced": False,
        "counts": KernelCounts(
            netlink_drops=7, contexts_dropped=8, hook_misses=9, rate_limit=10, lost_other=1, lost_unseen=2
        )._asdict(),
    },
    "metadata": {
        "state": "on",
        **dict.fromkeys(
            ("asked", "answered", "unknown", "timed_out", "crashed", "failed", "refused", "dropped"), 1
        ),
        **dict.fromkeys(("overfull", "short_lived", "waiting", "held", "pending"), 2),
    },
    "control": dict.fromkeys(
        ("skipped", "refused", "oversized", "crowded_out", "turned_away", "unaccepted"), 3
    ),
    "sinks": [SINK, SINK | {"name": "lake", "error": "", "lost": 0}],
}
SERVER = {"scrapes": 3.0, "refused": 1, "crowded_out": 0, "unaccepted": 0, "seconds": 0.0125}


def reading(status: dict[str, Any] = STATUS, latency: Latency | None = None, **members: Any) -> Reading:  # noqa: ANN401 - those of Reading
    made = Reading(status, 4, 2304, [0, 8], {"audit_log_end": (2_500_000_000, 40)}, Latency(), SERVER, 1.25)
    return made._replace(latency=latency or Latency(), **members)


def scraped(status: dict[str, Any] = STATUS, **members: Any) -> dict[str, Read]:  # noqa: ANN401 - as above
    return read(text(families(reading(status, **members))))


def value(found: dict[str, Read], name: str, **labels: str) -> float | None:
    family = found.get(PREFIX + name)
    return None if family is None else family.samples.get((PREFIX + name, tuple(labels.items())))


# -- the table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_a_row_is_named_by_the_conventions(row: Any) -> None:  # noqa: ANN401 - a Metric
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", row.name)
    assert row.kind in {"counter", "gauge", "histogram"}
    assert (row.kind == "counter") == row.name.endswith("_total")
    if row.unit in {"seconds", "bytes"}:
        assert row.unit in row.name.removesuffix("_total").split("_")
    else:
        assert not {"seconds", "bytes"} & set(row.name.split("_"))
    assert not set(row.labels) & {"le", "quantile", "job", "instance", "__name__"}
    assert row.help[0].isupper() or row.help[0].isdigit()
    assert not row.help.endswith(".")
    assert row.source.words


def test_names_are_unique() -> None:
    names = [row.name for row in METRICS]
    assert len(set(names)) == len(names)
    taken = {name + suffix for name in names for suffix in ("_bucket", "_sum", "_count")}
    assert not taken & set(names)


def test_a_whole_status_gives_every_metric() -> None:
    """So a row that asks for a member that there is not is found."""
    counts = dict.fromkeys(KernelCounts._fields, 1)
    status = STATUS | {"account": STATUS["account"] | {"counts": counts}}
    found = scraped(status)
    assert set(found) == {PREFIX + row.name for row in METRICS}
    for row in METRICS:
        family = found[PREFIX + row.name]
        assert (family.kind, family.help) == (row.kind, row.help)
        for _, labels in family.samples:
            assert tuple(name for name, _ in labels if name != "le") == row.labels


# -- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("build_info", {"version": "1.2"}, 1),
        ("hook_info", {"hook": "audit_log_end", "loader": "libbpf"}, 1),
        ("start_time_seconds", {}, 1_772_366_400.5),
        ("degraded", {}, 0),
        ("balanced", {}, 0),
        ("gap_events", {}, 10),
        ("records_received_total", {}, 4990),
        ("records_missing", {}, 20),
        ("records_lost_total", {"cause": "netlink"}, 7),
        ("records_lost_total", {"cause": "rate_limit"}, 10),
        ("records_lost_total", {"cause": "other"}, 3),
        ("records_lost_total", {"cause": "backlog"}, None),
        ("kernel_lost_total", {}, None),
        ("contexts_lost_total", {"cause": "ring_context"}, 8),
        ("contexts_lost_total", {"cause": "reentry"}, 9),
        ("ring_drops_total", {"cpu": "0"}, 0),
        ("ring_drops_total", {"cpu": "1"}, 8),
        ("receive_queue_bytes", {}, 2304),
        ("events_open", {}, 4),
        ("output_events_total", {}, 1234),
        ("output_failing", {}, 0),
        ("sink_info", {"sink": "siem", "type": "relp", "schema": "ecs", "queue": "spool"}, 1),
        ("sink_waiting_bytes", {"sink": "lake"}, 34_567),
        ("sink_failing", {"sink": "siem"}, 1),
        ("sink_failing", {"sink": "lake"}, 0),
        ("sink_lost_events_total", {"sink": "siem"}, 5),
        ("metadata_running", {}, 1),
        ("metadata_not_asked_total", {"reason": "room"}, 3),
        ("bpf_run_seconds_total", {"program": "audit_log_end"}, 2.5),
        ("bpf_runs_total", {"program": "audit_log_end"}, 40),
        ("scrape_refusals_total", {"reason": "refused"}, 1),
        ("cpu_seconds_total", {}, 1.25),
    ],
)
def test_values(name: str, labels: dict[str, str], expected: float | None) -> None:
    assert value(scraped(), name, **labels) == expected


@pytest.mark.parametrize(
    ("member", "given", "name", "expected"),
    [
        ("degraded", "no hook", "degraded", 1),
        ("hook", "", "hook_info", None),
        ("gap", None, "gap_events", 0),
        ("gap", {"text": "not known"}, "gap_events", None),
        ("journal", None, "journal_bytes", None),
        ("reloaded", None, "reload_time_seconds", None),
        ("since", "yesterday", "start_time_seconds", None),
        ("metadata", {"state": "off"}, "metadata_running", None),
        ("metadata", {"state": "failed"}, "metadata_running", 0),
        ("metadata", {"state": "ended"}, "metadata_running", 0),
        ("sinks", [], "sink_info", None),
    ],
)
def test_what_is_not_there_has_no_sample(
    member: str, given: object, name: str, expected: float | None
) -> None:
    family = scraped(STATUS | {member: given}).get(PREFIX + name)
    assert (None if family is None else next(iter(family.samples.values()))) == expected


def test_without_destinations_there_is_nothing_of_them() -> None:
    status = {name: given for name, given in STATUS.items() if name != "sinks"}
    assert not [name for name in scraped(status) if name.startswith(f"{PREFIX}sink_")]


def test_a_kernel_that_does_not_measure() -> None:
    assert not [name for name in scraped(run_times={}) if name.startswith(f"{PREFIX}bpf_")]


def test_a_status_of_nothing_can_be_read() -> None:
    found = scraped({})
    assert value(found, "events_open") == 4
    assert value(found, "build_info", version="1.2") is None


@pytest.mark.parametrize("wrong", [None, "x", -1, [1], {"a": "b"}, 1e300, "\x00\n"])
def test_members_may_be_of_any_shape(wrong: object) -> None:
    """A scraper throws away everything for one bad line."""
    for member in STATUS:
        given = reading(STATUS | {member: wrong})
        for line in text(families(given)).decode().splitlines():
            assert re.fullmatch(r"# (HELP|TYPE) .+|\w+(\{.*\})? \S+", line), line
    for member in SINK:
        text(families(reading(STATUS | {"sinks": [SINK | {member: wrong}, wrong]})))


# -- hostile words -------------------------------------------------------------------------------------


def one_label(*values: str) -> dict[tuple[str, Labels], float]:
    samples = [Sample((given,), number) for number, given in enumerate(values)]
    found = read(text([Family("a_total", "counter", "Help \\ and\nline", ("label",), samples)]))
    return found["a_total"].samples


@given(st.text())
def test_whatever_a_label_holds_it_stays_a_label(given_: str) -> None:
    ((_, ((_, shown),)),) = one_label(given_)
    assert shown.isprintable()
    if given_.isprintable() and len(given_) <= VALUE_MAX:
        assert shown == given_


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ('a"} 1\nevil_total 5', 'a"} 1\\x0aevil_total 5'),
        ("\\", "\\"),
        ("\\n", "\\n"),
        ("\udcff\x00\x9b", "\\xdcff\\x00\\x9b"),
        ("x" * 1000, "x" * VALUE_MAX),
        ("schlüssel 鍵", "schlüssel 鍵"),
    ],
)
def test_hostile_labels(hostile: str, shown: str) -> None:
    assert one_label(hostile) == {("a_total", (("label", shown),)): 0}


def test_no_series_is_there_twice() -> None:
    """Two names that are cut to the same one, say: the first stays, in its place."""
    assert list(one_label("a", "x" * 300, "x" * 400).items()) == [
        (("a_total", (("label", "a"),)), 0),
        (("a_total", (("label", "x" * VALUE_MAX),)), 1),
    ]
    found = scraped(STATUS | {"sinks": [SINK, SINK | {"waiting": 99}]})
    assert value(found, "sink_waiting_events", sink="siem") == 12


@pytest.mark.parametrize(
    ("number", "shown"),
    [(True, "1"), (1 << 63, "9223372036854775808"), (0.1, "0.1"), (math.inf, "+Inf"), (math.nan, "NaN")],
)
def test_numbers(number: float, shown: str) -> None:
    assert text([Family("a", "gauge", "A", (), [Sample((), number)])]).split()[-1].decode() == shown


def test_a_family_without_samples_is_left_out() -> None:
    assert text([Family("a", "gauge", "A", (), [])]) == b""


# -- latency -------------------------------------------------------------------------------------------


def test_latency_is_from_the_kernels_end_of_an_event() -> None:
    asked = []

    def clock() -> int:
        asked.append(1)
        return 10_000_000_000

    latency = Latency(clock)
    closed = event((1300, SYSCALL), context=context(1, time=1))
    closed.tally = tally(1, 1, 10_000_000_000 - 1_000_000)  # a call that took long
    single = event((1300, SYSCALL), context=context(1, time=10_000_000_000 - 300_000_000))
    late = event((1300, SYSCALL), context=context(1, time=0))
    unknown = event((1300, SYSCALL), context=None)
    latency.observe([closed, single, late, unknown])
    assert asked == [1], "one look at the clock for a batch"
    found = scraped(latency=latency)[f"{PREFIX}event_latency_seconds"].samples
    name = f"{PREFIX}event_latency_seconds"
    assert found[f"{name}_count", ()] == 3
    assert found[f"{name}_sum", ()] == pytest.approx(10.301)
    buckets = [found[f"{name}_bucket", (("le", repr(bound)),)] for bound in BOUNDS]
    assert buckets == [1] * 8 + [2] * 4 + [3]
    assert found[f"{name}_bucket", (("le", "+Inf"),)] == 3


def test_what_seems_to_come_from_the_future_took_no_time() -> None:
    latency = Latency(lambda: 5)
    latency.observe([event((1300, SYSCALL), context=context(1, time=6))])
    assert (latency.seconds, latency.counts[0]) == (0, 1)


def test_a_histogram_is_cumulated() -> None:
    made = Histogram((0.5, 1.0), (1, 2, 3), 9.5)
    found = read(text([Family("a", "histogram", "A", (), [Sample((), made)])]))["a"]
    assert list(found.samples.values()) == [1, 3, 6, 9.5, 6]


# -- documents -----------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging" / "prometheus" / "audit-enricher.rules.yml"
WORDS = {"unless", "increase", "on", "sink", "instance", "job", "and", "or", "ignoring", "by", "sum"}


def alerts() -> list[dict[str, str]]:
    """Read the rules: a strict part of YAML, in which every value is a text on its own line."""
    found: list[dict[str, str]] = []
    lines = [line for line in RULES.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    assert lines[:3] == ["groups:", "  - name: audit-enricher", "    rules:"]
    for line in lines[3:]:
        if (start := re.fullmatch(r"      - alert: (\w+)", line)) is not None:
            found.append({"alert": start[1]})
        elif re.fullmatch(r"        (labels|annotations):", line):
            found[-1][line.strip(" :")] = ""
        else:
            pair = re.fullmatch(r'        (?:  )?(\w+): (\w+|"[^"\\]*"|\'[^\'\\]*\')', line)
            assert pair, line
            assert pair[1] not in found[-1], line
            found[-1][pair[1]] = pair[2].strip("\"'")
    return found


def used(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[\w+\]", "", expression)
    return set(re.findall(r"[a-zA-Z_]\w*", bare)) - WORDS


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_uses_metrics_that_there_are(alert: dict[str, str]) -> None:
    names = used(alert["expr"])
    assert names
    assert names <= {PREFIX + row.name for row in METRICS if row.kind != "histogram"}
    by_name = {PREFIX + row.name: row for row in METRICS}
    for name in re.findall(r"increase\((\w+)", alert["expr"]):
        assert by_name[name].kind == "counter"
    assert alert["severity"] in {"warning", "critical"}
    assert {"summary", "description"} <= set(alert)
    if "for" in alert:
        assert re.fullmatch(r"\d+m", alert["for"])
    for label in re.findall(r"\$labels\.(\w+)", alert["summary"] + alert["description"]):
        assert label == "instance" or all(label in by_name[name].labels for name in names)
    for section, key in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", alert["description"]):
        assert f"{section}.{key}" in {row.name for row in ROWS}
    for key in re.findall(r"\b(max_\w+)", alert["description"]):
        assert key in Common.__dataclass_fields__


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_compares_what_can_be_compared(alert: dict[str, str]) -> None:
    """Two metrics of one comparison have the same unit and the same labels; else nothing would ever match."""
    rows = {PREFIX + row.name: row for row in METRICS}
    for left, right in re.findall(rf"({PREFIX}\w+) [<>=]+ [\d. *]*({PREFIX}\w+)", alert["expr"]):
        assert (rows[left].unit, rows[left].labels) == (rows[right].unit, rows[right].labels)
    for left, right in re.findall(rf"({PREFIX}\w+) [^(]* (?:unless|or|and) ({PREFIX}\w+)", alert["expr"]):
        assert rows[left].labels == rows[right].labels
    for name, limit in re.findall(rf"({PREFIX}\w+) == (\d+)", alert["expr"]):
        assert (rows[name].kind, rows[name].unit) == ("gauge", "")
        assert limit in "01"


def test_there_is_an_alert_for_each_thing_that_must_not_go_on() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(set(names)) == len(names)
    section = (ROOT / "docs" / "metrics.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == names


def test_every_metric_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    table = page.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \| (.*) \|$", table, re.MULTILINE)
    assert found == [
        (
            PREFIX + row.name,
            row.kind,
            row.unit or "none",
            ", ".join(f"`{label}`" for label in row.labels) or "none",
            row.help,
            row.source.words,
        )
        for row in METRICS
    ]
    others = set(re.findall(rf"\b{PREFIX}\w+", page)) - {PREFIX + row.name for row in METRICS}
    assert {name.removesuffix("_bucket") for name in others} <= {PREFIX + row.name for row in METRICS}


def test_the_status_is_json_all_the_same() -> None:
    assert json.loads(json.dumps(STATUS)) == STATUS
