# SPDX-License-Identifier: Apache-2.0
"""Container identifiers under the service's own unit: the commands, Podman with the hook, nesting, who may what.

The store by itself is `test_contid_store`'s. Nothing here runs where the service says that it has no store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.lint.tree import ROOT
from tests.suites.staging import COMMAND
from tests.suites.test_metadata import IMAGE, Bench, serving
from tests.suites.test_service import DROP_IN, UNIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

pytestmark = [pytest.mark.vm, pytest.mark.full]

Json = dict[str, Any]
HOOK = "/usr/libexec/audit-enricher/contid-hook"
HOOKS = "/usr/share/containers/oci/hooks.d"
_UNIT_DROP_IN = f"/run/systemd/system/{UNIT}.d"
BOXES = 5


@pytest.fixture
def bench(guest: Guest, rules: Rules) -> Iterator[Bench]:
    with serving(guest, rules, "true", "podman") as made:
        guest.put(DROP_IN, b"[contid]\nenabled = true\n")
        made.sh(f"mkdir -p {_UNIT_DROP_IN} {HOOKS} {HOOK.rpartition('/')[0]}")
        for place, name, mode in (
            (f"{_UNIT_DROP_IN}/contid.conf", "systemd/examples/contid.conf", 0o644),
            (HOOK, "oci/contid-hook", 0o755),
            (f"{HOOKS}/audit-enricher-contid.json", "oci/audit-enricher-contid.json", 0o644),
        ):
            guest.put(place, (ROOT / "packaging" / name).read_bytes(), mode)
        try:
            made.sh("systemctl daemon-reload")
            made.unit("start")
            state = made.status()["contid"]
            if "No module named" in str(state.get("error")):
                pytest.skip("this build has no store")
            assert state["state"] == "on", state
            yield made
        finally:
            made.sh(
                f"podman rm -af -t 0; rm -rf {_UNIT_DROP_IN} {HOOKS}/audit-enricher-contid.json", check=False
            )
            made.sh("systemctl daemon-reload")


def ops(events: list[Json]) -> list[Json]:
    return [event["container_op"] for event in events if event["type"] == "CONTAINER_OP"]


def of_tag(events: list[Json], tag: str) -> list[Json]:
    """The execs whose last argument this is."""
    return [
        event
        for event in events
        for record in event["records"]
        if record["type"] == "EXECVE" and record["fields"].get("ARGV", [""])[-1] == tag
    ]


def test_exec_gives_it_before_the_first_instruction_and_it_is_dropped(bench: Bench) -> None:
    done = bench.sh(f"{COMMAND} exec --contid 4711 -- /bin/sh -c '/bin/true inherited; exit 5'", check=False)
    assert done.returncode == 5
    bench.truth(1, "settled")
    events = bench.events()
    [event] = of_tag(events, "inherited")
    assert event["contid"] == ["4711"]
    assert event["container_ids"] == [{"record": 1, "contid": "4711"}]
    assert [(op["op"], op["res"]) for op in ops(events)] == [("set", 1), ("drop", 1)]
    assert ops(events)[1]["old_contid"] == ["4711"]


def test_three_levels_deep_and_filters_on_each(bench: Bench) -> None:
    inner = f"{COMMAND} exec --contid 4 -- /bin/true deepest"
    bench.sh(f"{COMMAND} exec --contid 1 -- {COMMAND} exec --contid 2 -- {inner}")
    bench.truth(1, "settled")
    [event] = of_tag(bench.events(), "deepest")
    assert event["contid"] == ["4", "2", "1"]
    assert event["container_ids"][0]["contid"] == "4,^2,^1"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("set $$ 4", "EXDEV"),
        ("set 1 4", "EXDEV"),
        ("set $child 18446744073709551615", "EINVAL"),
        ("set $parent 4", "EBUSY"),
    ],
)
def test_refusals_are_answered_and_told(bench: Bench, words: str, error: str) -> None:
    script = (
        "sleep 60 & child=$!; sh -c 'sleep 60 & echo; wait' >/run/up & parent=$!; until [ -s /run/up ]; do :; done;"
        f" {COMMAND} contid {words}; code=$?; kill $child; pkill -P $parent; rm /run/up; exit $code"
    )
    done = bench.sh(script, check=False)
    assert done.returncode == 14, done.stderr
    assert f"({error})".encode() in done.stderr
    bench.truth(1, "settled")
    [op] = ops(bench.events())
    assert (op["op"], op["res"], op["error"]) == ("set", 0, error)


def test_nobody_without_the_right_sets_any(bench: Bench) -> None:
    """An ordinary user may not even connect; root without the capability is refused by the kernel's side."""
    as_nobody = f"setpriv --reuid 65534 --regid 65534 --clear-groups {COMMAND} contid list"
    assert bench.sh(as_nobody, check=False).returncode == 2
    less = "setpriv --bounding-set -audit_control --inh-caps -audit_control"
    done = bench.sh(f"{less} sh -c 'sleep 9 & {COMMAND} contid set $! 4'", check=False)
    assert (done.returncode, b"(EPERM)" in done.stderr) == (14, True), done.stderr


def test_podman_with_the_hook(bench: Bench) -> None:
    """Before the first instruction, for what is executed in it later as well, and balanced."""
    for number in range(BOXES):
        name = f"hooked{number}"
        bench.sh(f"podman run -d --name {name} {IMAGE} sh -c 'true first-{number}; exec sleep 600'")
        bench.exec("podman", "exec", name, "true", f"later-{number}")
    bench.sh("podman rm -af -t 0")
    bench.truth(1, "settled")
    events = bench.events()
    sets = [op for op in ops(events) if op["op"] == "set" and "engine" in op]
    assert all(op["res"] == 1 and op.get("orchestrator") for op in sets)
    named = {op["engine"].get("name"): op for op in sets}
    assert set(named) == {f"hooked{number}" for number in range(BOXES)}
    assert len({op["contid"] for op in sets}) == BOXES
    assert all(len(op["engine"]["id"]) == 64 for op in sets)
    for number in range(BOXES):
        contid = [named[f"hooked{number}"]["contid"]]
        for event in of_tag(events, f"later-{number}"):
            assert event["contid"] == contid
        inside = [event for event in events if event.get("container", {}).get("name") == f"hooked{number}"]
        assert inside
        assert [event.get("contid") for event in inside if event.get("contid") != contid] == []
    drops = [op["old_contid"][0] for op in ops(events) if op["op"] == "drop"]
    assert sorted(drops) == sorted({op["contid"] for op in sets})


def test_without_the_service_a_container_starts(bench: Bench) -> None:
    bench.unit("stop")
    assert bench.sh(f"podman run --rm {IMAGE} true").returncode == 0
    said = json.dumps({"id": "x", "pid": 1})
    assert bench.sh(f"echo '{said}' | {HOOK} --required", check=False).returncode == 1
