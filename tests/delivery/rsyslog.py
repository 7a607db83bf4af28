# SPDX-License-Identifier: Apache-2.0
"""The real rsyslogd, with the configuration that our documentation gives, on loopback and in a directory of its own.

Owns the process, its ports and what it has written. Never touches the system's rsyslog, its files or its ports.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.lint.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.certificates import Authority

SECONDS: Final = 60.0
"""For anything that rsyslogd does: it may run beside virtual machines."""

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UID: Final = re.compile(rb' uid="([^"]*)"')


_given: set[int] = set()


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code in this language on a page of the documentation."""
    text = (ROOT / "docs" / "sinks" / page).read_text()
    return [code for name, code in _BLOCK.findall(text) if name == language]


def wait_for(condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Look again until it is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            pytest.fail(f"{said}: not within {SECONDS:.0f} seconds")
        time.sleep(0.005)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of the loopback that nobody has, nor was given here before: that one may not be bound yet."""
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def listens(pid: int, address: str, port: int, kind: str = "tcp") -> bool:
    """Whether in the network of this process somebody has the port."""
    where = socket.inet_aton(address)[::-1].hex().upper()
    state = "0A" if kind == "tcp" else "07"
    table = Path(f"/proc/{pid}/net/{kind}").read_text()
    return re.search(rf": {where}:{port:04X} \S+ {state} ", table) is not None


def uid_of(line: bytes) -> str | None:
    """Return the uid in a line, None where there is none."""
    found = _UID.search(line)
    return None if found is None else found[1].decode()


class Rsyslog:
    """One rsyslogd that can be started again on the same ports. ``port`` is by the documented one.

    ``within`` is the command that starts it elsewhere, in a network namespace that has the address.
    """

    def __init__(
        self,
        page: str,
        directory: Path,
        authority: Authority,
        *,
        address: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        program = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/bin")
        assert program is not None, "rsyslogd is not installed (see tests/delivery/packages.txt)"
        self._program = program
        self._directory = directory
        self._within = within
        self._address = address
        self.output = directory / "log" / "audit-enricher.log"
        self.output.parent.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.port: dict[int, int] = {}
        pair = authority.sign("server", f"IP:{address}")
        (config,) = blocks(page, "rsyslog")
        for module in ("imudp", "imtcp", "imrelp"):
            kind = socket.SOCK_DGRAM if module == "imudp" else socket.SOCK_STREAM
            for port in re.findall(rf'input\(type="{module}" address="0\.0\.0\.0" port="(\d+)"', config):
                self.port[int(port)] = free_port(kind)
        for number, free in self.port.items():
            config = config.replace(f'port="{number}"', f'port="{free}"')
        for documented, real in {
            "0.0.0.0": address,  # noqa: S104 - what the page says, and what is put in its place
            "/etc/rsyslog.d/tls/ca.pem": authority.file,
            "/etc/rsyslog.d/tls/server.pem": pair.cert,
            "/etc/rsyslog.d/tls/server-key.pem": pair.key,
            "/var/log/": f"{self.output.parent}/",
        }.items():
            assert documented in config
            config = config.replace(documented, real)
        self._config = directory / "rsyslog.conf"
        self._config.write_text(f'global(workDirectory="{directory}")\n{config}')
        self.errors = directory / "rsyslogd.err"

    def start(self) -> None:
        """Start it and wait until it listens."""
        pid_file = self._directory / "rsyslogd.pid"
        pid_file.unlink(missing_ok=True)
        command = [*self._within, self._program, "-n", "-f", str(self._config), "-i", str(pid_file)]
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(command, stdout=errors, stderr=errors)
        wait_for(self._listens, "rsyslogd listens")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.errors.read_text()
        pid = self._process.pid
        return all(
            any(listens(pid, self._address, port, kind) for kind in ("tcp", "udp"))
            for port in self.port.values()
        )

    def kill(self) -> None:
        """Kill it as a crash would: it writes nothing more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it in good order: it writes what it has."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(SECONDS)

    def lines(self) -> list[bytes]:
        """Return the whole lines that were written until now."""
        if not self.output.exists():
            return []
        return self.output.read_bytes().split(b"\n")[:-1]

    def uids(self) -> Counter[str]:
        """Return the uids in them, and how often each is there."""
        return Counter(uid for line in self.lines() if (uid := uid_of(line)) is not None)
