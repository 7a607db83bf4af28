# SPDX-License-Identifier: Apache-2.0
"""Opening, growing and joining the multicast socket, with a protocol that is not audit's."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

import pytest

from enricher.errors import AuditUnavailable, EnricherError, MissingCapability, WrongNamespace
from enricher.sources.audit import netlink
from enricher.sources.audit import socket as audit_socket
from enricher.sources.audit.netlink import CAP_AUDIT_READ, HEADER
from enricher.sources.audit.socket import AuditSocket

USERSOCK = 2
NO_SUCH_PROTOCOL = 31  # the highest number there is; nothing in the kernel has it


class Fake:
    """A socket that grants a quarter of the buffer asked for, none by force, and refuses to join."""

    def __init__(self, refusal: int) -> None:
        self.refusal = refusal
        self.done: list[str] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if level == netlink.SOL_NETLINK:
            self.done.append(f"join {value}")
            raise OSError(self.refusal, os.strerror(self.refusal))
        if option != socket.SO_RCVBUF:
            self.done.append("force")
            raise PermissionError(errno.EPERM, "no CAP_NET_ADMIN")
        self.done.append(f"ask {value}")

    def getsockopt(self, _level: int, _option: int) -> int:
        return 4096

    def close(self) -> None:
        self.done.append("close")


def join(
    monkeypatch: pytest.MonkeyPatch, proc: Path, refusal: int, capabilities: int
) -> tuple[EnricherError, Fake]:
    fake = Fake(refusal)
    monkeypatch.setattr(audit_socket, "open_socket", lambda _protocol: fake)
    (proc / "self").mkdir()
    (proc / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities:016x}\n")
    with pytest.raises(EnricherError) as caught:
        AuditSocket(1 << 20, 8, proc=proc)
    return caught.value, fake


def test_joins_after_growing_and_closes_when_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error, fake = join(monkeypatch, tmp_path, errno.EPERM, 0)
    assert fake.done == ["force", "ask 1048576", "join 1", "close"]
    assert isinstance(error, MissingCapability)
    assert "CAP_AUDIT_READ" in error.message
    assert "CAP_AUDIT_READ" in error.hint


def test_other_capabilities_do_not_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error, _ = join(monkeypatch, tmp_path, errno.EPERM, ~(1 << CAP_AUDIT_READ) & 0x1FFFFFFFFFF)
    assert isinstance(error, MissingCapability)


def test_refused_with_the_capability_is_a_user_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error, _ = join(monkeypatch, tmp_path, errno.EPERM, 1 << CAP_AUDIT_READ)
    assert isinstance(error, WrongNamespace)
    assert "user namespace" in error.hint


@pytest.mark.parametrize(
    ("refusal", "words"), [(errno.ENOENT, "no audit netlink protocol"), (errno.EINVAL, "no multicast group")]
)
def test_no_group_to_join(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: int, words: str) -> None:
    error, _ = join(monkeypatch, tmp_path, refusal, 0)
    assert isinstance(error, AuditUnavailable)
    assert words in error.message
    assert error.hint


def test_no_such_protocol() -> None:
    with pytest.raises(AuditUnavailable) as caught:
        AuditSocket(protocol=NO_SUCH_PROTOCOL)
    assert "audit=0" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [
        (errno.EPROTONOSUPPORT, AuditUnavailable, "CONFIG_AUDIT"),
        (errno.EAFNOSUPPORT, AuditUnavailable, "RestrictAddressFamilies"),
        (errno.EACCES, MissingCapability, "security module"),
        (errno.EMFILE, AuditUnavailable, ""),
    ],
)
def test_reasons_why_no_socket_can_be_had(number: int, kind: type[EnricherError], word: str) -> None:
    error = netlink.unavailable(OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert word in error.hint


def test_a_real_one_reports_its_buffer_and_refuses_forgeries() -> None:
    try:
        sock = AuditSocket(1 << 20, 8, protocol=USERSOCK)
    except EnricherError as error:
        pytest.skip(f"joining a group needs CAP_NET_ADMIN: {error}")
    with contextlib.closing(sock), netlink.open_socket(USERSOCK) as writer:
        assert sock.receive_buffer == 2 << 20
        assert not sock.buffer_limited
        with contextlib.suppress(ConnectionRefusedError):
            writer.sendto(HEADER.pack(40, 1300, 0, 0, 0) + b"audit(1.2:3): forged=1", (0, 1))
        assert sock.receive() == []
        assert (sock.foreign, sock.received, sock.drops()) == (1, 0, 0)
