# SPDX-License-Identifier: Apache-2.0
"""The plain host in a guest: a disk that keeps what is written through a reboot, a shell, and what its logs hold.

Owns the boots of one disk, one after the other. Never decides what is right.
"""

from __future__ import annotations

import itertools
import re
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests import schema
from tests.lint.tree import ROOT
from tests.packaging.traces import owned_by
from tests.vm.cache import scratch, shell
from tests.vm.kernels import ensure_kernel
from tests.vm.machine import BootOptions, Machine
from tests.vm.plain import DEBIAN, ensure_plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

SLOT = "6.1"
"""Debian 12's own kernel."""

SHARE = "/opt/share"
EVENTS = "/var/log/audit-enricher/events.json"
AUDIT_LOG = "/var/log/audit/audit.log"
UNIT = "audit-enricher.service"

_STAMP = re.compile(rb"^type=(?!DAEMON_)\S+ msg=audit\(\d+\.\d+:(\d+)\)", re.MULTILINE)
_DEADLINE = 120.0
_marks = itertools.count()


class Delivered(NamedTuple):
    """What the service wrote: the serials of events, the serials in gaps that it told of, and all losses and gaps."""

    serials: set[int]
    gaps: list[range]
    told: list[dict[str, Any]]

    def unaccounted(self, others: set[int]) -> list[int]:
        """Serials that another reader has, and the service neither wrote nor told as a gap."""
        first = min(self.serials)
        return sorted(
            serial
            for serial in others - self.serials
            if serial >= first and not any(serial in gap for gap in self.gaps)
        )


class Host:
    """A context manager: booted inside. Its disk is a copy, gone at the end."""

    def __init__(self, *packages: Path) -> None:
        self._packages = packages
        self._stack = ExitStack()
        self._boot: ExitStack
        self.machine: Machine
        self._options: BootOptions
        self._disk: Path

    def __enter__(self) -> Self:
        plain = ensure_plain()
        work = self._stack.enter_context(scratch("plain-host"))
        self._disk = work / "root.ext4"
        shell(["cp", "--sparse=always", "--reflink=auto", plain.image, self._disk])
        share = work / "share"
        shutil.copytree(plain.debian, share / DEBIAN)
        shutil.copytree(ROOT / "build/workload", share / "workload")
        for package in self._packages:
            shutil.copyfile(package, share / package.name)
        self._options = BootOptions(writable=True, share=share)
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._boot.close()
        self._stack.close()

    def _start(self) -> None:
        self._boot = ExitStack()
        machine = Machine(ensure_kernel(SLOT), self._disk, self._options, name="plain")
        self.machine = self._boot.enter_context(machine)
        self.machine.wait_up()

    def reboot(self) -> None:
        """Shut down in order and boot the same disk. The emulated machine has no reset: it is another one."""
        self.machine.power_off(timeout=120)
        self._boot.close()
        self._start()

    def sh(self, line: str, *, timeout: float = _DEADLINE, check: bool = True) -> str:
        """Run a line of shell; return what it printed, both streams where it failed and may."""
        done = self.machine.run(["sh", "-c", line], timeout=timeout, check=check)
        return done.stdout.decode(errors="replace")

    def apt(self, words: str) -> str:
        """Run apt-get, without a question."""
        return self.sh(f"DEBIAN_FRONTEND=noninteractive apt-get --yes {words} 2>&1", timeout=600)

    def unit(self, *properties: str) -> dict[str, str]:
        """Return properties of the service."""
        lines = self.sh(f"systemctl show {UNIT} -p {','.join(properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def names(self) -> set[str]:
        """Every name on the root disk, from the root on."""
        return set(self.sh("find / -xdev").splitlines())

    def owned(self) -> set[str]:
        """What installed packages have."""
        return owned_by(self.sh("cat /var/lib/dpkg/info/*.list"))

    def mark(self, *logs: str) -> str:
        """Write a record with a text of its own, and wait until each of the logs has it."""
        text = f"package-test-mark-{next(_marks)}-end"
        self.sh(f"auditctl -m {text}")
        for log in logs:
            # No poll: a look would be an exec, and each exec makes records here.
            pipe = f"tail -n +1 -F {log} 2>/dev/null | grep --line-buffered --text {text}"
            with self.machine.popen(["sh", "-c", pipe]) as search:
                search.read_line(_DEADLINE)
        return text

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Programs that are started one after the other, as fast as the host can, each making an event."""
        self.sh("touch /run/package-test-flow")
        loop = "while [ -e /run/package-test-flow ]; do /bin/true; done"
        with self.machine.popen(["sh", "-c", loop]) as process:
            yield
            assert process.poll() is None, "the flow ended before its time"
            self.sh("rm /run/package-test-flow")
            process.wait(_DEADLINE)

    def both(self) -> tuple[Delivered, set[int]]:
        """Return what the service has written, and of the time before that what auditd has."""
        audited = self.audited()
        self.mark(EVENTS)  # reading is an exec as well, and auditd's file has it at once
        return self.delivered(), audited

    def delivered(self) -> Delivered:
        """Return what the service has written so far, in all its files."""
        written = self.machine.run(["sh", "-c", f"cat $(ls -1v -r {EVENTS}*)"], check=True).stdout
        serials: set[int] = set()
        gaps: list[range] = []
        told: list[dict[str, Any]] = []
        for event in schema.parse(written):
            if event["type"] in {"NOTICE", "LOST"}:
                notice = event.get("notice", {})
                if event["type"] == "LOST" or notice.get("kind") == "gap":
                    told.append(event)  # and not that auditd came and went
                if notice.get("kind") == "gap":
                    gaps.append(range(notice["first"], notice["last"] + 1))
            else:
                serials.add(int(event["id"].rpartition(":")[2]))
        return Delivered(serials, gaps, told)

    def audited(self) -> set[int]:
        """Return the serials of what auditd has written so far; its own messages have no serial of the kernel's."""
        text = self.machine.run(["sh", "-c", f"cat {AUDIT_LOG}*"], check=True).stdout
        return {int(serial) for serial in _STAMP.findall(text)}
