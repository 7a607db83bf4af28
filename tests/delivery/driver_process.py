# SPDX-License-Identifier: Apache-2.0
"""What the service does with events that are finished, in a process that can be killed: it puts them into its routes.

Owns the journal, by which a test knows after a kill what spools had taken, and the state that it tells while it runs.
Before a chunk of events is put the journal says ``put FIRST END``, and ``in FIRST END`` when every spool has written
it: each in one write. A process that is started again goes on behind the last that was put, as the service does: what
it was about to put is with the kernel no more.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enricher.config import load
from enricher.enrich.surroundings import Surroundings
from enricher.runtime import sinkconfig
from enricher.runtime.route import SPOOLS, Place
from enricher.runtime.routes import Routes
from tests.delivery.child import Child
from tests.delivery.events import Events
from tests.delivery.rsyslog import wait_for

CHUNK = 20
HELD = 2 << 20
"""Bytes that wait for a destination where the disk takes nothing, at most: less than the spool holds in memory."""
_LOOK = 0.002
_TELL_EVERY = 0.02
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_END = 10.0


@dataclass
class Plan:
    """``count`` events to the destinations of this configuration.

    A ``chunk`` is put every ``pause`` seconds. ``disk``: spools are on a file system of so many bytes, which this
    process alone sees. ``network``: its network namespace. ``waiting``: bytes that may wait for one destination.
    """

    directory: Path
    events: Events
    count: int
    config: str
    chunk: int = CHUNK
    pause: float = 0.0
    disk: int = 0
    network: str = ""
    waiting: int = 64 << 20
    leave: str = ""
    """The destination that is not waited for at the end, and has the whole of it waiting."""

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    @property
    def gate(self) -> Path:
        """The file that says up to which number, and without, events may be put; without it all may be."""
        return self.directory / "gate"

    @property
    def state(self) -> Path:
        return self.directory / "state.json"


class Driver:
    """The process, as a test sees it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kills = 0
        plan.directory.mkdir(parents=True, exist_ok=True)
        self._child: Child | None = None

    def start(self) -> None:
        plan = self.plan
        plan.state.unlink(missing_ok=True)
        self._child = Child(lambda: _drive(plan), plan.directory / "log")

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()
        self.kills += 1

    def stop(self) -> None:
        """End it if it has not ended: the test has failed."""
        if self._child is not None:
            self._child.stop()

    @property
    def ended(self) -> bool:
        """Whether it has put and delivered everything. That it failed is a failure here."""
        assert self._child is not None
        return self._child.succeeded

    def open_gate(self, number: int) -> None:
        """Let events with lower numbers than this be put."""
        new = self.plan.gate.with_suffix(".new")
        new.write_text(str(number))
        new.rename(self.plan.gate)

    def told(self) -> dict[str, Any]:
        """Return what it last told; {} where it told nothing yet."""
        assert self._child is not None
        assert self._child.running or self._child.succeeded
        return self._told()

    def _told(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.plan.state.read_text())
        except FileNotFoundError:
            return {}
        return found

    def last_told(self) -> dict[str, dict[str, Any]]:
        """Return what it told of each destination before it was killed; {} where it came to tell nothing."""
        found: dict[str, dict[str, Any]] = self._told().get("routes", {})
        return found

    def facts(self, name: str) -> dict[str, Any]:
        """Return what it last told of this destination."""
        wait_for(lambda: bool(self.told()), "the driver tells something")
        found: dict[str, Any] = self.told()["routes"][name]
        return found

    def put(self) -> int:
        """Return the number behind the last that was put."""
        return _behind(self.plan.journal, b"put")

    def numbers(self, kind: str) -> set[int]:
        """Return those that were ``put``, or that every spool has taken ``in``."""
        found: set[int] = set()
        for line in self.plan.journal.read_text().splitlines():
            what, first, end = line.split()
            if what == kind:
                found.update(range(int(first), int(end)))
        return found


