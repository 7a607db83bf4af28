# SPDX-License-Identifier: Apache-2.0
"""The socket address of a SOCKADDR record, from the bytes of ``saddr=``.

Owns the layout of ``struct sockaddr_*`` of each family that has one worth naming. Never looks a name up, and
never fails: what is too short for a member lacks that member, and a family that is not known here is its name
or number alone.

The bytes are the task's own, in the byte order of the machine that made them; addresses and ports are in network
order. That machine is taken to be little-endian, as every architecture we run on is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from enricher.enrich.tables import numbers

if TYPE_CHECKING:
    from enricher.enrich.shape import FieldValue

Address = dict[str, "FieldValue"]
_Reader = Callable[[bytes, Address], None]


def _numbers(layout: str, *members: str) -> _Reader:
    """Return a reader of little-endian numbers behind the family; one that is cut off is left out."""
    fields = []
    offset = 2
    for code in layout:
        if code != "x":
            fields.append((offset, struct.Struct("<" + code)))
        offset += struct.calcsize("<" + code)

    def read(data: bytes, address: Address) -> None:
        for member, (at, form) in zip(members, fields, strict=True):
            if len(data) >= at + form.size:
                address[member] = form.unpack_from(data, at)[0]

    return read


def _text(address: Address, member: str, value: bytes) -> None:
    try:
        address[member] = value.decode()
    except UnicodeDecodeError:
        address[member] = value.decode("utf-8", "replace")
        address[member + "_hex"] = value.hex().upper()


def _local(data: bytes, address: Address) -> None:
    """``path`` of a file, or ``abstract`` for a name without one: after a NUL, all bytes up to the length."""
    name = data[2:]
    if name[:1] == b"\0":
        # The kernel's record has the length the task gave. One that gave the whole struct has NULs behind the name,
        # which then belong to it; shown are those that do not end it.
        if stripped := name[1:].rstrip(b"\0"):
            _text(address, "abstract", stripped)
    elif name:
        _text(address, "path", name.split(b"\0", 1)[0])


def _inet(data: bytes, address: Address) -> None:
    if len(data) >= 8:  # noqa: PLR2004 - family, port, address
        address["addr"] = str(IPv4Address(data[4:8]))
    if len(data) >= 4:  # noqa: PLR2004 - family, port
        address["port"] = int.from_bytes(data[2:4], "big")


def _inet6(data: bytes, address: Address) -> None:
    if len(data) >= 24:  # noqa: PLR2004 - family, port, flow label, address
        address["addr"] = str(IPv6Address(data[8:24]))
    if len(data) >= 4:  # noqa: PLR2004 - family, port
        address["port"] = int.from_bytes(data[2:4], "big")
    if len(data) >= 8 and (flow := int.from_bytes(data[4:8], "big")):  # noqa: PLR2004
        address["flowinfo"] = flow
    if len(data) >= 28 and (scope := int.from_bytes(data[24:28], "little")):  # noqa: PLR2004
        address["scope_id"] = scope


def _packet(data: bytes, address: Address) -> None:
    if len(data) >= 4:  # noqa: PLR2004 - family, protocol
        address["protocol"] = int.from_bytes(data[2:4], "big")
    _PACKET_REST(data, address)
    if len(data) >= 12 and (size := min(data[11], len(data) - 12)):  # noqa: PLR2004 - where the address begins
        address["addr"] = ":".join(f"{byte:02x}" for byte in data[12 : 12 + size])


_PACKET_REST: Final = _numbers("xxiHB", "ifindex", "hatype", "pkttype")


def _alg(data: bytes, address: Address) -> None:
    """``struct sockaddr_alg``: type in 14 bytes, two numbers, name in 64 bytes or more."""
    if len(data) >= 16:  # noqa: PLR2004
        _text(address, "type", data[2:16].split(b"\0", 1)[0])
    if len(data) > 24:  # noqa: PLR2004
        _text(address, "name", data[24:].split(b"\0", 1)[0])


_READERS: Final[dict[str, _Reader]] = {
    "local": _local,
    "inet": _inet,
    "inet6": _inet6,
    "netlink": _numbers("xxII", "pid", "groups"),
    "packet": _packet,
    "vsock": _numbers("xxII", "port", "cid"),
    "can": _numbers("xxi", "ifindex"),
    "xdp": _numbers("HIII", "flags", "ifindex", "queue", "shared_umem_fd"),
    "qipcrtr": _numbers("xxII", "node", "port"),
    "nfc": _numbers("xxIII", "device", "target", "protocol"),
    "alg": _alg,
}


def socket_address(data: bytes) -> Address | None:
    """Return ``{"fam": NAME, ..}``; None for fewer bytes than a family takes."""
    if len(data) < 2:  # noqa: PLR2004 - sa_family_t
        return None
    family = int.from_bytes(data[:2], "little")
    name = numbers.FAMILY.get(family, str(family))
    address: Address = {"fam": name}
    reader = _READERS.get(name)
    if reader:
        reader(data, address)
    return address
