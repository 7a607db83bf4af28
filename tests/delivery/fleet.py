# SPDX-License-Identifier: Apache-2.0
"""Every destination with its receiver: what its table says, how the receiver is killed, and what that has.

Owns the receivers and what is read of them. Never knows what is right: tests do.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests import schema
from tests.certificates import Authority, Pair
from tests.delivery.child import Child
from tests.delivery.events import Events
from tests.delivery.receivers import process
from tests.delivery.rsyslog import Rsyslog, free_port, listens, wait_for

RELP, SYSLOG, HTTP = ("relp", "relptls"), ("tcp", "tls", "udp"), ("elasticsearch", "hec", "otlp")
FORWARD: Final = ("forward",)
SERVED: Final = (*HTTP, *FORWARD)
"""Those whose receivers are our own, and check what they get."""
ACKNOWLEDGED: Final = ("file", *RELP, *SERVED)
_PORTS: Final = {"relp": 2514, "relptls": 20514, "tcp": 10601, "tls": 6514, "udp": 10514}
_PATIENCE: Final = "2s"
"""Of a sender with its receiver; nothing takes so long but what is gone."""


class Seen(defaultdict[str, Counter[int]]):
    """What was read of a receiver's file, by destination, up to `offset`."""

    offset = 0


class Fleet:
    """These destinations, and what `more` says of each.

    Receivers of the network are at ``address``; ``within`` is the command that starts a program there, ``enter`` takes
    a process there. ``slow``: seconds that each request to a receiver takes. ``patience``: seconds for an answer over
    HTTP, which is for a batch as a whole.
    """

    def __init__(  # noqa: PLR0913 - each is chosen by some test
        self,
        names: Sequence[str],
        directory: Path,
        events: Events,
        *,
        address: str = "127.0.0.1",
        within: Sequence[str] = (),
        enter: Callable[[], None] = lambda: None,
        slow: Mapping[str, float] = MappingProxyType({}),
        more: str = "",
        patience: int = 3,
        syslog_patience: str = _PATIENCE,
    ) -> None:
        self.names = names
        self._directory = directory
        self._events = events
        self._address = address
        self._enter = enter
        self._slow = slow
        self._more = more
        self._patience = patience
        self._syslog_patience = syslog_patience
        self._children: dict[str, Child] = {}
        self._ports = {name: free_port() for name in SERVED if name in names}
        self._rsyslogs: dict[str, Rsyslog] = {}
        self._seen: dict[Path, Seen] = {}
        self._valid: set[bytes] = set()
        directory.mkdir(parents=True)
        authority = Authority(directory)
        self._authority = authority.file
        self._client: Pair = authority.sign("client", "DNS:client.test")
        for page, group in (("relp.md", RELP), ("syslog.md", SYSLOG)):
            if set(group) & set(names):
                made = Rsyslog(page, directory / page, authority, address=address, within=within)
                self._rsyslogs[page] = made

    def config(self) -> str:
        """Return the tables."""
        return "".join(f"[sinks.{name}]\n{self._table(name)}\n{self._more}\n" for name in self.names)

    def _table(self, name: str) -> str:
        if name == "file":
            return f'type = "file"\npath = "{self._path(name)}"\nrotate_size = "8G"'
        if name == "unix":
            return f'type = "unix"\npath = "{self.socket}"\nbuffer = "64M"\ndrain = "10s"'
        if name in HTTP:
            kind = {"hec": "splunk_hec"}.get(name, name)
            patience = f'connect_timeout = "{_PATIENCE}"\nread_timeout = {self._patience}\n'
            patience += f"timeout = {3 * self._patience}\n"
            secret = self._directory / "token"
            secret.write_text("secret")
            more = 'ack_timeout = "2s"\n' if name == "hec" else ""
            url = f"http://{self._address}:{self._ports[name]}"
            return f'type = "{kind}"\nurl = "{url}"\n{patience}{more}credential_file = "{secret}"'
        if name in FORWARD:
            where = f"{self._address}:{self._ports[name]}"
            patience = f'timeout = "{_PATIENCE}"\nack_timeout = {self._patience}'
            return f'type = "forward"\naddress = "{where}"\n{patience}'
        return self._syslog_table(name)

    def _syslog_table(self, name: str) -> str:
        page = "relp.md" if name in RELP else "syslog.md"
        port = self._rsyslogs[page].port[_PORTS[name]]
        kind = "relp" if name in RELP else "syslog"
        lines = [f'type = "{kind}"', f'address = "{self._address}:{port}"', f'sd_id = "{name}@32473"']
        lines += [f'timeout = "{self._syslog_patience}"']
        if name != "udp":
            lines.append("max_length = 65536")
        if name in SYSLOG:
            lines.append(f'transport = "{name}"')
        if name in {"relptls", "tls"}:
            lines += [f'tls_ca_file = "{self._authority}"', f'tls_cert_file = "{self._client.cert}"']
            lines.append(f'tls_key_file = "{self._client.key}"')
        if name == "relptls":
            lines.append("tls = true")
        return "\n".join(lines)

    @property
    def socket(self) -> str:
        """The Unix socket's path."""
        return str(self._directory / "events.sock")

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.taken"

    # -- the receivers -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start those that are not there."""
        for name in self.names:
            if name in SERVED:
                self._children[name] = Child(self._server(name), self._directory / f"{name}.log")
            elif name == "unix":
                self._children[name] = Child(self._consumer(), self._directory / f"{name}.log")
        for each in self._rsyslogs.values():
            each.start()
        for name, port in self._ports.items():
            child = self._children[name]
            wait_for(lambda: child.running and listens(child.pid, self._address, port), f"{name} listens")  # noqa: B023

    def _server(self, name: str) -> Callable[[], None]:
        address = (self._address, self._ports[name])

        def serve() -> None:
            self._enter()
            begin = process.forward if name in FORWARD else functools.partial(process.serve, name)
            begin(address, self._path(name), self._slow.get(name, 0.0))

        return serve

    def _consumer(self) -> Callable[[], None]:
        return lambda: process.consume(self.socket, self._path("unix"))

    def kill(self) -> None:
        """Kill all of them."""
        for child in self._children.values():
            child.kill()
        for each in self._rsyslogs.values():
            each.kill()

    def stop(self) -> None:
        """End all of them; rsyslogd writes what it has."""
        for child in self._children.values():
            child.stop()
        for each in self._rsyslogs.values():
            each.stop()

    def consumed(self) -> int:
        """How many connections the consumer of the Unix socket has made."""
        path = self._path("unix")
        return path.read_bytes().count(b"\n#\n") if path.exists() else 0

    # -- what they have ------------------------------------------------------------------------------

    def taken(self, name: str) -> Counter[int]:
        """Return how often it has the event with each number."""
        if name in SERVED:
            return self._tail(self._path(name), self._of_journal)[name]
        if name in {"file", "unix"}:
            return self._tail(self._path(name), self._of_lines)[name]
        output = self._rsyslogs["relp.md" if name in RELP else "syslog.md"].output
        return self._tail(output, self._of_syslog)[name]

    def _tail(self, path: Path, read: Callable[[Path, bytes], Iterable[tuple[str, int]]]) -> Seen:
        """Read on where it was read to, up to the end of a line."""
        seen = self._seen.setdefault(path, Seen(Counter))
        if path.exists():
            with path.open("rb") as file:
                file.seek(seen.offset)
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            seen.offset += len(data)
            for name, number in read(path, data):
                seen[name][number] += 1
        return seen

    def _of_journal(self, path: Path, data: bytes) -> Iterator[tuple[str, int]]:
        for line in data.decode().splitlines():
            assert not line.startswith("!"), line
            yield path.stem, self._events.number(line.partition(" ")[0])

    def _of_lines(self, path: Path, data: bytes) -> Iterator[tuple[str, int]]:
        """Only a line that is whole is one: what a kill has cut has to stand for itself.

        Lines that differ in their numbers alone are validated once: there are a hundred thousand.
        """
        for line in data.split(b"\n"):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if (alike := self._events.numbered.sub(b"", line)) not in self._valid:
                schema.validate(event)
                self._valid.add(alike)
            yield path.stem, self._events.number(event["uid"])

    def _of_syslog(self, _: Path, data: bytes) -> Iterator[tuple[str, int]]:
        """What a kill has cut stands before the next message, on its line."""
        for found in self._events.in_syslog.finditer(data):
            if _is_first(found):
                yield found[1].decode(), int(found[2])

    def times(self, name: str) -> dict[int, float]:
        """Return when it took each first, by the monotonic clock."""
        found: dict[int, float] = {}
        for line in self._path(name).read_text().splitlines():
            uid, _, at = line.partition(" ")
            found.setdefault(self._events.number(uid), float(at))
        return found


_PART: Final = re.compile(rb'[^\]]*? part="([0-9]+)/')


def _is_first(found: re.Match[bytes]) -> bool:
    """Whether it is the first part of a message, or a whole one."""
    part = _PART.match(found.string, found.end(), found.end() + 60)
    return part is None or part[1] == b"1"


def until_taken(fleet: Fleet, names: Iterable[str], wanted: set[int]) -> None:
    """Wait until these have everything: receivers that acknowledge nothing may write it later."""
    for name in names:
        wait_for(lambda: wanted <= set(fleet.taken(name)), f"{name} has everything")  # noqa: B023 - called at once


def until_each_has_more(fleet: Fleet, names: Sequence[str]) -> None:
    """Wait until each of these receivers has taken something that it did not have."""
    before = {name: len(fleet.taken(name)) for name in names}
    wait_for(lambda: all(len(fleet.taken(name)) > before[name] for name in names), "all have more")