def _behind(journal: Path, kind: bytes) -> int:
    try:
        lines = journal.read_bytes().splitlines()
    except FileNotFoundError:
        return 1
    return next((int(line.split()[2]) for line in reversed(lines) if line.startswith(kind)), 1)


def _system_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _enter(plan: Plan, state: Path) -> None:
    """Go to the namespaces of the plan."""
    if plan.network:
        fd = os.open(f"/run/netns/{plan.network}", os.O_RDONLY | os.O_CLOEXEC)
        _system_call("setns", fd, _CLONE_NEWNET)
        os.close(fd)
    if plan.disk:
        spools = state / SPOOLS
        spools.mkdir(mode=0o700)
        _system_call("unshare", _CLONE_NEWNS)
        _system_call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        options = b"size=%d,mode=0700" % plan.disk
        _system_call("mount", b"none", bytes(spools), b"tmpfs", 0, options)


class _Teller:
    """Tells the state from time to time: figures of the routes, and the losses that were told."""

    def __init__(self, routes: Routes, path: Path) -> None:
        self._routes = routes
        self._path = path
        self._lost: Counter[str] = Counter()
        self._next = 0.0
        # What a kill has cut in the middle is told as lost at the next start, and nobody has promised it.
        self._cut = {name: route.lost for name, route in routes._routes.items()}

    def all_is_taken(self) -> bool:
        """Whether every spool has written what it was given since the start."""
        routes = self._routes._routes.items()
        return all(not route.queue.error and route.lost == self._cut[name] for name, route in routes)

    def tell(self, *, at_once: bool = False) -> None:
        if time.monotonic() < self._next and not at_once:
            return
        self._next = time.monotonic() + _TELL_EVERY
        for loss in self._routes.losses():
            self._lost[f"{loss.stage} {loss.unit}"] += loss.lost
        facts = {str(each["name"]): each for each in self._routes.facts()}
        for name, route in self._routes._routes.items():
            facts[name]["unheard"] = getattr(route._sender, "unheard", 0)
            facts[name]["most"] = getattr(route._sender, "most", 0)
            facts[name]["lost"] = route.lost - self._cut[name]
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"routes": facts, "lost": self._lost}))
        new.rename(self._path)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def _drive(plan: Plan) -> None:
    state = plan.directory / "state"
    state.mkdir(exist_ok=True)
    _enter(plan, state)
    config = plan.directory / "sinks.toml"
    config.write_text(plan.config)
    facts = plan.events.facts
    place = Place(facts, Surroundings(facts), str(state), _say)
    routes = Routes(sinkconfig.load(load.load(str(config), {})), place, plan.events.names)
    routes.start()
    teller = _Teller(routes, plan.state)
    journal = os.open(plan.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    at = _behind(plan.journal, b"put")
    gate = 0
    while at <= plan.count:
        end = min(at + plan.chunk, plan.count + 1)
        while gate < end:
            gate = int(plan.gate.read_text()) if plan.gate.exists() else plan.count + 1
            if gate < end:
                teller.tell()
                time.sleep(_LOOK)
        while any(route.queue.size > plan.waiting for route in routes._routes.values()):
            teller.tell()
            time.sleep(_LOOK)
        some = plan.events.some(at, end)
        put_at = time.monotonic()
        os.write(journal, b"put %d %d\n" % (at, end))
        routes.emit_events(some)
        if teller.all_is_taken():
            os.write(journal, b"in %d %d\n" % (at, end))
        if plan.pause:
            # How fast events come, and nothing that anybody waits for.
            with (plan.directory / "times").open("a") as times:
                times.write(f"{at} {end} {put_at}\n")
            time.sleep(max(0.0, plan.pause - (time.monotonic() - put_at)))
        at = end
        teller.tell()
    while any(route.queue.waiting for name, route in routes._routes.items() if name != plan.leave):
        teller.tell()
        time.sleep(_LOOK)
    routes.stop(1.0 if plan.leave else _END)
    teller.tell(at_once=True)
    routes.close()
