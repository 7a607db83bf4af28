# SPDX-License-Identifier: Apache-2.0
"""Container identifiers under the service's own unit: the commands, nesting and filters, and who may what.

The store by itself is `test_contid_store`'s, engines are `test_contid_engines`'.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests import schema
from tests.suites.contid_bench import SOCKET, contids, of_true, ops, settled
from tests.suites.staging import COMMAND, SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.test_metadata import Bench
    from tests.vm.guest import Guest

pytestmark = pytest.mark.vm

OLDEST = pytest.mark.only_on("5.10")  # where most of what it is built on is missing

Json = dict[str, Any]
LEVELS = ("1", "2", "4")
OTHERS = {"none": "contid == 3", "unset": "contid == unset"}
LOG = "/var/log/audit-enricher"
TEXT = f"{LOG}/suite-text.log"
FILTERED = {**{level: f"contid == {level}" for level in LEVELS}, **OTHERS}
SINKS = "".join(
    f'[sinks.suite-{name}]\ntype = "file"\npath = "{LOG}/suite-{name}.json"\nfilter = "{filter_}"\n'
    for name, filter_ in FILTERED.items()
)
SINKS += f'[sinks.suite-text]\ntype = "file"\npath = "{TEXT}"\nschema = "text"\n'

RIGHTS = {
    "self": "EXDEV",
    "unset": "EINVAL",
    "children": "EBUSY",
    "threads": "EBUSY",
    "self, with children": "EBUSY",
    "no descendant": "EXDEV",
    "set": "",
    "again": "EEXIST",
    "another": "EEXIST",
    "a second one": "",
    "of another owner": "ENOTUNIQ",
    "as an orchestrator": "EPERM",
    "kept": True,
}
"""What whoever may set identifiers is answered, by a row of the contract's table each."""
ROOTS = {**RIGHTS, "as an orchestrator": ""}
NO_RIGHTS = {
    "set": "EPERM",
    "change": "EPERM",
    "clear": "EINVAL",
    "clear a child's": "EINVAL",
    "as an orchestrator": "EPERM",
    "as an orchestrator, itself": "EPERM",
    "grant": "EPERM",
    "kept": True,
}


@pytest.fixture(scope="module")
def bench(guest: Guest) -> Iterator[Bench]:
    with contids(guest, SINKS) as made:
        yield made


@OLDEST
def test_exec_gives_it_before_the_first_instruction_and_it_is_dropped(bench: Bench) -> None:
    settled(bench)
    done = bench.sh(f"{COMMAND} exec --contid 4711 -- /bin/sh -c '/bin/true inherited; exit 5'", check=False)
    assert done.returncode == 5
    events = settled(bench)
    [event] = of_true(events, "inherited")
    assert event["contid"] == ["4711"]
    assert event["container_ids"] == [{"record": 1, "contid": "4711"}]
    assert [(op["op"], op["res"]) for op in ops(events)] == [("set", 1), ("drop", 1)]
    assert ops(events)[1]["old_contid"] == ["4711"]


@OLDEST
def test_three_levels_deep_and_filters_on_each(bench: Bench) -> None:
    """By the destinations' filters, by `follow`, and by `replay` of what was written as audit text."""
    settled(bench)
    followed = [
        COMMAND,
        "follow",
        "--format",
        "json",
        "--filter",
        'contid == 2 and exe ~ "*true"',
        "--count",
        "1",
    ]
    with bench.guest.popen(followed) as following:
        bench.sh(f"until {COMMAND} status --json | grep -q '\"followers\": *1'; do :; done")
        inner = f"{COMMAND} exec --contid 4 -- /bin/true deepest"
        bench.sh(f"{COMMAND} exec --contid 1 -- {COMMAND} exec --contid 2 -- {inner}")
        seen = schema.parse(following.read_line(60))
        assert following.wait(60) == 0
    # What comes behind it, to all of them: so that it would have come as well.
    bench.sh(f"{COMMAND} exec --contid 3 -- /bin/true third")
    events = settled(bench)
    [event] = of_true(events, "deepest")
    assert event["contid"] == ["4", "2", "1"]
    assert event["container_ids"][0] == {"record": 1, "contid": "4,^2,^1"}
    assert [one["uid"] for one in seen] == [event["uid"]]
    bench.guest.run(["auditctl", "-m", "behind-the-levels"], check=True)
    for name, word in (("none", "third"), ("unset", "behind-the-levels")):
        bench.sh(f"until grep -q {word} {LOG}/suite-{name}.json; do :; done")
    bench.sh(f"until grep -q behind-the-levels {TEXT}; do :; done")
    found = {name: bool(of_true(_written(bench, name), "deepest")) for name in FILTERED}
    assert found == {"1": True, "2": True, "4": True, "none": False, "unset": False}
    for level, expected in (*((level, 1) for level in LEVELS), ("3", 0), ("unset", 0)):
        line = f"{COMMAND} replay --format json --filter 'contid == {level}' {TEXT}"
        again = schema.parse(bench.sh(line).stdout)
        assert len(of_true(again, "deepest")) == expected, level
    balance = ops(events)
    sets = [op["contid"] for op in balance if op["op"] == "set" and op["res"]]
    drops = [op["old_contid"] for op in balance if op["op"] == "drop"]
    assert sets == ["1", "2", "4", "3"]
    assert sorted(drops) == [["1"], ["2", "1"], ["3"], ["4", "2", "1"]]


