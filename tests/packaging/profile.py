# SPDX-License-Identifier: Apache-2.0
"""The rules for files, capabilities and sockets of packaging/apparmor, and which of them a path meets.

Owns the reading of the parts of AppArmor's language that our profile uses (apparmor.d(5)), and refuses others. What
the profile includes is not looked at, so that no package of AppArmor's has to be there. Whether the kernel agrees is
tests/packaging/test_confined.py's.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from tests.lint.tree import ROOT

PROFILE = ROOT / "packaging" / "apparmor" / "audit-enricher"

VARIABLES = {
    "PROC": "/proc",
    "sys": "/sys",
    "run": "{,/var}/run",
    "HOME": "{/home/*,/root}",
    "pid": "[0-9]*",
    "tid": "[0-9]*",
    "uid": "[0-9]*",
}
"""As AppArmor's tunables have them."""

_FILE = re.compile(r"(?P<deny>deny )?(?P<owner>owner )?(?P<path>[/@]\S+) (?P<access>[a-z]+)")
_OTHER = re.compile(r"(capability|network|ptrace|include|abi|profile)\b.*|\}")
_PART = re.compile(r"\*\*|\*|\[[^]]*\]|\{|\}|,|\\.|.", re.DOTALL)


class Rule(NamedTuple):
    """A rule for files: which, what may be done with them, and whether it takes away."""

    pattern: re.Pattern[str]
    access: frozenset[str]
    deny: bool
    text: str


def lines(text: str) -> list[str]:
    """Return the profile's rules, one a line, without comments and commas at their ends."""
    bare = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line.removesuffix(",") for line in bare if line]


def expression(glob: str) -> str:
    """Return the regular expression of a glob; AppArmor's ``*`` stops at a slash, and takes something after one."""
    for name, value in VARIABLES.items():
        glob = glob.replace(f"@{{{name}}}", value)
    assert "@" not in glob, f"{glob}: a variable that this reader does not know"
    found, depth, before = [], 0, ""
    for part in _PART.findall(glob):
        least, before = "+" if before == "/" else "*", part
        if part == "{":
            depth += 1
            found.append("(?:")
        elif part == "}":
            depth -= 1
            found.append(")")
        elif part == "," and depth:
            found.append("|")
        else:
            stars = {"**": f".{least}", "*": f"[^/]{least}"}
            found.append(stars.get(part) or (part if part[0] == "[" else re.escape(part)))
    return "".join(found)


def rules(text: str) -> list[Rule]:
    """Return the rules for files. AssertionError for a line that is of no kind known here."""
    found = []
    for line in lines(text):
        match = _FILE.fullmatch(line)
        if match:
            pattern = re.compile(expression(match["path"]), re.DOTALL)
            found.append(Rule(pattern, frozenset(match["access"]), bool(match["deny"]), line))
        else:
            assert _OTHER.fullmatch(line), f"{line}: a rule of a kind that this reader does not know"
    return found


def allowed(found: list[Rule], path: str) -> set[str]:
    """Return what may be done with this path; a directory's ends with a slash."""
    met = [rule for rule in found if rule.pattern.fullmatch(path)]
    given = set(itertools.chain.from_iterable(rule.access for rule in met if not rule.deny))
    return given - set(itertools.chain.from_iterable(rule.access for rule in met if rule.deny))


def words_after(text: str, kind: str) -> set[str]:
    """Return what the rules of another kind name: ``capability`` or ``network``."""
    return {line.removeprefix(f"{kind} ") for line in lines(text) if line.startswith(f"{kind} ")}
