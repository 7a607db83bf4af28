# SPDX-License-Identifier: Apache-2.0
"""The links, addresses and peers of one network namespace, read inside of it by a child of ours.

Owns the entering (setns, in the child only), the questions to the kernel through pyroute2, and what they may cost.
Never changes anything but what every dump of links does: where a link's other end is in a namespace that this one
had no number for, the kernel gives it one.

pyroute2 is imported when the first namespace is asked for, since that takes longer than all else; 0.7 and 0.9 are
used alike. Names come from anyone who may make a link: they stay bytes.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from enricher.sources.namespaces.aside import ask
from enricher.sources.namespaces.nsfs import Ns, open_any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SECONDS: Final = 5.0
"""For one namespace."""
MOST_LINKS: Final = 4096
MOST_ADDRESSES: Final = 16_384
MOST_ASKED: Final = 16_384
"""Namespaces that are tried, to find those that the peers of one namespace's links are in."""
_MOST_BYTES: Final = 16 << 20

PAIRED: Final = ("veth", "netkit")
"""Kinds of links that come in pairs: what ``link`` says of one is its other end."""

_CLONE_NEWNET: Final = 0x40000000
_SO_NETNS_COOKIE: Final = 71  # 5.14
_IFF_UP: Final = 1

MISSING: Final = "the Python module pyroute2 is missing"
HINT: Final = "apt install python3-pyroute2, or pip install 'audit-enricher[network]'"
DENIED: Final = "CAP_SYS_ADMIN is missing"
AWAY: Final = "it went away meanwhile"


class Way(NamedTuple):
    """How to open a network namespace: paths, of which the first ones may be gone; or a descriptor that is open."""

    inum: int
    paths: tuple[str, ...] = ()
    fd: int = -1


class Around(NamedTuple):
    """What is needed to read any of them."""

    own: int
    """The inum of our own network namespace, which need not be entered."""
    others: Sequence[Way]
    """All that a peer may be in, the likeliest first."""
    device: int
    """nsfs's number."""


class Peer(NamedTuple):
    """The other end of a link. ``inum`` is 0 where it is not known in which namespace it is."""

    ifindex: int
    inum: int


class Link(NamedTuple):
    """A link. ``kind`` is "" for what no driver of links made, as lo; ``mac`` is "" where there is none.

    ``addresses`` are as ``10.0.0.1/8``.
    """

    ifindex: int
    name: bytes
    kind: str
    state: str
    up: bool
    mac: str
    addresses: tuple[str, ...]
    peer: Peer | None


class Network(NamedTuple):
    """One network namespace from within."""

    cookie: int
    """The kernel's unique id of it; 0 where it tells none."""
    links: tuple[Link, ...]
    cut: bool
    """Whether there was more than is shown."""


def pyroute2() -> Any:  # noqa: ANN401 - what a module is
    """Return the module's class of sockets, None where it is not installed."""
    try:
        return importlib.import_module("pyroute2").IPRoute
    except (ImportError, AttributeError):
        return None


def read(way: Way, around: Around, iproute: Callable[[], Any], seconds: float = SECONDS) -> Network | str:
    """Return what is in the namespace, or why that is not known."""
    answer = ask(lambda: _within(way, around, iproute), seconds, _MOST_BYTES)
    if answer.why:
        return answer.why
    try:
        return _understood(json.loads(answer.data), way.inum)
    except (ValueError, KeyError, TypeError):
        return "the answer was not understood"


# -- in the child ------------------------------------------------------------------------------------


def _within(way: Way, around: Around, iproute: Callable[[], Any]) -> bytes:
    """Enter the namespace and look around; nothing that is wrong leaves this but as text."""
    try:
        if way.inum != around.own:
            _enter(way, around.device)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            cookie = _cookie(probe)
        route = iproute()
        links = list(route.get_links())
        addresses = list(route.get_addr())
        told = _told(links[:MOST_LINKS], addresses[:MOST_ADDRESSES])
        wanted = {link["nsid"] for link in told if link.get("nsid", -1) >= 0}
        numbers = _numbers(wanted, way, around, lambda fd: route.get_netnsid(fd=fd))
        cut = len(links) > MOST_LINKS or len(addresses) > MOST_ADDRESSES
        said: dict[str, object] = {
            "cookie": cookie,
            "links": told,
            "numbers": [[nsid, inum] for nsid, inum in numbers.items()],
            "cut": cut,
        }
    except PermissionError:
        said = {"why": DENIED}
    except OSError as error:
        said = {"why": AWAY if error.errno in _GONE else error.strerror or "it could not be entered"}
    except MemoryError:
        said = {"why": "too much to show"}
    except Exception as error:  # noqa: BLE001 - pyroute2's own, of whatever version
        said = {"why": f"pyroute2: {type(error).__name__}: {error}"[:200]}
    return json.dumps(said).encode("ascii")


