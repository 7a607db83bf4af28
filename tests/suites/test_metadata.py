# SPDX-License-Identifier: Apache-2.0
"""Names and images from real runtimes' state, under the service's own unit; and what a runtime's failure costs."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from tests.suites.test_service import DROP_IN, UNIT, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

Json = dict[str, Any]
IMAGE = "localhost/busybox:latest"
DAC_READ_SEARCH = f"{1 << 2:016x}"
_BUNDLE = "/run/suite-bundle"
_SPEC = """
import json, sys
name, path, state = sys.argv[1:]
spec = json.load(open("config.json"))
spec["process"].update(terminal=False, args=["sleep", "600"])
spec["linux"]["cgroupsPath"] = path
json.dump(spec, open("config.json", "w"))
"""
_CLEAN = f"""
docker rm -f before dweb dlate; podman rm -f -t 0 pweb plate
ctr task kill -s KILL cweb; ctr task delete cweb; ctr container delete cweb
runc delete -f rweb; crun delete -f xweb; runc delete -f slow
rm -rf {_BUNDLE} /run/runc/bad-*; systemctl stop docker.socket docker.service containerd.service
true
"""


class Bench(Service):
    """The service, with the runtimes beside it."""

    def exec(self, *command: str) -> None:
        """Run something; the last word is the tag by which its event is found."""
        done = self.sh(shlex.join(command), check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def bundle(self, name: str, path: str) -> str:
        """Return the directory of a bundle whose container has this cgroup."""
        where = f"{_BUNDLE}/{name}"
        make = f"mkdir -p {where}/rootfs && cp -a /srv/busybox/. {where}/rootfs && cd {where} && runc spec"
        self.sh(f"{make} && python3 -c {shlex.quote(_SPEC)} {name} {path} x")
        return where

    def told(self) -> dict[str, Json]:
        """The events of ``true TAG`` since the last call, by their tags; all that was written is there."""
        self.truth(1, "settled")
        found = {}
        for event in self.events():
            for record in event["records"]:
                arguments = record["fields"].get("ARGV", []) if record["type"] == "EXECVE" else []
                if arguments[:1] == ["true"]:
                    found[str(arguments[1])] = event
        return found


@pytest.fixture
def bench(guest: Guest, rules: Rules) -> Iterator[Bench]:
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    guest.run(["systemctl", "unmask", UNIT], check=True)
    made = Bench(guest)
    try:
        made.sh("systemctl start containerd docker; guest-images docker podman containerd")
        made.sh(f"docker run -d --name before -l tier=back {IMAGE} sleep 600")
        made.sh(f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '[metadata]\\nlabels = true\\n' >{DROP_IN}")
        made.unit("start")
        yield made
    finally:
        wipe = f"rm -rf {DROP_IN} /var/log/audit-enricher /var/lib/audit-enricher"
        guest.run(["sh", "-c", _CLEAN], timeout=120)
        guest.run(["sh", "-c", f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}; {wipe}"], timeout=60)
        guest.run(["systemctl", "mask", UNIT], check=True)


def shown(event: Json) -> tuple[object, ...]:
    """What an event says of its container, and by whom."""
    container = event.get("container", {})
    enrichment = event["enrichment"]
    return (
        event["where"],
        container.get("runtime"),
        container.get("name"),
        container.get("image"),
        enrichment["container"],
        enrichment.get("metadata"),
    )


@pytest.mark.only_on("newest")
def test_names_and_failures(
    bench: Bench, rules: Rules, record_property: Callable[[str, object], None]
) -> None:
    _names(bench)
    _processes(bench, rules)
    _failures(bench)
    counts = bench.status()["metadata"]
    record_property("metadata", json.dumps({name: count for name, count in counts.items() if count}))
    bench.unit("stop")
    said = bench.sh(f"journalctl -q -o cat -u {UNIT}").stdout.decode()
    assert "every record is accounted for" in said, said[-3000:]


def _names(bench: Bench) -> None:
    """Every runtime's container has its name by its second command; one that was there before by its first."""
    bench.exec("docker", "exec", "before", "true", "before")
    bench.sh(f"docker run -d --name dweb {IMAGE} sleep 600")
    bench.exec("docker", "exec", "dweb", "true", "docker")
    bench.sh(f"podman run -d --name pweb {IMAGE} sleep 600")
    bench.exec("podman", "exec", "pweb", "true", "podman")
    bench.sh(f"ctr run -d {IMAGE} cweb sleep 600")
    bench.exec("ctr", "task", "exec", "--exec-id", "suite", "cweb", "true", "ctr")
    bench.sh(f"cd {bench.bundle('rweb', '/jobs/rweb')} && runc run -d rweb </dev/null >/dev/null 2>&1")
    bench.exec("runc", "exec", "rweb", "true", "runc")
    bench.sh(f"cd {bench.bundle('xweb', '/jobs/xweb')} && crun run -d xweb </dev/null >/dev/null 2>&1")
    bench.exec("crun", "exec", "xweb", "true", "crun")
    told = bench.told()
    assert {tag: shown(event) for tag, event in told.items()} == {
        "before": ("container", "docker", "before", IMAGE, "cgroup", "docker"),
        "docker": ("container", "docker", "dweb", IMAGE, "cgroup", "docker"),
        "podman": ("container", "podman", "pweb", IMAGE, "cgroup", "podman"),
        "ctr": ("container", "containerd", "cweb", None, "runtime", "containerd"),
        "runc": ("container", "runc", "rweb", None, "runtime", "runc"),
        "crun": ("container", "crun", "xweb", None, "runtime", "crun"),
    }
    assert told["before"]["container"]["labels"] == {"tier": "back"}


