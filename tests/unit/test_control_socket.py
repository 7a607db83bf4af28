# SPDX-License-Identifier: Apache-2.0
"""The control socket's file: who may connect, what is replaced and what is left alone."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enricher.errors import UsageError
from enricher.runtime.control import ControlServer
from tests.unit.fake_control import answer

STATUS: dict[str, object] = {"version": "1"}
GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    made = ControlServer(str(tmp_path / "sock"), "", lambda: STATUS)
    yield made
    made.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177])
def test_owner_and_group_may_connect(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "sock"
    before = os.umask(umask)
    try:
        server = ControlServer(str(path), GROUP, lambda: STATUS)
    finally:
        os.umask(before)
    found = path.lstat()
    assert (stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, 0o660)
    assert (found.st_uid, found.st_gid, server.advice) == (os.geteuid(), os.getegid(), "")
    server.close()
    assert not path.exists()
    server.close()


def test_before_the_group_is_set_nobody_else_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def chown(path: str, _uid: int, _gid: int, **_: object) -> None:
        seen.append(stat.S_IMODE(os.lstat(path).st_mode))

    monkeypatch.setattr(os, "chown", chown)
    before = os.umask(0)
    try:
        ControlServer(str(tmp_path / "sock"), GROUP, lambda: STATUS).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


@pytest.mark.parametrize(
    ("group", "why"), [("no-such-group", "no group"), (GROUP, "Operation not permitted")]
)
def test_without_its_group_it_is_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, why: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refused)
    server = ControlServer(str(tmp_path / "sock"), group, lambda: STATUS)
    assert stat.S_IMODE((tmp_path / "sock").stat().st_mode) == 0o600
    assert why in server.advice
    assert group in server.advice
    assert answer(server, b'{"op":"status"}\n') == STATUS
    server.close()


def test_the_socket_of_a_dead_service_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    server = ControlServer(str(path), "", lambda: STATUS)
    assert answer(server, b'{"op":"status"}\n') == STATUS
    server.close()


def test_a_living_service_is_left_alone(server: ControlServer) -> None:
    with pytest.raises(UsageError) as caught:
        ControlServer(server._path, "", dict)
    assert "another service answers" in caught.value.message
    assert caught.value.hint
    assert answer(server, b'{"op":"status"}\n') == STATUS


def test_a_service_too_busy_to_be_asked_lives(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(UsageError, match="another service"):
            ControlServer(str(path), "", dict)


def a_file(path: Path) -> None:
    path.write_bytes(b"precious")


def a_link(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


def a_datagram_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(UsageError):
            ControlServer(str(path), "", dict)
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("there", [a_file, a_link, Path.mkdir, a_datagram_socket])
def test_anything_else_is_left_alone(tmp_path: Path, there: Callable[[Path], None]) -> None:
    path = tmp_path / "sock"
    there(path)
    before = path.lstat()
    with pytest.raises(UsageError) as caught:
        ControlServer(str(path), "", dict)
    assert "sock" in caught.value.message
    assert caught.value.hint
    assert path.lstat() == before
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["no/sock", "x" * 120])
def test_where_it_cannot_be_it_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        ControlServer(str(tmp_path / name), "", dict)
    assert caught.value.hint


def test_another_ones_socket_is_not_removed(server: ControlServer) -> None:
    Path(server._path).unlink()
    successor = ControlServer(server._path, "", lambda: STATUS)
    server.close()
    assert answer(successor, b'{"op":"status"}\n') == STATUS
    successor.close()
