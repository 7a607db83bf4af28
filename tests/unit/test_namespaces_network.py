# SPDX-License-Identifier: Apache-2.0
"""What is read in a network namespace, with made-up answers of the kernel; and our own through the real pyroute2."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

import pytest

from enricher.sources.namespaces import network, nsfs
from enricher.sources.namespaces.network import Around, Link, Network, Peer, Way, agreed, read

OWN = nsfs.parse_link(os.readlink("/proc/self/ns/net"))  # noqa: PTH115 - text is wanted
assert OWN
WAY = Way(OWN.inum, ("/proc/self/ns/gone", "/proc/self/ns/uts", "/proc/self/ns/net"))
DEVICE = nsfs.device()
AROUND = Around(OWN.inum, [WAY], DEVICE)
HOSTILE = b"v\x1b[7m\xff"


class Message(dict[str, Any]):
    """As pyroute2's: some members by name, attributes by `get_attr`."""

    def __init__(self, attrs: dict[str, Any], **members: Any) -> None:  # noqa: ANN401
        super().__init__(members)
        self._attrs = attrs

    def get_attr(self, name: str) -> Any:  # noqa: ANN401
        return self._attrs.get(name)


def link(index: int, name: str | bytes, kind: str = "", *, flags: int = 1, **attrs: Any) -> Message:  # noqa: ANN401
    info = {"IFLA_LINKINFO": Message({"IFLA_INFO_KIND": kind})} if kind else {}
    return Message({"IFLA_IFNAME": name, **info, **attrs}, index=index, flags=flags)


def address(index: int, text: str, prefix: int, **attrs: str) -> Message:
    return Message({"IFA_ADDRESS": text, **attrs}, index=index, prefixlen=prefix)


class Route:
    """As pyroute2.IPRoute; ``numbers`` are the namespaces' numbers by their inode."""

    def __init__(
        self,
        links: list[Message] | None = None,
        addresses: list[Message] | None = None,
        numbers: dict[int, int] | None = None,
    ) -> None:
        self.links = links or []
        self.addresses = addresses or []
        self.numbers = numbers or {}

    def __call__(self) -> Route:
        return self

    def get_links(self) -> list[Message]:
        return self.links

    def get_addr(self) -> tuple[Message, ...]:
        return tuple(self.addresses)

    def get_netnsid(self, fd: int) -> dict[str, Any] | None:
        number = self.numbers.get(os.fstat(fd).st_ino)
        return None if number is None else {"nsid": number, "current_nsid": None}


def told(route: Route, around: Around = AROUND) -> Network:
    found = read(WAY, around, route)
    assert isinstance(found, Network), found
    return found


def test_links_and_addresses() -> None:
    route = Route(
        [
            link(1, "lo", IFLA_OPERSTATE="UNKNOWN", IFLA_ADDRESS="00:00:00:00:00:00"),
            link(2, "eth0", "veth", flags=0, IFLA_OPERSTATE="DOWN", IFLA_LINK=2),
        ],
        [
            address(1, "127.0.0.1", 8, IFA_LOCAL="127.0.0.1"),
            address(1, "::1", 128),
            address(2, "10.0.0.2", 32, IFA_LOCAL="10.0.0.1"),
            address(9, "192.0.2.1", 24),
        ],
    )
    found = told(route)
    assert found.links == (
        Link(1, b"lo", "", "unknown", True, "00:00:00:00:00:00", ("127.0.0.1/8", "::1/128"), None),  # noqa: FBT003
        # Without a number the other end is in the same namespace.
        Link(2, b"eth0", "veth", "down", False, "", ("10.0.0.1/32",), Peer(2, WAY.inum)),  # noqa: FBT003
    )
    assert not found.cut


@pytest.mark.parametrize("name", [HOSTILE, HOSTILE.decode("utf-8", "surrogateescape")])
def test_a_name_may_be_any_bytes(name: str | bytes) -> None:
    assert told(Route([link(1, name)])).links[0].name == HOSTILE