def _processes(bench: Bench, rules: Rules) -> None:
    """The processes beside hold one capability, and what they do is the service's own."""
    main = bench.status()["pid"]
    pids = bench.sh(f"cat /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs").stdout.decode().split()
    others = sorted(set(map(int, pids)) - {main})
    assert len(others) == 2
    for pid in others:
        lines = bench.sh(f"grep -E '^Cap(Prm|Eff|Inh|Amb)' /proc/{pid}/status").stdout.decode().splitlines()
        held = dict(line.split() for line in lines)
        assert (held["CapPrm:"], held["CapEff:"]) == (DAC_READ_SEARCH, DAC_READ_SEARCH)
        assert (int(held["CapInh:"], 16), int(held["CapAmb:"], 16)) == (0, 0)
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "openat", "-F", "uid=audit-enricher", "-k", "own")
    bench.events()
    bench.sh(f"cd {bench.bundle('slow', '/jobs/slow')} && runc run -d slow </dev/null >/dev/null 2>&1")
    bench.exec("runc", "exec", "slow", "true", "slow")
    bench.truth(1, "settled")
    own = [event for event in bench.events() if "own" in event["keys"] and "subject" in event]
    assert {event["subject"]["pid"] for event in own} >= set(others[1:])
    assert [event for event in own if not event["enrichment"].get("self_caused")] == []


def _failures(bench: Bench) -> None:
    """No runtime's daemon is asked, and state that is nonsense costs its own container's name alone."""
    bench.sh("systemctl kill -s KILL --kill-who=main docker.service")
    group = "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$(pgrep -f 'sleep 600' -o)/cgroup)"
    bench.exec("sh", "-c", f"(echo 0 >{group}/cgroup.procs; exec true orphan)")
    bench.sh(
        "mkdir /run/runc/bad-garbage /run/runc/bad-fifo /run/runc/bad-mode;"
        " head -c 4096 /dev/urandom >/run/runc/bad-garbage/state.json; mkfifo /run/runc/bad-fifo/state.json;"
        " echo '{\"id\":' >/run/runc/bad-mode/state.json; chmod 0 /run/runc/bad-mode/state.json"
    )
    storage = "/var/lib/containers/storage/overlay-containers"
    before = bench.status()["metadata"]
    bench.sh(f"podman create --name plate {IMAGE} sleep 600")
    bench.sh(f"cp -a {storage}/containers.json /run/containers.json")
    bench.sh(f"rm {storage}/containers.json && mkfifo {storage}/containers.json")
    path = "/machine.slice/libpod-" + "ef" * 32 + ".scope"
    cgroup = f"/sys/fs/cgroup{path}"
    bench.sh(f"mkdir -p {cgroup}")
    bench.exec("sh", "-c", f"(echo 0 >{cgroup}/cgroup.procs; exec true nameless)")
    bench.sh(f"rm {storage}/containers.json; cp -a /run/containers.json {storage}/containers.json")
    bench.exec("runc", "exec", "rweb", "true", "beside")
    bench.truth(500, "flow")
    told = bench.told()
    assert told["nameless"]["container"] == {"id": "ef" * 32, "runtime": "podman"}
    assert "metadata" not in told["nameless"]["enrichment"]
    assert told["orphan"]["container"]["name"] in {"before", "dweb"}
    assert told["beside"]["container"]["name"] == "rweb"
    after = bench.status()["metadata"]
    assert after["state"] == "on"
    assert after["unknown"] > before["unknown"]
    assert (after["timed_out"], after["crashed"]) == (0, 0)
