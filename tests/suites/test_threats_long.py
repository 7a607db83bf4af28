# SPDX-License-Identifier: Apache-2.0
"""The attempts of the threat model that need the service to start anew, other settings, or minutes.

See tests/suites/test_threats.py.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from tests import schema
from tests.suites.attempting import SAME_USER, USER, attempts, fresh, trial
from tests.suites.live import Live, truth_of
from tests.suites.staging import COMMAND
from tests.suites.test_service import DROP_IN, EVENTS, TRUTH, UNIT, Service, numbers

if TYPE_CHECKING:
    from tests.vm.guest import Guest

__all__ = ["trial"]  # a fixture

pytestmark = [pytest.mark.only_on("6.1", "newest"), pytest.mark.full]

SOCKET = "/run/audit-enricher/control.sock"
STATE = "/var/lib/audit-enricher"
HOME = "/home/tester"


def test_lines_of_the_file_are_altered(trial: Service) -> None:
    """With seals it is found and named; without them nobody can tell."""
    guest, path = trial.guest, "/var/log/audit-enricher/sealed.json"
    guest.put(DROP_IN, f'[output]\npath = "{path}"\nseal = true\n'.encode())
    trial.reload()
    guest.run([TRUTH, "3", "sealed"], check=True)
    trial.sh(f'until grep -q \'"kind":"lines"\' {path}; do sleep 0.2; done')
    guest.run(["rm", DROP_IN], check=True)
    trial.reload()
    verify = [COMMAND, "verify"]
    assert guest.run([*verify, path], timeout=60).returncode == 0
    whole = guest.get(path).splitlines(keepends=True)
    at = next(number for number, line in enumerate(whole) if b"tag=sealed" in line)
    altered = {
        "altered": [*whole[:at], whole[at].replace(b"tag=sealed", b"tag=forged"), *whole[at + 1 :]],
        "removed": [*whole[:at], *whole[at + 1 :]],
        "reordered": [*whole[:at], whole[at + 1], whole[at], *whole[at + 2 :]],
    }
    for name, lines in altered.items():
        guest.put(f"/run/{name}.json", b"".join(lines))
        done = guest.run([*verify, f"/run/{name}.json"], timeout=60)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 15, (name, said)
        assert f"/run/{name}.json" in said
    trial.from_the_start()
    bare = [line for line in guest.get(EVENTS).splitlines(keepends=True) if b"truth-leaf" in line]
    guest.put("/run/bare.json", b"".join(bare))
    without = guest.run([*verify, "/run/bare.json"], timeout=60)
    assert without.returncode != 0 or b"no seal" in without.stdout + without.stderr, without


def test_a_state_that_was_changed_is_not_believed(trial: Service) -> None:
    """By who may write the state directory, which is its own user: what cannot be is told, and begun anew."""
    guest = trial.guest
    trial.unit("stop")
    script = f"echo forged >{STATE}/state.json; head -c 65536 /dev/urandom >{STATE}/journal.sqlite"
    guest.run([*SAME_USER, "sh", "-c", script], check=True)
    trial.unit("start")
    trial.from_the_start()
    trial.truth(3, "anew")
    assert numbers(trial.events(), "anew") == [0, 1, 2]
    said = trial.sh(f"journalctl -q -o cat -u {UNIT}").stdout.decode()
    assert "state.json is damaged" in said
    assert "journal.sqlite.damaged-1 now, and a new one is begun" in said
    journal = trial.status()["journal"]
    assert (journal["failed"], journal["error"]) == (0, "")


def test_a_runtimes_state_lies(trial: Service) -> None:
    """A user's own storage: a link to what root alone may read, what never ends, no list, another's container."""
    guest, ident = trial.guest, "ce" * 32
    home = f"{HOME}/.local/share/containers/storage/overlay-containers"
    path = f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ident}.scope"
    as_user = [*USER, "sh", "-c"]
    before = trial.status()
    lies = (
        f"ln -s /etc/shadow {home}/containers.json",
        f"mkfifo {home}/containers.json",
        f"ln -s /dev/zero {home}/containers.json",
        f"yes '[[[[' | head -c 9000000 >{home}/containers.json",
        f'echo \'[{{"id": "{"ab" * 32}", "names": ["other"]}}]\' >{home}/containers.json',
    )
    trial.events()
    for number, lie in enumerate(lies):
        guest.run([*as_user, f"mkdir -p {home}; rm -f {home}/containers.json; {lie}"], check=True)
        trial.sh(f"mkdir -p /sys/fs/cgroup/{path}")
        trial.sh(f"(echo 0 >/sys/fs/cgroup/{path}/cgroup.procs; exec {TRUTH} 3 lie-{number})")
        trial.truth(20, "between")
        trial.sh(f"rmdir /sys/fs/cgroup/{path}")
    events = fresh(trial)
    told = [event for event in events if (truth := truth_of(event)) and truth.tag.startswith("lie-")]
    assert len(told) == 3 * len(lies)
    assert {event["container"]["id"] for event in told} == {ident}
    assert [event["container"] for event in told if "name" in event["container"]] == []
    after = trial.status()
    assert (after["pid"], after["metadata"]["state"]) == (before["pid"], "on")
    assert after["metadata"]["asked"] > before["metadata"]["asked"]
    guest.run(["rm", "-rf", f"{HOME}/.local"], check=True)


_HANG = """
import ctypes, os, signal
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"hang", b"/var/lib/containers/storage", b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mount")
print("ready", flush=True)
signal.pause()
"""


def test_a_runtimes_state_hangs(trial: Service) -> None:
    """On a file system that nobody answers for: events do not wait, and the process that reads is replaced."""
    guest, ident = trial.guest, "cf" * 32
    path = f"/sys/fs/cgroup/machine.slice/libpod-{ident}.scope"
    before = trial.status()["metadata"]
    trial.events()
    trial.sh("mkdir -p /var/lib/containers/storage; modprobe fuse || true")
    with guest.popen(["python3", "-c", _HANG]) as hanging:
        try:
            assert hanging.read_line(60) == b"ready\n", hanging.stderr
            trial.sh(f"mkdir -p {path}; (echo 0 >{path}/cgroup.procs; exec {TRUTH} 3 hangs)")
            trial.truth(20, "meanwhile")
            test = "import json, sys; sys.exit(json.load(sys.stdin)['metadata']['timed_out'] <= %d)"
            asked = shlex.quote(test % before["timed_out"])
            trial.sh(f"until {COMMAND} status --json | python3 -c {asked}; do sleep 0.5; done")
        finally:
            trial.sh("umount -l /var/lib/containers/storage; true")
    trial.sh(f"rmdir {path}")
    events = fresh(trial)
    assert numbers(events, "meanwhile") == list(range(20))
    (container,) = {json.dumps(event["container"]) for event in events if numbers([event], "hangs")}
    assert json.loads(container) == {"id": ident, "runtime": "podman"}
    assert trial.status()["metadata"]["state"] == "on"


def test_consumers_that_do_not_read_or_talk_nonsense(trial: Service) -> None:
    """A follower that never reads, a destination that is not there, and one that answers with what is no answer."""
    guest = trial.guest
    lost = '[sinks.{0}]\ntype = "{1}"\nqueue = "memory"\nmax_size = "64K"\n'
    settings = lost.format("nobody", "syslog") + 'address = "127.0.0.1:5599"\ntransport = "tcp"\n'
    settings += lost.format("nonsense", "elasticsearch") + 'url = "http://127.0.0.1:5598"\n'
    guest.put(DROP_IN, settings.encode())
    answer = (
        "import socket; s = socket.create_server(('127.0.0.1', 5598)); print('ready', flush=True)\n"
        "while True:\n    c = s.accept()[0]; c.recv(100); c.sendall(bytes(range(256)) * 64); c.close()\n"
    )
    follow = (
        f"import socket, time; s = socket.socket(socket.AF_UNIX); s.connect({SOCKET!r})\n"
        's.sendall(b\'{"op":"follow"}\\n\'); print(s.recv(24), flush=True); time.sleep(600)\n'
    )
    with guest.popen(["python3", "-c", answer]) as liar, guest.popen(["python3", "-c", follow]) as deaf:
        assert liar.read_line(60) == b"ready\n"
        trial.reload()
        assert deaf.read_line(60)
        trial.events()
        trial.truth(1500, "unread")
        status = trial.status()
        told = {sink["name"]: sink for sink in status["sinks"]}
        assert told["nonsense"]["errors"] > 0, told
        assert told["nobody"]["lost"] > 0, told
        assert all(sink["bugs"] == 0 and sink["error"] for sink in told.values()), told
        assert status["control"]["skipped"] > 0
        assert (status["followers"], status["account"]["balanced"]) == (1, True)
    events = fresh(trial)
    assert numbers(events, "unread") == list(range(1500))
    losses = [event["lost"] for event in events if event["type"] == "LOST"]
    assert {loss["sink"] for loss in losses if loss["stage"] == "queue"} >= {"nobody"}
    guest.run(["rm", DROP_IN], check=True)
    trial.reload()


def test_another_object_than_the_programs(trial: Service) -> None:
    """One whose structures are called otherwise, mounted over the installed ones: refused with a hint, at the start."""
    guest = trial.guest
    trial.unit("stop")
    listed = trial.sh("dpkg -L audit-enricher | grep '/x86_64.*[.]bpf[.]o$' | grep -v contid")
    found = listed.stdout.decode().split()
    assert found
    for number, path in enumerate(found):
        data = guest.get(path)
        assert b"\0cgroup_id\0" in data
        guest.put(f"/run/forged-{number}.o", data.replace(b"\0cgroup_id\0", b"\0cgroup_iq\0"))
    mounts = "; ".join(f"mount --bind /run/forged-{n}.o {path}" for n, path in enumerate(found))
    run = shlex.join([COMMAND, "run", "--format", "json", "--for", "1s"])
    done = guest.run(["unshare", "--mount", "sh", "-c", f"{mounts}; exec {run}"], timeout=60)
    said = done.stderr.decode()
    assert done.returncode not in (0, 1), said
    assert "cgroup_id" in said
    assert "hint: " in said
    assert guest.run(["sh", "-c", run], timeout=60).returncode == 0
    trial.unit("start")


def test_a_user_makes_more_than_is_read(guest: Guest, trial: Service) -> None:
    """Buffers small, and the reader held for as long: each record that is missing is told, by cause and number."""
    trial.unit("stop")
    with Live(guest, "--receive-buffer", "32K", "--ring-memory", "64K") as live:
        assert attempts(guest, USER, ("read", live.path)) == ["EACCES"]
        pid = live.pid
        guest.run(["kill", "-STOP", str(pid)], check=True)
        guest.run([*USER, TRUTH, "-j", "2", "150", "flood"], timeout=120, check=True)
        guest.run(["kill", "-CONT", str(pid)], check=True)
        account = live.stop()
        events = live.events()
    trial.unit("start")
    told = [event["lost"] for event in events if event["type"] == "LOST"]
    netlink = sum(lost["records"] for lost in told if lost["cause"] == "netlink")
    assert netlink == account.netlink_drops > 0
    rings = sum(lost["messages"] for lost in told if lost["cause"] == "ring")
    assert rings == account.contexts_dropped + account.tallies_dropped > 0
    # The hook's count begins behind the first record of the account, or with it.
    assert account.delivered + netlink - account.hook_records in (0, 1)
    without = [event for event in events if event["records"] and event["enrichment"]["context"] == "none"]
    assert all(event["enrichment"]["reason"] and "namespaces" not in event for event in without)


def test_a_user_makes_more_than_audits_limits_allow(guest: Guest, trial: Service) -> None:
    trial.unit("stop")
    with Live(guest) as live:
        guest.run(["auditctl", "-b", "200000"], check=True)
        guest.run(["auditctl", "-r", "40"], check=True)
        guest.run([*USER, TRUTH, "-j", "2", "40", "rate"], timeout=120, check=True)
        guest.run(["auditctl", "-r", "0"], check=True)
        guest.run(["auditctl", "-b", "8192"], check=True)
        account = live.stop()
        events = live.events()
    trial.unit("start")
    told = [event["lost"] for event in events if event["type"] == "LOST"]
    assert sum(lost["records"] for lost in told if lost["cause"] == "rate_limit") == account.rate_limit > 0
    assert account.missing == account.rate_limit + account.lost_unseen
    schema.validate(events[-1])
