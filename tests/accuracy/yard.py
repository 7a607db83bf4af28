# SPDX-License-Identifier: Apache-2.0
"""The boxes of a guest: containers whose first process does what it is told through a FIFO, and what is expected.

Owns the directory that all boxes share with the host, the tags, and the record of what each tag's events must say.
Never knows a runtime: `runtimes` does. Never reads what the compared programs wrote.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tests.accuracy.score import Expected
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.vm.guest import Guest

YARD = "/srv/yard"
WORKLOAD = f"{SHARE}/workload"
TRUTH = "/w/truth"
"""The workload as a container sees it; the host has it at WORKLOAD too."""

BOX = "/yard/box.sh"
AGENT_UNIT = "vm-agent.service"
"""The unit of everything that a test starts in a guest."""

NAMED = "loop"
"""The act whose last event has to have the container's name."""

_PATIENCE = 300.0


class Box(NamedTuple):
    """A running container with box.sh in it."""

    row: str
    name: str
    runtime: str
    """What an event is expected to call it; "" where the path does not tell."""
    id: str


class Yard:
    """One guest's boxes and expectations."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.expected: dict[str, Expected] = {}
        make = f"mkdir -p {YARD} /srv/busybox/w /srv/busybox/yard && cp {SHARE}/guest/box.sh {YARD}/box.sh"
        self.sh(f"{make} && ln -sfn {WORKLOAD} /w")

    def sh(self, script: str, *arguments: str, timeout: float = _PATIENCE) -> str:
        """Run a shell script on the host; returns its standard output."""
        words = ["sh", "-euc", script, "sh", *arguments]
        return self.guest.run(words, timeout=timeout, check=True).stdout.decode()

    def run(self, *words: str, timeout: float = _PATIENCE) -> str:
        """Run a command on the host."""
        return self.guest.run(words, timeout=timeout, check=True).stdout.decode()

    def fifos(self, names: Iterable[str]) -> None:
        """Make the FIFOs of boxes before they start. Any user of any user namespace may use them."""
        files = [f"{YARD}/{name}.{end}" for name in names for end in ("in", "out")]
        self.run("mkfifo", "-m", "0666", *files)

    def expect(self, row: str, act: str, count: int, box: Box | None = None, unit: str = "") -> str:
        """Return a tag for `count` events that come from this box, or from the host."""
        tag = f"{row}:{act}:{len(self.expected)}".replace(" ", "-")
        if box is None:
            self.expected[tag] = Expected(row, act, count, "host", unit=unit)
        else:
            named = act == NAMED
            self.expected[tag] = Expected(
                row, act, count, "container", box.runtime, box.id, name=box.name, named=named
            )
        return tag

    def forget(self, tag: str) -> None:
        """What was expected was never run."""
        del self.expected[tag]

    def tell(self, commands: Mapping[str, str]) -> None:
        """Have boxes run a command line each, all at once, and wait for them; each has to end with 0."""
        words = ["python3", f"{SHARE}/guest/yard.py", YARD]
        done = self.guest.run(words, input=json.dumps(dict(commands)).encode(), timeout=_PATIENCE, check=True)
        said = json.loads(done.stdout)
        assert set(said.values()) == {0}, (said, commands)

    def loop(self, boxes: Iterable[Box], act: str, count: int, tasks: int = 1) -> list[str]:
        """Run the loop in all boxes at once; returns the tags."""
        tags = {box.name: self.expect(box.row, act, count * tasks, box) for box in boxes}
        jobs = f"-j {tasks} " if tasks > 1 else ""
        self.tell({name: f"{TRUTH} {jobs}{count} {tag}" for name, tag in tags.items()})
        return list(tags.values())

    def pid(self, box: Box) -> str:
        """Return the pid, on the host, of the box's first process."""
        # busybox forks some of its own applets without an exec: the oldest is the box.
        return self.run("pgrep", "-o", "-xf", f"/bin/sh {BOX} {box.name}").strip()
