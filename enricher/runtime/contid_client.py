# SPDX-License-Identifier: Apache-2.0
"""The other end of the container identifiers' socket: set, get, list, grant.

Owns connecting, the pidfd of the target, and what an answer has to look like. Never shows anything, and never decides
whether a failure matters. The OCI hook does the same without this package.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Final

from enricher.errors import ContidRefused, NotRunning, UsageError
from enricher.route.views.table import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_WITHIN: Final = 10.0
"""Seconds. The service answers between two batches."""
ANSWER_MAX: Final = 4 << 20
_OFF: Final = (
    "set contid.enabled and restart the service; contid.md among the documents says what else it needs"
)


def ask(path: str, request: Mapping[str, object], target: int = -1) -> dict[str, object]:
    """Send a request, with the pidfd of its target; returns the answer.

    Raises NotRunning where nobody listens, UsageError where this user may not connect, ContidRefused for an error.
    """
    with _connected(path) as connection:
        try:
            nonce = _line(connection).get("nonce")
            line = json.dumps({**request, "nonce": nonce}).encode() + b"\n"
            if target >= 0:
                socket.send_fds(connection, [line], [target])
            else:
                connection.sendall(line)
            answer = _line(connection)
        except (OSError, ValueError) as error:
            raise NotRunning(
                f"the service at {path} does not answer", "`systemctl status audit-enricher`"
            ) from error
    if "error" in answer:
        words = f"{answer.get('text', '')} ({answer['error']})"
        raise ContidRefused(escape(words), escape(str(answer.get("hint", ""))), str(answer["error"]))
    if answer.get("ok") is not True:
        raise NotRunning(f"what answers on {path} is not understood", "is the service of the same version?")
    return answer


def open_target(pid: int) -> int:
    """Return a pidfd. Raises ContidRefused where there is no such process."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise ContidRefused(f"process {pid}: {error.strerror}", "", "ESRCH") from error


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_WITHIN)
    try:
        connection.connect(path)
    except PermissionError as error:
        connection.close()
        raise UsageError(f"{path} does not admit this user", "be root, or see contid.group") from error
    except OSError as error:
        connection.close()
        raise NotRunning(f"contid is off: nobody listens on {path}", _OFF) from error
    return connection


def _line(connection: socket.socket) -> dict[str, object]:
    """Return the next line, an object. Raises OSError, ValueError."""
    received = b""
    while not received.endswith(b"\n"):
        data = connection.recv(65536)
        if not data or len(received) > ANSWER_MAX:
            raise ConnectionResetError
        received += data
    said = json.loads(received)
    if not isinstance(said, dict):
        raise ValueError  # noqa: TRY004 - as for what is no JSON
    return said
