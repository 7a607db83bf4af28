# SPDX-License-Identifier: Apache-2.0
"""Names and images from real runtimes' state, under the service's own unit; and what a runtime's failure costs."""

from __future__ import annotations

import json
import shlex
import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.suites.staging import COMMAND, SHARE
from tests.suites.test_service import DROP_IN, EVENTS, TRUTH, UNIT, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.suites.rules import Rules
    from tests.vm.guest import Guest

Json = dict[str, Any]
IMAGE = "localhost/busybox:latest"
TRIES = 15
SLOWER, MORE = 1.5, 20.0
"""How much later a line may come while nobody answers: so many times the median of before, and milliseconds."""
DAC_READ_SEARCH = f"{1 << 2:016x}"
_BUNDLE = "/run/suite-bundle"
_SPEC = """
import json, sys
name, path, state = sys.argv[1:]
spec = json.load(open("config.json"))
spec["process"].update(terminal=False, args=["sleep", "100000"])
spec["linux"]["cgroupsPath"] = path
json.dump(spec, open("config.json", "w"))
"""
# The test has killed the daemon; what waits for it to be up again is the start, no client.
_CLEAN_DOCKER = "systemctl start docker; docker rm -f before dweb"
# A client waits for a daemon that is not there, or wakes it.
_CLEAN = f"""
podman rm -f -t 0 pweb plate phung pcrash pended
if systemctl -q is-active containerd; then
    ctr task kill -s KILL cweb; ctr task delete cweb; ctr container delete cweb
fi
runc delete -f rweb; crun delete -f xweb; runc delete -f slow
rm -rf {_BUNDLE} /run/runc/bad-*; systemctl stop docker.socket docker.service containerd.service
systemctl start docker.socket
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

    def helpers(self) -> tuple[int, int]:
        """The keeper, which holds our socket, and the worker that it started, which reads files."""
        main = self.status()["pid"]
        keeper = self._child(main)
        return keeper, self._child(keeper)

    def _child(self, pid: int) -> int:
        return int(self.sh(f"pgrep -n -P {pid}").stdout)

    def latency(self) -> float:
        """From an exec to its line in the file: the median of some, in milliseconds."""
        words = ["python3", f"{SHARE}/guest/latency.py", EVENTS, TRUTH, str(TRIES)]
        said: list[float] = json.loads(self.guest.run(words, timeout=240, check=True).stdout)
        assert len(said) == TRIES
        return statistics.median(said)

    def until(self, name: str, above: int) -> Json:
        """The counters, when the one of this name has come above; nothing is made happen meanwhile."""
        test = f"import json, sys; sys.exit(json.load(sys.stdin)['metadata']['{name}'] <= {above})"
        self.sh(f"until {COMMAND} status --json | python3 -c {shlex.quote(test)}; do :; done")
        counts: Json = self.status()["metadata"]
        return counts

    def named(self, engine: str, box: str) -> Json:
        """The first event with the container's name; each event may have it asked for again."""
        for number in range(60):
            tag = f"{box}-{number}"
            self.exec(engine, "exec", box, "true", tag)
            event = self.told()[tag]
            if "name" in event.get("container", {}):
                return event
        pytest.fail(f"{box} has no name after {number + 1} events: {self.status()['metadata']}")

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
    with serving(guest, rules, "systemctl start containerd docker", "docker podman containerd") as made:
        made.sh(f"docker run -d --name before -l tier=back {IMAGE} sleep 100000")
        made.unit("start")
        yield made


@pytest.fixture
def podmans(guest: Guest, rules: Rules) -> Iterator[Bench]:
    """With one runtime."""
    with serving(guest, rules, "true", "podman") as made:
        made.unit("start")
        yield made


