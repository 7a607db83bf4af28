# SPDX-License-Identifier: Apache-2.0
"""The control socket's other end: ask the service for its status or for births of namespaces, or follow its events.

Owns connecting, the requests and what an answer has to look like. Never shows anything, and believes neither that
the service is of the same version nor that it answers.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Final

from enricher.errors import NotRunning, UsageError
from enricher.route.language import plain
from enricher.route.views.table import escape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

ANSWER_WITHIN: Final = 10.0
"""Seconds. The service answers between two batches, which its own pauses keep at most a second apart."""
ANSWER_MAX: Final = 1 << 20
"""Bytes of an answer. Not of an event: the service made it."""
_READ: Final = 256 << 10
_HINT: Final = "`systemctl status audit-enricher` says why"


def status(path: str, group: str = "") -> dict[str, object]:
    """Return what the service at `path` says of itself. Raises NotRunning, UsageError (see `_connect`)."""
    return _answered(path, group, {"op": "status"}, None)


def births(path: str, group: str, within: float) -> dict[str, object]:
    """Return what the service at `path` says of births (see `runtime.births`). Raises as `status`."""
    return _answered(path, group, {"op": "births"}, time.monotonic() + within)


def _answered(path: str, group: str, request: dict[str, object], until: float | None) -> dict[str, object]:
    with _connect(path, group, ANSWER_WITHIN if until is None else until - time.monotonic()) as connection:
        try:
            line, _rest = _ask(connection, request, until)
        except OSError as error:
            raise _nobody(path, error) from error
    return _answer(path, line)


class Following:
    """Events as they happen, from when this is made. Raises as `status`, and UsageError for a filter that is wrong."""

    def __init__(  # noqa: PLR0913 - where, who, and what is wanted
        self,
        path: str,
        group: str,
        keys: Sequence[str],
        types: Sequence[str],
        expression: str = "",
        *,
        skip_self: bool,
    ) -> None:
        self._path = path
        self._connection = _connect(path, group)
        request = {"op": "follow", "keys": list(keys), "types": list(types), "skip_self": skip_self}
        if expression:  # a service that does not know the member refuses it
            request["filter"] = expression
        try:
            line, self._rest = _ask(self._connection, request)
            self._connection.settimeout(None)
            _answer(path, line, "following")
        except OSError as error:
            self._connection.close()
            raise _nobody(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `take` would not wait."""
        return self._connection.fileno()

    def waiting(self) -> list[bytes]:
        """Return the whole lines that are here already, without newlines: those that came with the first answer."""
        *lines, self._rest = self._rest.split(b"\n")
        return lines

    def take(self) -> list[bytes]:
        """Wait for more, and return the whole lines that came. Raises NotRunning when the service goes away."""
        try:
            data = self._connection.recv(_READ)
        except OSError:
            data = b""
        if not data:
            raise NotRunning(f"the service at {self._path} has ended", _HINT)
        self._rest += data
        return self.waiting() if b"\n" in data else []


def _connect(path: str, group: str, within: float = ANSWER_WITHIN) -> socket.socket:
    """Raises NotRunning where nobody listens, UsageError where we may not ask."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(max(within, 0.001))  # 0 would be a socket that never waits
    try:
        connection.connect(path)
    except PermissionError as error:
        connection.close()
        who = f"be root or in the group {group}" if group else "be root"
        raise UsageError(f"{path} does not admit this user", f"{who}, or see control.group") from error
    except OSError as error:
        connection.close()
        raise _nobody(path, error) from error
    return connection


def _ask(
    connection: socket.socket, request: dict[str, object], until: float | None = None
) -> tuple[bytes, bytes]:
    """Return the first line that comes back, without its newline, and what came behind it. Raises OSError.

    What is not whole by `until`, of the monotonic clock, does not come; without that, what pauses too long.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # too long for it: it says so
        connection.sendall(json.dumps(request).encode() + b"\n")
    answer = b""
    while b"\n" not in answer:
        if until is not None:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(left)
        data = connection.recv(_READ)
        if not data or len(answer) > ANSWER_MAX:
            raise ConnectionResetError
        answer += data
    line, _newline, rest = answer.partition(b"\n")
    return line, rest


def _answer(path: str, line: bytes, member: str = "") -> dict[str, object]:
    """Return the object, in which `member`, if any, has to be true. Raises UsageError for what was refused."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _strange(path)
    if "error" in answer:
        error, *drawing = str(answer["error"]).split("\n")
        # A filter's line and the caret below it keep their width.
        raise UsageError(
            "\n".join([escape(error), *map(plain, drawing[:2])]), escape(str(answer.get("hint", "")))
        )
    if member and answer.get(member) is not True:
        raise _strange(path)
    return answer


def _strange(path: str) -> NotRunning:
    return NotRunning(f"what answers on {path} is not understood", "is the service of the same version?")


def _nobody(path: str, error: OSError) -> NotRunning:
    if isinstance(error, TimeoutError | BlockingIOError):
        return NotRunning(f"the service at {path} does not answer", _HINT)
    if isinstance(error, ConnectionResetError):
        return NotRunning(f"the service at {path} ended before it answered", _HINT)
    return NotRunning(f"no service answers on {path}", _HINT)
