# SPDX-License-Identifier: Apache-2.0
"""The sample rules do no harm: rules only, each with a key, each for both system call tables."""

from __future__ import annotations

import re

from tests.lint.tree import ROOT

SAMPLE = ROOT / "packaging" / "rules" / "audit-enricher-sample.rules"


def rules() -> list[str]:
    lines = (line.strip() for line in SAMPLE.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_the_sample_holds_rules_only() -> None:
    assert rules()
    assert [rule for rule in rules() if not rule.startswith("-a always,exit -F arch=b")] == []


def test_every_rule_has_a_key() -> None:
    assert [rule for rule in rules() if not re.search(r" -F key=[a-z]+$", rule)] == []


def test_every_rule_is_there_for_both_tables() -> None:
    def shape(rule: str) -> str:
        """Leave out what differs between the tables: the names of old 32-bit calls."""
        return re.sub(r"arch=b\d\d|,(umount|stime|clock_settime64)\b", "", rule)

    wide = sorted(shape(rule) for rule in rules() if "arch=b64" in rule)
    narrow = sorted(shape(rule) for rule in rules() if "arch=b32" in rule)
    assert wide == narrow