def _written(bench: Bench, name: str) -> list[Json]:
    return schema.parse(bench.guest.get(f"{LOG}/suite-{name}.json").rpartition(b"\n")[0] + b"\n")


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("set $child 18446744073709551615", "EINVAL"),
        # Of several that hold the first row of the table is said: the shell has children, and so has init.
        ("set $$ 4", "EBUSY"),
        ("set 1 4", "EBUSY"),
        ("set $parent 4", "EBUSY"),
        ("set $stranger 4", "EXDEV"),
        ("set $child 4 && {} contid set $child 5", "EEXIST"),
        ("set $child 4 && {} contid set $child 4", "EEXIST"),
        ("set $child 77", "ENOTUNIQ"),
    ],
)
def test_refusals_are_answered_and_told(bench: Bench, words: str, error: str) -> None:
    settled(bench)
    script = (
        "sleep 60 & child=$!; sh -c 'sleep 60 & echo; wait' >/run/up & parent=$!;"
        f" {COMMAND} exec --contid 77 -- /bin/sh -c 'echo >/run/held; exec sleep 60' & holder=$!;"
        " setsid sh -c 'sleep 60 & echo $! >/run/stranger';"
        " until [ -s /run/up ] && [ -s /run/stranger ] && [ -s /run/held ]; do :; done;"
        " read stranger </run/stranger;"
        f" {COMMAND} contid {words.format(COMMAND)}; code=$?; kill $child $stranger $holder; pkill -P $parent;"
        " wait; rm /run/up /run/held /run/stranger; exit $code"
    )
    done = bench.sh(script, check=False)
    assert done.returncode == 14, done.stderr
    assert f"({error})".encode() in done.stderr
    told = ops(settled(bench))
    assert [(op["op"], op["error"]) for op in told if not op["res"]] == [("set", error)]
    sets = [op["contid"] for op in told if op["op"] == "set" and op["res"]]
    assert sorted(sets) == sorted(op["old_contid"][0] for op in told if op["op"] == "drop")


@OLDEST
def test_who_may_what(bench: Bench) -> None:
    """Root, root in a container, root in a user namespace and an ordinary user: without a grant, and with one."""
    settled(bench)
    before = bench.sh(f"stat -c %a {SOCKET}").stdout.decode().strip()
    bench.sh(f"chmod 666 {SOCKET}")
    try:
        words = [
            "env",
            "PYTHONPATH=/usr/lib/audit-enricher",
            "python3",
            f"{SHARE}/guest/contid_callers.py",
            SOCKET,
        ]
        said: Json = json.loads(bench.guest.run(words, timeout=120, check=True).stdout)
    finally:
        bench.sh(f"chmod {before} {SOCKET}")
    assert said.pop("taken") == ""
    assert said.pop("root") == {"own": "", "allowed": ROOTS}
    others = {"own": "", "denied": NO_RIGHTS, "granted": "", "allowed": RIGHTS}
    assert said == dict.fromkeys(("in_container", "in_user_namespace", "unprivileged"), others)
    told = ops(settled(bench))
    rows = (ROOTS, *3 * (NO_RIGHTS, RIGHTS))
    expected = [error for row in rows for error in row.values() if error and error is not True]
    refused = [op["error"] for op in told if not op["res"]]
    assert Counter(refused) == Counter(expected), "each attempt is told, and told once"
    sets = {op["contid"] for op in told if op["op"] == "set" and op["res"]}
    assert sets == {op["old_contid"][0] for op in told if op["op"] == "drop"}
    assert bench.sh(f"{COMMAND} contid list").stdout == b""


@pytest.mark.full
def test_nobody_without_the_right_sets_any(bench: Bench) -> None:
    """An ordinary user may not even connect; root without the capability is refused by the kernel's side."""
    as_nobody = f"setpriv --reuid 65534 --regid 65534 --clear-groups {COMMAND} contid list"
    assert bench.sh(as_nobody, check=False).returncode == 2
    less = "setpriv --bounding-set -audit_control --inh-caps -audit_control"
    done = bench.sh(f"{less} sh -c 'sleep 9 & {COMMAND} contid set $! 4'", check=False)
    assert (done.returncode, b"(EPERM)" in done.stderr) == (14, True), done.stderr