@contextmanager
def serving(guest: Guest, rules: Rules, daemons: str, engines: str) -> Iterator[Bench]:
    """All but the service's start; its end, and that of what tests leave."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    guest.run(["systemctl", "unmask", UNIT], check=True)
    made = Bench(guest)
    try:
        made.sh(f"{daemons}; guest-images {engines}")
        made.sh(f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '[metadata]\\nlabels = true\\n' >{DROP_IN}")
        yield made
    finally:
        if "docker" in engines.split():
            guest.run(["sh", "-c", _CLEAN_DOCKER], timeout=120)
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
    # From here on each look into runc's state meets these.
    bench.sh(
        "mkdir -p /run/runc/bad-garbage /run/runc/bad-fifo /run/runc/bad-mode;"
        " head -c 4096 /dev/urandom >/run/runc/bad-garbage/state.json; mkfifo /run/runc/bad-fifo/state.json;"
        " echo '{\"id\":' >/run/runc/bad-mode/state.json; chmod 0 /run/runc/bad-mode/state.json"
    )
    _names(bench)
    _processes(bench, rules)
    _failures(bench)
    _ended(bench, record_property)


@pytest.mark.full
@pytest.mark.only_on("newest")
def test_nobody_answers(podmans: Bench, record_property: Callable[[str, object], None]) -> None:
    record_property("latency, ms", json.dumps(_hung(podmans)))
    _killed(podmans)
    _ended(podmans, record_property)


def _ended(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    counts = bench.status()["metadata"]
    record_property("metadata", json.dumps({name: count for name, count in counts.items() if count}))
    bench.unit("stop")
    said = bench.sh(f"journalctl -q -o cat -u {UNIT}").stdout.decode()
    assert "every record is accounted for" in said, said[-3000:]


def _names(bench: Bench) -> None:
    """Docker, Podman and containerd: by the second command, by the first where the container was there before.

    Of runc and crun no path tells a container: it is unknown until the runtime wrote its file and we have read it.
    """
    bench.exec("docker", "exec", "before", "true", "before")
    bench.sh(f"docker run -d --name dweb {IMAGE} sleep 100000")
    bench.exec("docker", "exec", "dweb", "true", "docker")
    bench.sh(f"podman run -d --name pweb {IMAGE} sleep 100000")
    bench.exec("podman", "exec", "pweb", "true", "podman")
    bench.sh(f"ctr run -d {IMAGE} cweb sleep 100000")
    bench.exec("ctr", "task", "exec", "--exec-id", "suite", "cweb", "true", "ctr")
    bench.sh(f"cd {bench.bundle('rweb', '/jobs/rweb')} && runc run -d rweb </dev/null >/dev/null 2>&1")
    bench.sh(f"cd {bench.bundle('xweb', '/jobs/xweb')} && crun run -d xweb </dev/null >/dev/null 2>&1")
    told = bench.told()
    told["runc"] = bench.named("runc", "rweb")
    told["crun"] = bench.named("crun", "xweb")
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
    bench.truth(1, "ruled")  # to load it is an event with its key, and auditctl's
    bench.events()
    bench.sh(f"cd {bench.bundle('slow', '/jobs/slow')} && runc run -d slow </dev/null >/dev/null 2>&1")
    bench.exec("runc", "exec", "slow", "true", "slow")
    bench.truth(1, "settled")
    own = [event for event in bench.events() if "own" in event["keys"] and "subject" in event]
    assert {event["subject"]["pid"] for event in own} >= set(others[1:])
    assert [event for event in own if not event["enrichment"].get("self_caused")] == []


def _failures(bench: Bench) -> None:
    """No runtime's daemon is asked, and state that is nonsense costs its own container's name alone."""
    pid = int(bench.sh("docker inspect --format '{{.State.Pid}}' before").stdout)
    group = "/sys/fs/cgroup" + bench.sh(f"sed -n 's/^0:://p' /proc/{pid}/cgroup").stdout.decode().strip()
    bench.sh("systemctl kill -s KILL --kill-who=main docker.service")
    bench.exec("sh", "-c", f"(echo 0 >{group}/cgroup.procs; exec true orphan)")
    storage = "/var/lib/containers/storage/overlay-containers"
    bench.sh(f"podman create --name plate {IMAGE} sleep 100000")
    bench.sh(f"cp -a {storage}/containers.json /run/containers.json")
    bench.sh(f"rm {storage}/containers.json && mkfifo {storage}/containers.json")
    path = "/machine.slice/libpod-" + "ef" * 32 + ".scope"
    cgroup = f"/sys/fs/cgroup{path}"
    before = bench.status()["metadata"]
    bench.sh(f"mkdir -p {cgroup}")
    bench.exec("sh", "-c", f"(echo 0 >{cgroup}/cgroup.procs; exec true nameless)")
    # A worker that waits for a writer of the FIFO is killed for it, and nothing is known: "unknown" is an answer.
    bench.until("unknown", before["unknown"])
    bench.sh(f"rm {storage}/containers.json; cp -a /run/containers.json {storage}/containers.json")
    bench.exec("runc", "exec", "rweb", "true", "beside")
    bench.truth(500, "flow")
    told = bench.told()
    assert told["nameless"]["container"] == {"id": "ef" * 32, "runtime": "podman"}
    assert "metadata" not in told["nameless"]["enrichment"]
    assert told["orphan"]["container"]["name"] in {"before", "dweb"}
    assert told["beside"]["container"]["name"] == "rweb"
    after = bench.status()["metadata"]
    assert (after["state"], after["crashed"]) == ("on", 0)


def _hung(bench: Bench) -> dict[str, float]:
    """Nobody answers, as where a file system hangs: the id is there, lines come no later, and it is counted."""
    keeper, worker = bench.helpers()
    before = bench.status()["metadata"]
    usual = bench.latency()
    # The worker is what a file system can hang. With the keeper held too, nobody notices while we measure.
    bench.sh(f"kill -STOP {worker} {keeper}")
    ident = bench.sh(f"podman run -d --name phung {IMAGE} sleep 100000").stdout.decode().split()[-1]
    bench.exec("podman", "exec", "phung", "true", "hung")
    during = bench.latency()
    bench.truth(500, "flow")
    hung = bench.told()["hung"]
    assert shown(hung) == ("container", "podman", None, None, "cgroup", None)
    assert hung["container"]["id"] == ident
    counts = bench.status()["metadata"]
    assert (counts["state"], counts["answered"]) == ("on", before["answered"])
    assert counts["waiting"] > 0
    bench.sh(f"kill -CONT {keeper}")
    counts = bench.until("timed_out", before["timed_out"])
    assert (counts["state"], counts["crashed"]) == ("on", 0)
    assert bench.helpers()[0] == keeper
    assert bench.named("podman", "phung")["container"]["name"] == "phung"
    assert bench.helpers()[1] != worker, "the one that hung was killed, and there is another"
    # Other guests come and go beside this one: it is held against the slower of before and after.
    after = bench.latency()
    assert during <= SLOWER * max(usual, after) + MORE, (usual, during, after)
    return {"before": usual, "while nobody answers": during, "after": after}


def _killed(bench: Bench) -> None:
    """SIGKILL: another worker is started; without the keeper there are no names any more, and all else is as it was."""
    keeper, worker = bench.helpers()
    bench.sh(f"kill -KILL {worker}")
    bench.sh(f"podman run -d --name pcrash {IMAGE} sleep 100000")
    assert bench.named("podman", "pcrash")["container"]["name"] == "pcrash"
    counts = bench.status()["metadata"]
    assert counts["crashed"] >= 1
    assert bench.helpers()[0] == keeper
    bench.sh(f"kill -KILL {keeper}")
    ident = bench.sh(f"podman run -d --name pended {IMAGE} sleep 100000").stdout.decode().split()[-1]
    bench.exec("podman", "exec", "pended", "true", "ended")
    bench.exec("podman", "exec", "pcrash", "true", "held")
    bench.truth(500, "flow")
    told = bench.told()
    assert told["ended"]["container"] == {"id": ident, "runtime": "podman"}
    assert told["held"]["container"]["name"] == "pcrash", "what was answered stays"
    assert bench.status()["metadata"]["state"] == "ended"