def test_where_a_peer_is() -> None:
    """By the number that this namespace has for another; a link of another kind has no peer."""
    other = os.open("/proc/self/ns/uts", os.O_RDONLY)  # stands for a network namespace
    inum = os.fstat(other).st_ino
    ways = [Way(1, ("/proc/self/ns/gone",)), WAY, Way(inum, fd=other)]
    route = Route(
        [
            link(2, "a", "veth", IFLA_LINK=7, IFLA_LINK_NETNSID=3),
            link(3, "b", "veth", IFLA_LINK=8, IFLA_LINK_NETNSID=4),
            link(4, "c", "veth", IFLA_LINK=9, IFLA_LINK_NETNSID=-1),
            link(5, "d", "vlan", IFLA_LINK=2),
            link(6, "e", "veth", IFLA_LINK=0),
        ],
        numbers={inum: 3},
    )
    peers = [each.peer for each in told(route, AROUND._replace(others=ways)).links]
    assert peers == [Peer(7, inum), Peer(8, 0), Peer(9, 0), None, None]
    os.close(other)


def test_there_are_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOST_LINKS", 2)
    assert not told(Route([link(1, "a"), link(2, "b")])).cut
    found = told(Route([link(number, "a") for number in (1, 2, 3)]))
    assert (len(found.links), found.cut) == (2, True)


class Failing(Route):
    """Fails in one way or another, in the child."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self._error = error

    def get_links(self) -> list[Message]:
        if self._error is None:
            time.sleep(60)
        else:
            raise self._error
        return []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(errno.EPERM, "Operation not permitted"), network.DENIED),
        (OSError(errno.ENOENT, "No such file"), network.AWAY),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (RuntimeError("\x1b[31m" + "x" * 999), "pyroute2: RuntimeError: \x1b[31mx"),
        (MemoryError(), "too much to show"),
        (None, "no answer in time"),
    ],
)
def test_why_not(error: Exception | None, why: str) -> None:
    found = read(WAY, AROUND, Failing(error), 0.3 if error is None else 30.0)
    assert isinstance(found, str)
    assert found.startswith(why)
    assert len(found) <= 200


def test_a_namespace_that_is_another_one_by_now() -> None:
    assert read(Way(WAY.inum + 1, ("/proc/self/ns/net",)), AROUND, Route()) == network.AWAY


def test_an_answer_that_is_none() -> None:
    class Odd(Route):
        def get_links(self) -> list[Message]:
            return [link("1\n", "a")]  # type: ignore[arg-type]

        def get_addr(self) -> tuple[Message, ...]:
            return ()

    odd = Odd([])
    found = read(WAY, AROUND, odd)
    assert isinstance(found, Network | str)


def end(ifindex: int, peer: Peer | None) -> Link:
    return Link(ifindex, b"v", "veth", "up", True, "", (), peer)  # noqa: FBT003


def test_both_ends_must_agree() -> None:
    pair: dict[int, Network | str] = {
        500: Network(0, (end(2, Peer(3, 501)), end(4, Peer(5, 501)), end(6, Peer(7, 502))), cut=False),
        501: Network(0, (end(3, Peer(2, 500)), end(5, Peer(9, 500))), cut=False),
        502: "no answer in time",
    }
    found = agreed(pair)
    first = found[500]
    assert isinstance(first, Network)
    assert [each.peer for each in first.links] == [Peer(3, 501), Peer(5, 0), Peer(7, 502)]
    assert found[502] == "no answer in time"


def test_our_own_namespace_for_real() -> None:
    """Whichever version of pyroute2 is installed."""
    iproute = network.pyroute2()
    if iproute is None:
        pytest.skip("pyroute2 is not installed")
    found = told(iproute)
    assert b"lo" in {each.name for each in found.links}
    assert found.cookie
