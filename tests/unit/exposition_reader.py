# SPDX-License-Identifier: Apache-2.0
"""A strict reader of Prometheus' text format 0.0.4, after its documentation: whatever is not in there is an error."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = "[a-zA-Z_][a-zA-Z0-9_]*"
_PAIR = rf'({_LABEL})="((?:[^"\\\n]|\\["\\n])*)"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{((?:{_PAIR})(?:,(?:{_PAIR}))*)\}})? (\S+)")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|Inf)|NaN")
_SUFFIXES = {
    "counter": ("",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}

Labels = tuple[tuple[str, str], ...]


class Read(NamedTuple):
    """One family: its samples by (name, labels)."""

    kind: str
    help: str
    samples: dict[tuple[str, Labels], float]


def read(text: bytes) -> dict[str, Read]:
    """Return every family by its name. AssertionError for what a scraper would refuse, or should not have to take."""
    assert not text or text.endswith(b"\n")
    families: dict[str, Read] = {}
    helped = name = ""
    words = ""
    for line in text.decode("utf-8").split("\n")[:-1]:
        if line.startswith("# HELP "):
            helped, _, words = line[7:].partition(" ")
            assert re.fullmatch(_NAME, helped), line
            assert re.fullmatch(r"(?:[^\\]|\\[\\n])*", words), line
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            assert name == helped, line
            assert name not in families, line
            families[name] = Read({"counter": kind, "gauge": kind, "histogram": kind}[kind], words, {})
        else:
            _sample(line, name, families[name])
    for name, family in families.items():
        assert family.samples, name
        if family.kind == "histogram":
            _check(name, family)
        if family.kind == "counter":
            assert min(family.samples.values()) >= 0, name
    return families


def _sample(line: str, family: str, into: Read) -> None:
    found = _SAMPLE.fullmatch(line)
    assert found, line
    name, pairs, value = found[1], found[2], found[found.re.groups]
    assert name in {family + suffix for suffix in _SUFFIXES[into.kind]}, line
    assert _NUMBER.fullmatch(value), line
    labels = tuple((label, _raw(text)) for label, text in re.findall(_PAIR, pairs or ""))
    assert len(dict(labels)) == len(labels), line
    key = (name, labels)
    assert key not in into.samples, line
    into.samples[key] = float(value)


def _raw(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def _check(name: str, family: Read) -> None:
    buckets = [
        (float(dict(labels)["le"]), count)
        for (key, labels), count in family.samples.items()
        if key == f"{name}_bucket"
    ]
    assert buckets == sorted(buckets)
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert buckets[-1] == (math.inf, family.samples[f"{name}_count", ()])
