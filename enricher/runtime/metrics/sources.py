# SPDX-License-Identifier: Apache-2.0
"""What a scrape rests on, and how a metric's value is taken from it.

Owns the shape of a row and the ways to a value. Never counts anything: all is read when somebody asks, from the status
document (docs/control.md) where it is there. What is not there makes no sample: a service says nothing rather than 0
of what it cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from enricher.runtime.metrics.exposition import Histogram, Sample
from enricher.runtime.metrics.latency import BOUNDS, Latency

PREFIX: Final = "audit_enricher_"
COUNTS: Final = "account.counts"
"""Where the status document has what the sources counted."""


class Reading(NamedTuple):
    """All that a scrape rests on.

    ``status`` is the status document. ``ring_drops`` are by possible CPU. ``run_times`` have nanoseconds and runs by
    program, empty where the kernel does not measure. ``server`` are the figures of the metrics' own server.
    """

    status: Mapping[str, object]
    open_events: int
    queued_bytes: int
    ring_drops: Sequence[int]
    run_times: Mapping[str, tuple[int, int]]
    latency: Latency
    server: Mapping[str, float]
    cpu_seconds: float


class Source(NamedTuple):
    """Where the samples of a row come from, in words, and the samples."""

    words: str
    samples: Callable[[Reading], Iterable[Sample]]


class Metric(NamedTuple):
    """One row; `name` is without `PREFIX`. `help` is a sentence without its full stop."""

    name: str
    kind: str
    unit: str
    help: str
    source: Source
    labels: tuple[str, ...] = ()


def _found(document: object, path: str) -> object:
    for name in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def one(words: str, value: Callable[[Reading], float]) -> Source:
    """One value, which is always there."""
    return Source(words, lambda reading: [Sample((), value(reading))])


def of_status(path: str) -> Source:
    """A number of the status document."""

    def samples(reading: Reading) -> Iterable[Sample]:
        if (value := _number(_found(reading.status, path))) is not None:
            yield Sample((), value)

    return Source(f"status: `{path}`", samples)


def by(path: str, **members: str) -> Source:
    """Numbers of one member of the status document, by the value of a label; several are added, "+" between them."""

    def samples(reading: Reading) -> Iterable[Sample]:
        for label, names in members.items():
            values = [_number(_found(reading.status, f"{path}.{name}")) for name in names.split("+")]
            there = [value for value in values if value is not None]
            if there:
                yield Sample((label,), sum(there))

    told = (
        f"{', '.join(f'`{name}`' for name in names.split('+'))} ({label})" for label, names in members.items()
    )
    return Source(f"status: of `{path}` {'; '.join(told)}", samples)


def failing(path: str) -> Source:
    """1 while a member of the status document gives a reason, 0 while it is "" ."""

    def samples(reading: Reading) -> Iterable[Sample]:
        if isinstance(value := _found(reading.status, path), str):
            yield Sample((), bool(value))

    return Source(f"status: `{path}`", samples)


def moment(path: str) -> Source:
    """A time of the status document, as seconds since the epoch."""

    def samples(reading: Reading) -> Iterable[Sample]:
        if isinstance(value := _found(reading.status, path), str):
            with suppress(ValueError):
                yield Sample((), datetime.fromisoformat(value).timestamp())

    return Source(f"status: `{path}`", samples)


def info(*members: str) -> Source:
    """1, with texts of the status document as labels; nothing where the first is empty."""

    def samples(reading: Reading) -> Iterable[Sample]:
        values = [_found(reading.status, member) for member in members]
        if values[0]:
            yield Sample(tuple(map(str, values)), 1)

    return Source(f"status: {', '.join(f'`{member}`' for member in members)}", samples)


def _sinks(reading: Reading) -> Iterable[tuple[str, Mapping[str, object]]]:
    found = reading.status.get("sinks")
    for sink in found if isinstance(found, Sequence) else ():
        if isinstance(sink, Mapping) and isinstance(name := sink.get("name"), str):
            yield name, sink


def of_sinks(member: str) -> Source:
    """A number of each destination."""

    def samples(reading: Reading) -> Iterable[Sample]:
        for name, sink in _sinks(reading):
            if (value := _number(sink.get(member))) is not None:
                yield Sample((name,), value)

    return Source(f"status: `{member}` of each of `sinks`", samples)


def sink_failing(reading: Reading) -> Iterable[Sample]:
    """1 for each destination that gives a reason why it does not get through, else 0."""
    for name, sink in _sinks(reading):
        if isinstance(error := sink.get("error"), str):
            yield Sample((name,), bool(error))


def sink_info(reading: Reading) -> Iterable[Sample]:
    """1 for each destination."""
    for name, sink in _sinks(reading):
        yield Sample((name, *(str(sink.get(member, "")) for member in ("type", "schema", "queue"))), 1)


def gap(reading: Reading) -> Iterable[Sample]:
    """The events of the gap before this run, 0 without one."""
    found = reading.status.get("gap")
    if found is None:
        yield Sample((), 0)
    elif (events := _number(_found(found, "events"))) is not None:
        yield Sample((), events)


def metadata_runs(reading: Reading) -> Iterable[Sample]:
    """1 while the helper runs, 0 where it does not and should."""
    state = _found(reading.status, "metadata.state")
    if state not in {None, "off"}:
        yield Sample((), state == "on")


def latency(reading: Reading) -> Iterable[Sample]:
    """The histogram."""
    measured = reading.latency
    yield Sample((), Histogram(BOUNDS, measured.counts, measured.seconds))
