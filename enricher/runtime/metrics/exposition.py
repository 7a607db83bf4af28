# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format, version 0.0.4: families of samples become bytes.

Owns the escapes and the numbers. Never knows a metric. Whatever a label's value holds, the text stays one that a
scraper takes whole: it refuses all of it for one bad line, or for one series that is there twice.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

VALUE_MAX: Final = 200
"""Characters of a label's value; the rest is cut off."""


class Histogram(NamedTuple):
    """`bounds` of buckets, the `counts` of each (not cumulated), with one more for what is above; and the sum."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Sample(NamedTuple):
    """One series: the values of the family's labels, in their order."""

    labels: tuple[str, ...]
    value: float | Histogram


class Family(NamedTuple):
    """All series of one name. `kind` is counter, gauge or histogram."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: Iterable[Sample]


def text(families: Iterable[Family]) -> bytes:
    """Return the whole text. A family without a sample is left out, and of two series of the same labels the second."""
    lines: list[str] = []
    for family in families:
        samples = {sample.labels: sample.value for sample in reversed([*_fit(family)])}
        if samples:
            lines += (f"# HELP {family.name} {_help(family.help)}", f"# TYPE {family.name} {family.kind}")
        for values, value in reversed(samples.items()):
            pairs = list(zip(family.labels, values, strict=True))
            if isinstance(value, Histogram):
                lines += _histogram(family.name, pairs, value)
            else:
                lines.append(f"{family.name}{_labels(pairs)} {_number(value)}")
    return "".join(f"{line}\n" for line in lines).encode()


def _fit(family: Family) -> Iterable[Sample]:
    for labels, value in family.samples:
        yield Sample(tuple(map(_value, labels)), value)


def _histogram(name: str, pairs: list[tuple[str, str]], value: Histogram) -> Iterable[str]:
    sums = accumulate(value.counts)
    for bound, count in zip((*value.bounds, math.inf), sums, strict=True):
        yield f"{name}_bucket{_labels([*pairs, ('le', _number(bound))])} {count}"
    yield f"{name}_sum{_labels(pairs)} {_number(value.total)}"
    yield f"{name}_count{_labels(pairs)} {sum(value.counts)}"


def _labels(pairs: list[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in pairs) + "}"


def _value(raw: str) -> str:
    """Return a label's value as it stands between the quotes: nothing of it but UTF-8 that can be seen."""
    seen = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in raw[:VALUE_MAX])
    return seen.replace("\\", "\\\\").replace('"', '\\"')


def _help(raw: str) -> str:
    return raw.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))  # a bool as well
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
