# SPDX-License-Identifier: Apache-2.0
"""Who attempts something in a guest, and what of it the events must tell.

Owns how a command is run as an ordinary user, as the service's own user without capabilities, and as root of a
container; and the container, which is what one is to the kernel: namespaces and a cgroup in the shape of a runtime's,
over the guest's own files, so that all of the guest's programs can be tried in it. And the one run of the service that
a suite's attempts share. Never decides what is tried.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.suites.rules import Rules
from tests.suites.staging import SHARE
from tests.suites.test_service import Service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.suites.live import Json
    from tests.vm.guest import Completed, Guest

ATTEMPTS = ("python3", f"{SHARE}/guest/attempts.py")
USER = ("setpriv", "--reuid=tester", "--regid=tester", "--clear-groups")
SAME_USER = ("setpriv", "--reuid=audit-enricher", "--regid=audit-enricher", "--clear-groups")
IN_GROUP = ("setpriv", "--reuid=tester", "--regid=tester", "--groups=audit-enricher")

DOCKERS = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
)
"""The capabilities of root in a container of Docker's, where nobody asked for others."""

_SLICE = "/sys/fs/cgroup/system.slice"
_ENTER = 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"'


class Box(NamedTuple):
    """A container."""

    guest: Guest
    id: str

    @property
    def cgroup(self) -> str:
        """Its directory."""
        return f"{_SLICE}/docker-{self.id}.scope"

    def root(
        self,
        *command: str,
        caps: str = DOCKERS,
        apart: str = "mnt,uts,ipc,net,pid,cgroup",
        input: bytes | None = None,  # noqa: A002 - as in subprocess
    ) -> Completed:
        """Run a command as its root, with these capabilities and in namespaces of its own of these kinds."""
        kinds = {"mnt": "--mount", "user": "--map-root-user"}
        unshare = [kinds.get(kind, f"--{kind}") for kind in apart.split(",") if kind]
        if "--pid" in unshare:
            unshare += ["--fork", "--mount-proc"]
        bounding = () if caps == "all" else ("--bounding-set=-all," + _added(caps),)
        less = ("setpriv", "--inh-caps=-all", *bounding)
        words = ("sh", "-c", _ENTER, "sh", self.cgroup, "unshare", *unshare, "--", *less, *command)
        return self.guest.run(words, timeout=120, input=input)


def _added(caps: str) -> str:
    return ",".join(f"+{name}" for name in caps.split(","))


@contextmanager
def box(guest: Guest, number: int) -> Iterator[Box]:
    """A container's cgroup, which must be empty at the end."""
    made = Box(guest, f"{number:064x}")
    guest.run(["mkdir", made.cgroup], check=True)
    try:
        yield made
    finally:
        guest.run(["rmdir", made.cgroup], check=True)


def tried(done: Completed) -> list[str]:
    """What attempts.py said."""
    assert done.returncode == 0, done.stderr.decode()
    said: list[str] = json.loads(done.stdout)
    return said


def attempts(guest: Guest, who: Sequence[str], *wanted: tuple[str, ...]) -> list[str]:
    """Try these as somebody: "ok" or the error's name of each."""
    words = [*who, *ATTEMPTS]
    return tried(guest.run(words, input=json.dumps(wanted).encode(), timeout=120))


def of_type(events: list[Json], name: str) -> list[Json]:
    """The events that have a record of this type, or are of it themselves."""
    return [
        event
        for event in events
        if event["type"] == name or any(record["type"] == name for record in event["records"])
    ]


def executed(events: list[Json], tag: str) -> list[Json]:
    """The events of programs that were started with this as their last argument."""
    return [
        event
        for event in events
        for record in event["records"]
        if record["type"] == "EXECVE" and record["fields"].get("ARGV", [""])[-1] == tag
    ]


@pytest.fixture(scope="module")
def trial(guest: Guest) -> Iterator[Service]:
    rules = Rules(guest)
    rules.clear()
    with serving(guest, rules) as made:
        made.truth(1, "begun")
        yield made
    rules.clear()


@pytest.fixture
def jail(guest: Guest) -> Iterator[Box]:
    with box(guest, 0xA77AC4) as made:
        yield made


def fresh(trial: Service) -> list[Json]:
    """What was written since the last look, all that was finished before this one included."""
    trial.truth(1, "settled")
    return trial.events()