_GONE: Final = (errno.ENOENT, errno.ESRCH, errno.ESTALE)


def _enter(way: Way, dev: int) -> None:
    """Raises OSError."""
    fd = _opened(way, dev)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _opened(way: Way, dev: int) -> int:
    return os.dup(way.fd) if way.fd >= 0 else open_any(way.paths, Ns("net", way.inum), dev)


def _cookie(probe: socket.socket) -> int:
    try:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
    except OSError:
        return 0


def _told(links: Iterable[Any], addresses: Iterable[Any]) -> list[dict[str, Any]]:
    """Return what pyroute2 read, as JSON may have it."""
    of: dict[int, list[str]] = {}
    for message in addresses:
        # On a link between two points IFA_ADDRESS is the other one's.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if address:
            of.setdefault(message["index"], []).append(f"{address}/{message['prefixlen']}")
    told = []
    for message in links:
        info = message.get_attr("IFLA_LINKINFO")
        kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
        name = message.get_attr("IFLA_IFNAME")
        entry = {
            "index": message["index"],
            "name": (name if isinstance(name, bytes) else str(name).encode("utf-8", "surrogateescape")).hex(),
            "kind": str(kind or ""),
            "state": str(message.get_attr("IFLA_OPERSTATE") or "UNKNOWN").lower(),
            "up": bool(message["flags"] & _IFF_UP),
            "mac": str(message.get_attr("IFLA_ADDRESS") or ""),
            "addresses": of.get(message["index"], []),
        }
        if kind in PAIRED and (other := message.get_attr("IFLA_LINK")):
            entry["link"] = other
            nsid = message.get_attr("IFLA_LINK_NETNSID")
            if nsid is not None:
                entry["nsid"] = nsid
        told.append(entry)
    return told


def _numbers(wanted: set[int], way: Way, around: Around, number: Callable[[int], Any]) -> dict[int, int]:
    """Return which namespaces these numbers are, which only the namespace that we are in gives them."""
    found: dict[int, int] = {}
    for other in around.others[:MOST_ASKED]:
        if len(found) == len(wanted):
            break
        if other.inum == way.inum:
            continue
        try:
            fd = _opened(other, around.device)
        except OSError:
            continue
        try:
            answer = number(fd)
        except Exception:  # noqa: BLE001, S112 - as above: this one is not it
            continue
        finally:
            os.close(fd)
        nsid = answer.get("nsid") if isinstance(answer, dict) else None
        if nsid in wanted:
            found[nsid] = other.inum
    return found


# -- in our own process ------------------------------------------------------------------------------


def _understood(said: dict[str, Any], here: int) -> Network | str:
    """Raises ValueError, KeyError and TypeError."""
    if "why" in said:
        return str(said["why"])
    numbers = {int(nsid): int(inum) for nsid, inum in said["numbers"]}
    links = tuple(_link(entry, numbers, here) for entry in said["links"])
    return Network(int(said["cookie"]), links, bool(said["cut"]))


def _link(entry: dict[str, Any], numbers: Mapping[int, int], here: int) -> Link:
    peer = None
    if "link" in entry:
        # Without a number of its own the other end is in the same namespace.
        inum = numbers.get(int(entry["nsid"]), 0) if "nsid" in entry else here
        peer = Peer(int(entry["link"]), inum)
    return Link(
        int(entry["index"]),
        bytes.fromhex(entry["name"]),
        str(entry["kind"]),
        str(entry["state"]),
        bool(entry["up"]),
        str(entry["mac"]),
        tuple(map(str, entry["addresses"])),
        peer,
    )


def agreed(networks: Mapping[int, Network | str]) -> dict[int, Network | str]:
    """Return the same with only such namespaces of peers as do not contradict what was read there.

    Two namespaces are read one after the other: a pair may be gone, or its numbers used again, in between.
    """
    ends = {
        (inum, link.ifindex): link.peer.ifindex
        for inum, network in networks.items()
        if isinstance(network, Network)
        for link in network.links
        if link.peer is not None
    }
    found: dict[int, Network | str] = {}
    for inum, network in networks.items():
        if isinstance(network, Network):
            links = tuple(_checked(link, ends, networks) for link in network.links)
            found[inum] = network._replace(links=links)
        else:
            found[inum] = network
    return found


def _checked(link: Link, ends: Mapping[tuple[int, int], int], networks: Mapping[int, Network | str]) -> Link:
    peer = link.peer
    if peer is None or not isinstance(there := networks.get(peer.inum), Network) or there.cut:
        return link
    if ends.get((peer.inum, peer.ifindex)) == link.ifindex:
        return link
    return link._replace(peer=peer._replace(inum=0))
