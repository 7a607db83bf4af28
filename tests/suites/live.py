# SPDX-License-Identifier: Apache-2.0
"""One `audit-enricher run` in a guest, from "ready" to its account; and what its events must say.

Owns the parsing of what the command prints about itself and the comparison with the ground truth that
the workload carries in its arguments. Never decides what to run.
"""

from __future__ import annotations

import functools
import itertools
import re
import signal
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

from enricher.model import KINDS
from tests import schema
from tests.suites.rules import Rules
from tests.suites.staging import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from tests.vm.guest import Guest

Json = dict[str, Any]
P = ParamSpec("P")
_numbers = itertools.count()
_said: list[str] = []
"""What each command that was stopped printed, since `again_where_skipped` began."""
_SKIPPED = re.compile(r"^lost: facts beside records .*, [1-9]\d* where a program was skipped$", re.MULTILINE)
_READY_TIMEOUT = 120.0
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
    rate_limit: int
    backlog: int
    memory: int
    contexts_dropped: int
    tallies_dropped: int
    misses: int | None
    failures: int
    hook_records: int
    counted: int
    uncounted: int
    lost_unseen: int
    auditd_queue: int  # not lost to us
    status_lost: int  # the kernel's own figure
    balanced: bool

    @property
    def unmatched(self) -> int:
        return self.without_context + self.missing


def account_of(said: str) -> Account:
    """Read the account out of the command's standard error; the last one, where it printed several."""
    said = said[said.rindex("\nevents ") + 1 :]

    def row(name: str, default: str = "") -> list[str]:
        found = re.search(rf"^{re.escape(name)}  +(.*)$", said, re.MULTILINE)
        assert found or default, f"no line {name!r} in:\n{said}"
        return re.findall(r"\d+|not counted", found[1] if found else default)

    def one(name: str, default: str = "") -> int:
        return int(row(name, default)[0])

    (misses,) = row("lost: re-entry of the hook")
    events, incomplete, own = map(int, row("events"))
    contexts, tallies = map(int, row("lost: ring full"))
    seen, counted, uncounted, *_ = map(int, row("records the hook saw since attached"))
    return Account(
        events,
        incomplete,
        own,
        one("records finished by the kernel"),
        one("records delivered"),
        one("  joined with their context"),
        one("  without a context"),
        one("records finished and not delivered"),
        one("malformed records passed through"),
        one("lost: netlink buffer full"),
        one("lost: over the rate limit"),
        one("lost: over the backlog limit"),
        one("lost: out of kernel memory"),
        contexts,
        tallies,
        int(misses) if misses.isdigit() else None,
        one("failed reads in the kernel side"),
        seen,
        counted,
        uncounted,
        one("lost: for one of these, not seen which", "0"),
        one("auditd's queue overflowed (not lost here)", "0"),
        one("the kernel's own `lost` since the start"),
        "every record is accounted for" in said,
    )


class Live:
    """A running command. Leaving the block stops it if `stop` was not called."""

    def __init__(
        self,
        guest: Guest,
        *options: str,
        view: str = "json",
        capture: bool = False,
        command: tuple[str, ...] = (COMMAND,),
        patience: float = _READY_TIMEOUT,
    ) -> None:
        """`patience` is the seconds between one line and the next until it is ready."""
        self._guest = guest
        self._patience = patience
        self.path = f"/run/audit-enricher-{next(_numbers)}.{view}"
        self.capture = self.path + ".capture"
        # What it says about itself comes first: joined with standard output, lines can be waited for.
        self._process = guest.popen(
            [
                "sh",
                "-c",
                'exec "$@" 2>&1',
                "sh",
                *command,
                "run",
                "--format",
                view,
                "--output",
                self.path,
                *(("--capture", self.capture) if capture else ()),
                *options,
            ]
        )
        self.said = ""

    def __enter__(self) -> Self:
        self.wait_for("ready")
        return self

    def wait_for(self, words: str) -> None:
        """Read what it says up to a line that ends with these words."""
        while True:
            line = self._process.read_line(self._patience)
            self.said += line.decode()
            assert line, f"it ended before it said {words!r}:\n{self.said}"
            if line.decode().endswith(f"{words}\n"):
                return

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.signal(number)

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
            self.send(number)
        status = self._process.wait(_STOP_TIMEOUT)
        self.said += self._process.read().decode()
        assert status == 0, f"exit status {status}:\n{self.said}"
        _said.append(self.said)
        return account_of(self.said)

    def output(self) -> bytes:
        """What it has written so far."""
        return self._guest.get(self.path)

    def events(self) -> list[Json]:
        """What it has written so far, as events that keep to the published schema."""
        return schema.parse(self.output())


def again_where_skipped(test: Callable[P, None]) -> Callable[P, None]:
    """Do a test that looks for single facts again, where an account says that the kernel skipped a program.

    A kernel that preempts a task inside of a program skips that program for the next task on the CPU. The account tells
    how often, and cannot tell whose fact that was. Where no account says so, a failure is one.
    """

    @functools.wraps(test)
    def attempts(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(2):
            _said.clear()
            try:
                return test(*args, **kwargs)
            except (AssertionError, LookupError, ValueError):  # what looks into a fact that is not there
                if not any(_SKIPPED.search(said) for said in _said):
                    raise
            if isinstance(rules := kwargs.get("rules"), Rules):
                rules.clear()
        return test(*args, **kwargs)

    return attempts


def own(events: list[Json], kind: str) -> list[Json]:
    """Those of a type."""
    return [event for event in events if event["type"] == kind]


def skipped(events: list[Json]) -> int:
    """How many messages beside records were lost; where a task was preempted inside of a program, the next one's is."""
    return sum(
        event["lost"]["messages"] for event in own(events, "LOST") if event["lost"]["cause"] == "facts"
    )


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
        arguments = record["fields"].get("ARGV", [])
        if record["type"] != "EXECVE" or arguments[:1] != ["truth-leaf"]:
            continue
        said = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
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
