# SPDX-License-Identifier: Apache-2.0
"""The service with container identifiers on, under its own unit, for the suites about them.

Owns what is put into the guest for that and taken away again, and the reading of what events say of identifiers.
Never decides what has to hold.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.lint.tree import ROOT
from tests.suites.rules import Rules
from tests.suites.test_metadata import Bench, serving
from tests.suites.test_service import DROP_IN, UNIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.guest import Guest

Json = dict[str, Any]
HOOK = "/usr/libexec/audit-enricher/contid-hook"
HOOKS = "/usr/share/containers/oci/hooks.d"
SOCKET = "/run/audit-enricher/contid.sock"
PINS = "/sys/fs/bpf/audit-enricher"
ON = "[contid]\nenabled = true\n"
_UNIT_DROP_IN = f"/run/systemd/system/{UNIT}.d"


@contextmanager
def contids(guest: Guest, settings: str = "") -> Iterator[Bench]:
    """The service is started with these settings beside, and with the drop-in that is shipped as an example."""
    rules = Rules(guest)
    rules.clear()
    with serving(guest, rules, "true", "podman") as made:
        guest.put(DROP_IN, (ON + settings).encode())
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
            assert state["state"] == "on", state
            yield made
        finally:
            made.sh(
                f"podman rm -af -t 0; rm -f {HOOKS}/audit-enricher-contid.json; systemctl stop {UNIT};"
                f" rm -rf {_UNIT_DROP_IN}; rm -f {PINS}/*/*; rmdir {PINS}/* {PINS}",
                check=False,
            )
            made.sh("systemctl daemon-reload")
            rules.clear()


def settled(bench: Bench) -> list[Json]:
    """Every event since the last call. Two marks: what the store told before the first is written before the second."""
    bench.truth(1, "settled")
    bench.truth(1, "settled")
    return bench.events()


def ops(events: list[Json]) -> list[Json]:
    """What was done to identifiers, or tried."""
    return [event["container_op"] for event in events if event["type"] == "CONTAINER_OP"]


def of_true(events: list[Json], tag: str) -> list[Json]:
    """The execs of ``true TAG``: not those of whoever was told to execute it, whose last argument is the tag too."""
    return [event for event in events if (words := _words(event))[1:] == [tag] and _is_true(words[0])]


def _words(event: Json) -> list[str]:
    for record in event["records"]:
        if record["type"] == "EXECVE":
            words: list[str] = record["fields"].get("ARGV", [])
            return words
    return []


def _is_true(word: str) -> bool:
    return word.rpartition("/")[2] == "true"


def unkept(bench: Bench) -> list[str]:
    """What the service said that it cannot do to keep identifiers beyond its own end, or for each process."""
    said = bench.sh(f"journalctl -q -o cat -b -u {UNIT}").stdout.decode().splitlines()
    return [line for line in said if "cannot be pinned" in line or "may be missed" in line]
