# SPDX-License-Identifier: Apache-2.0
"""Sockets that the service listens on: who may connect, what is replaced, and what comes of a want of descriptors.

Owns a listening socket, its file and its mode. Never reads or writes what is said through a connection, never waits.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
from pathlib import Path
from typing import Final

from enricher.errors import UsageError
from enricher.sinks.socketfile import clear

_BACKLOG: Final = 32


class Listener:
    """Takes connections; all are without blocking. ``advice`` is "" or one sentence for the operator.

    ``unaccepted`` counts connections for which there was no descriptor.
    """

    def __init__(self, listening: socket.socket, path: str = "", advice: str = "") -> None:
        self._socket = listening
        self._path = path
        self.advice = advice
        self.unaccepted = 0
        if path:
            made = os.lstat(path)
            self._inode = (made.st_dev, made.st_ino)
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when somebody wants to connect."""
        return self._socket.fileno()

    @property
    def port(self) -> int:
        """The port of a TCP socket."""
        return int(self._socket.getsockname()[1])

    def accept(self) -> socket.socket | None:
        """Return the next connection, None where there is none."""
        try:
            connection, _address = self._socket.accept()
        except BlockingIOError:
            return None
        except OSError:
            self._turn_off()
            return None
        connection.settimeout(0)
        return connection

    def _turn_off(self) -> None:
        """End a connection for which there is no descriptor: left where it is it would wake us for ever."""
        self.unaccepted += 1
        with contextlib.suppress(OSError):
            os.close(self._spare)
            self._spare = -1
            self._socket.accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Stop listening, and remove the socket's file if it is still ours."""
        self._socket.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        if self._path:
            with contextlib.suppress(OSError):
                found = os.lstat(self._path)
                if (found.st_dev, found.st_ino) == self._inode:
                    Path(self._path).unlink()


def listen_unix(path: str, group: str, section: str) -> Listener:
    """Listen at this path, for the process's user and the group, "" for its own; `section` is that of its settings.

    The socket of a service that is gone is replaced. Raises UsageError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        clear(
            path,
            UsageError(
                f"cannot make the {section} socket {path}: something else is there",
                f"move it away, or set {section}.socket to another path",
            ),
            UsageError(
                f"another service answers on {path}",
                f"stop it first, or set {section}.socket to another path",
            ),
        )
        os.fchmod(listener.fileno(), 0o600)  # which the file inherits: at no time may more connect
        listener.bind(path)
        advice = _admit(path, group)
        listener.listen(_BACKLOG)
        return Listener(listener, path, advice)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot make the {section} socket {path}: {error.strerror or error}",
            f"its directory must exist and admit the service: see {section}.socket",
        ) from error
    except UsageError:
        listener.close()
        raise


def listen_loopback(port: int, section: str) -> list[Listener]:
    """Listen at 127.0.0.1, and at ::1 where the host has it. Raises UsageError."""
    found = [_listen_tcp(socket.AF_INET, "127.0.0.1", port, section)]
    try:
        found.append(_listen_tcp(socket.AF_INET6, "::1", port, section))
    except UsageError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            found[0].close()
            raise
    return found


def _listen_tcp(family: int, address: str, port: int, section: str) -> Listener:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a restart, at once
            listener.bind((address, port))
            listener.listen(_BACKLOG)
            return Listener(listener)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        hint = "another program has it: see {}.port"
        if error.errno in {errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES}:
            hint = "the unit lets the service use no TCP, and no port below 1024: see {}.port"
        raise UsageError(
            f"cannot listen on port {port} of {address}: {error.strerror or error}", hint.format(section)
        ) from error


def _admit(path: str, group: str) -> str:
    """Open the socket to the group, "" for the process's own; where that cannot be, return a sentence."""
    try:
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid, follow_symlinks=False)
        Path(path).chmod(0o660)
    except KeyError:
        return f"there is no group {group}: the service's user and root alone can use {path}"
    except OSError as error:
        return (
            f"{path} cannot be given to the group {group}: {error.strerror}; the service's user and root alone"
            " can use it"
        )
    return ""
