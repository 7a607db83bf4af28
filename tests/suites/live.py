# SPDX-License-Identifier: Apache-2.0
"""One `audit-enricher run` in a guest, from "ready" to its account; and what its events must say.

Owns the parsing of what the command prints about itself and the comparison with the ground truth that
the workload carries in its arguments. Never decides what to run.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from enricher.model import KINDS
from tests.suites.staging import COMMAND

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.vm.guest import Guest

Json = dict[str, Any]
_numbers = itertools.count()
_READY_TIMEOUT = 60.0
_STOP_TIMEOUT = 60.0


class Account(NamedTuple):
    """The figures that `run` prints at its end."""

    events: int
    incomplete: int
    own: int
    finished: int
    delivered: int
    joined: int
    without_context: int
    missing: int
    malformed: int
    netlink_drops: int
    ring_drops: int
    misses: int | None
    failures: int
    balanced: bool

    @property
    def unmatched(self) -> int:
        return self.without_context + self.missing


def account_of(said: str) -> Account:
    """Read the account out of the command's standard error."""

    def row(name: str) -> list[str]:
        found = re.search(rf"^{re.escape(name)}  +(.*)$", said, re.MULTILINE)
        assert found, f"no line {name!r} in:\n{said}"
        return re.findall(r"\d+|not counted", found[1])

    events, incomplete, own = map(int, row("events"))
    netlink, ring, misses = row("lost: netlink, ring, re-entry")
    return Account(
        events,
        incomplete,
        own,
        int(row("records finished by the kernel")[0]),
        int(row("records delivered")[0]),
        int(row("  joined with their context")[0]),
        int(row("  without a context")[0]),
        int(row("records finished and not delivered")[0]),
        int(row("malformed records passed through")[0]),
        int(netlink),
        int(ring),
        int(misses) if misses.isdigit() else None,
        int(row("failed reads in the kernel side")[0]),
        "every record is accounted for" in said,
    )


class Live:
    """A running command. Leaving the block stops it if `stop` was not called."""

    def __init__(self, guest: Guest, *options: str, view: str = "json") -> None:
        self._guest = guest
        self.path = f"/run/audit-enricher-{next(_numbers)}.{view}"
        # What it says about itself comes first: joined with standard output, lines can be waited for.
        self._process = guest.popen(
            [
                "sh",
                "-c",
                'exec "$@" 2>&1',
                "sh",
                COMMAND,
                "run",
                "--format",
                view,
                "--output",
                self.path,
                *options,
            ]
        )
        self.said = ""

    def __enter__(self) -> Self:
        while not self.said.endswith("ready\n"):
            line = self._process.read_line(_READY_TIMEOUT)
            self.said += line.decode()
            assert line, f"it ended before it was ready:\n{self.said}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    @property
    def pid(self) -> int:
        """Its process id in the guest."""
        found = self._guest.run(["pgrep", "-f", self.path, "-o"], check=True)
        return int(found.stdout)

    @property
    def hook(self) -> str:
        """The hook it reported."""
        found = re.search(r"hook (\S+) \(", self.said)
        assert found, self.said
        return found[1]

    def stop(self, number: int = signal.SIGINT) -> Account:
        """Ctrl-C, and the account."""
        if self._process.poll() is None:
            self._process.signal(number)
        status = self._process.wait(_STOP_TIMEOUT)
        self.said += self._process.read().decode()
        assert status == 0, f"exit status {status}:\n{self.said}"
        return account_of(self.said)

    def output(self) -> bytes:
        """What it has written so far."""
        return self._guest.get(self.path)

    def events(self) -> list[Json]:
        """What it has written so far, as events."""
        return [json.loads(line) for line in self.output().splitlines()]


class Truth(NamedTuple):
    """What a `truth` leaf said of itself in its arguments."""

    tag: str
    number: int
    pid: int
    nspid: tuple[int, ...]
    inums: dict[str, int]


def truth_of(event: Json) -> Truth | None:
    """The ground truth in the event's EXECVE record, if it is one of the workload's."""
    for record in event["records"]:
        if record["type"] != "EXECVE" or record["fields"].get("a0") != "truth-leaf":
            continue
        said = dict(
            value.split("=", 1)
            for name, value in record["fields"].items()
            if name[0] == "a" and "=" in str(value)
        )
        nspid = tuple(int(pid) for pid in said["nspid"].split(",") if pid)
        return Truth(
            said["tag"], int(said["n"]), int(said["self"]), nspid, {kind: int(said[kind]) for kind in KINDS}
        )
    return None


def mismatches(event: Json, truth: Truth) -> list[str]:
    """In what the event differs from the truth, one line per fact; empty means that all ten inums are right.

    0 is what a leaf says that could not read a link, which is right for one only: /proc has no pid_for_children
    before its first child.
    """
    wrong = []
    for kind, inum in truth.inums.items():
        got = event.get("namespaces", {}).get(kind, {}).get("ino")
        if got != inum and not (kind == "pid_for_children" and not inum):
            wrong.append(f"{event['id']} {truth.tag} {kind}: {got} for {inum}")
    pids = tuple(level["pid"] for level in event.get("subject", {}).get("pids", []))
    # A container's own /proc shows the inner levels only.
    if truth.nspid and pids[-len(truth.nspid) :] != truth.nspid:
        wrong.append(f"{event['id']} {truth.tag} pids: {pids} for {truth.nspid}")
    if pids and pids[-1] != truth.pid:
        wrong.append(f"{event['id']} {truth.tag} pid: {pids[-1]} for {truth.pid}")
    return wrong
